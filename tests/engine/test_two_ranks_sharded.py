"""Sharded parameters and optimizers, and norms over all ranks, in two processes on the CPU."""

import sys
from pathlib import Path

import pytest
import torch
from engine.two_ranks import two_ranks
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer

from normfix_mm import EpsShift, NormFix, WSConv2d, find_scale_variant

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SHARDINGS = {
    "FSDP1": lambda m: FullyShardedDataParallel(m, use_orig_params=True, device_id=CPU),
    "FSDP1 flat": lambda m: FullyShardedDataParallel(m, use_orig_params=False, device_id=CPU),
    "FSDP1 inside": lambda m: SHARDINGS["FSDP1"](m).module,
    "FSDP1 flat inside": lambda m: SHARDINGS["FSDP1 flat"](m).module,
    "FSDP2": lambda m: fully_shard(m, mesh=init_device_mesh("cpu", (2,))),
}
METHODS = {"NormFix": NormFix, "EpsShift": EpsShift}
INNER = {
    "SGD": dict(lr=0.1, momentum=0.9),
    "AdamW": dict(lr=0.01, weight_decay=0.0),
    "Adafactor": dict(lr=0.01, weight_decay=0.0),
}


class AllRanks(torch.autograd.Function):
    """The sum over all ranks, of values and of gradients."""

    @staticmethod
    def forward(ctx, x):
        x = x.clone()
        distributed.all_reduce(x)
        return x

    backward = forward


class SyncBN(nn.BatchNorm2d):
    """nn.SyncBatchNorm's formula over gloo; its own kernels exist for GPUs only."""

    def forward(self, x):
        count = distributed.get_world_size() * x[:, 0].numel()
        mean = AllRanks.apply(x.sum((0, 2, 3), keepdim=True)) / count
        x = x - mean
        x = x * (AllRanks.apply(x.square().sum((0, 2, 3), keepdim=True)) / count + self.eps).rsqrt()
        return x * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)


def small(norm=nn.BatchNorm2d, depth=1):
    """A plain convolution at the end, all others with a norm behind them."""
    torch.manual_seed(0)
    layers = [WSConv2d(3, 8, 3, padding=1), norm(8), nn.ReLU()]
    for _ in range(depth):
        layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), norm(8), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(8, 2, 1))


def pictures(rank):
    return (
        torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(rank)) * (1 + rank) + rank
    )


def step(model, optimizer, rank=0):
    optimizer.zero_grad()
    model(pictures(rank)).square().mean().backward()
    optimizer.step()


def refusal(shard, method, first):
    """What it says when the method is attached before or after the model is sharded."""
    model = small()
    try:
        if first == "method":
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            METHODS[method](optimizer, model)
            model = shard(model)
            optimizer.step()
        else:
            model = shard(model)
            METHODS[method](torch.optim.SGD(model.parameters(), lr=0.1), model)
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "accepted"


def trained(method, kind, sharded):
    """Weights after three steps under DDP, with the optimizer's state sharded or not."""
    rank = distributed.get_rank()
    model = small()
    options = INNER[kind]
    if sharded:
        options = options | dict(optimizer_class=getattr(torch.optim, kind))
    make = ZeroRedundancyOptimizer if sharded else getattr(torch.optim, kind)
    wrapped = nn.parallel.DistributedDataParallel(model)
    optimizer = make(model.parameters(), **options)
    METHODS[method](optimizer, model, **(dict(lam=0.5, eps=0.1) if method == "EpsShift" else {}))
    for _ in range(3):
        step(wrapped, optimizer, rank)
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def synced():
    """SyncBN as one rank's BN over the whole batch, and the verdict on a model full of it."""
    rank = distributed.get_rank()
    model, whole = small(SyncBN), small()
    model(pictures(rank)).square().mean().backward()
    whole(torch.cat([pictures(0), pictures(1)])).square().mean().backward()
    pairs = []
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        distributed.all_reduce(one.grad)
        pairs.append((one.grad / 2, other.grad))
    deep = small(SyncBN, depth=24)
    return pairs, find_scale_variant(deep, lambda m: m(pictures(rank)).square().mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    orders = ("sharding", "method")
    found = dict(
        refused={
            (s, m, f): refusal(SHARDINGS[s], m, f)
            for s in SHARDINGS
            for m in METHODS
            for f in orders
        },
        zero={(m, k): [trained(m, k, z) for z in (True, False)] for m in METHODS for k in INNER},
        synced=synced(),
    )
    torch.save(found, Path(sys.argv[1]) / f"rank{distributed.get_rank()}.pth")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("sharded")
    done = two_ranks(Path(__file__), work_dir)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(work_dir / f"rank{r}.pth", weights_only=False) for r in (0, 1)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_a_sharded_model_is_refused_on_every_rank(ranks, sharding, method):
    for rank in ranks:
        before = rank["refused"][sharding, method, "sharding"]
        since = rank["refused"][sharding, method, "method"]
        assert before.startswith(f"{method} needs whole weights") and "Distributed" in before
        assert since.startswith(f"{method}: 0.weight was sharded or replaced after")


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("method", METHODS)
def test_a_sharded_optimizer_trains_the_same_weights(ranks, method, inner):
    """AdamW and Adafactor decay decoupled also where ZeroRedundancyOptimizer hides them."""
    (sharded, plain), (other, _) = (rank["zero"][method, inner] for rank in ranks)
    assert torch.equal(sharded, plain) and torch.equal(sharded, other)


def test_weights_before_syncbn_are_scale_invariant(ranks):
    """Of all ranks together: the slope along a weight is 0 in the sum of their losses only."""
    for pairs, variant in (rank["synced"] for rank in ranks):
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        assert list(variant) == ["75.weight"]
    assert ranks[0]["synced"][1] == ranks[1]["synced"][1]
