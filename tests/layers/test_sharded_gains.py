"""Gains of a model that FSDP2 shards, in one process and in two; trained without our treatments."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed.fsdp

if not hasattr(torch.distributed.fsdp, "fully_shard"):
    pytest.skip(f"torch 2.6 brought it here, this is {torch.__version__}", allow_module_level=True)

from engine.two_ranks import two_ranks
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from normfix_mm import FixNormConv2d, WNConv2d, WNLinear, reset_gains
from normfix_mm.layers.gain import gained_layers

pytestmark = pytest.mark.slow
IMAGES = torch.randn(4, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def network(device="cpu"):
    """With gains that cannot be shared evenly among two ranks."""
    torch.manual_seed(0)
    with torch.device(device):
        conv, classifier = WNConv2d(4, 7, 3), FixNormConv2d(7, 6, 1, alpha=9.0)
        return nn.Sequential(conv, nn.ReLU(), classifier, nn.Flatten(), WNLinear(96, 4))


def stock():
    torch.manual_seed(1)
    conv, classifier = nn.Conv2d(4, 7, 3), nn.Conv2d(7, 6, 1)
    return nn.Sequential(conv, nn.ReLU(), classifier, nn.Flatten(), nn.Linear(96, 4))


def shard(model):
    return fully_shard(model, mesh=init_device_mesh("cpu", (distributed.get_world_size(),)))


def initialize(model):
    for layer in gained_layers(model).values():
        nn.init.constant_(layer.weight, 0.3)
        nn.init.constant_(layer.bias, 0.1)


def whole(model):
    return {k: p.detach().full_tensor().clone() for k, p in model.named_parameters()}


def train(model, steps=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(IMAGES).square().mean().backward()
        optimizer.step()
    return model


def refusal(model):
    try:
        train(model)
    except RuntimeError as error:
        return str(error)
    return "trained"


def trained_alike():
    plain = dict(train(network()).named_parameters())
    return [(p, plain[k].detach()) for k, p in whole(train(shard(network()))).items()]


def initialized_late():
    """What a step says, and the gains of a model in which they are set as it says."""
    model, other = shard(network()), shard(network())
    initialize(model), initialize(other)
    reset_gains(other)
    return refusal(model), whole(other), refusal(other)


def made_on_meta(how):
    model = shard(network("meta"))
    model.to_empty(device="cpu")
    if how == "by hand":
        initialize(model)
        return refusal(model), None
    for layer in gained_layers(model).values():
        layer.reset_parameters()
    values = whole(model)
    return refusal(model), values


def stock_weights():
    model, plain = shard(network()), stock()
    options = StateDictOptions(full_state_dict=True)
    set_model_state_dict(model, plain.state_dict(), options=options)
    return model(IMAGES).detach(), plain(IMAGES).detach()


if __name__ == "__main__":
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = dict(
        alike=trained_alike(),
        late=initialized_late(),
        meta={how: made_on_meta(how) for how in ("by hand", "reset_parameters")},
        stock=stock_weights(),
    )
    torch.save(found, Path(sys.argv[1]) / f"rank{distributed.get_rank()}.pth")
    distributed.destroy_process_group()


@pytest.fixture(scope="module", params=[1, 2])
def found(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    done = two_ranks(Path(__file__), folder, ranks=request.param)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{r}.pth") for r in range(request.param)]


def assert_are_norms(values):
    for name, g in values.items():
        if name.endswith(".g"):
            rows = values[name[:-1] + "weight"].reshape(len(g), -1)
            torch.testing.assert_close(g, rows.norm(dim=1))


def test_it_trains_as_the_whole_model(found):
    for rank in found:
        for sharded, plain in rank["alike"]:
            torch.testing.assert_close(sharded, plain)


def test_weights_initialized_late_are_one_sentence_whose_remedy_helps(found):
    for rank in found:
        said, values, then = rank["late"]
        assert "reset_gains" in said and then == "trained"
        assert_are_norms(values)


def test_a_model_made_on_meta(found):
    for rank in found:
        assert "reset_gains" in rank["meta"]["by hand"][0]
        said, values = rank["meta"]["reset_parameters"]
        assert said == "trained"
        assert_are_norms(values)


def test_stock_weights_keep_the_function(found):
    for rank in found:
        torch.testing.assert_close(*rank["stock"])
