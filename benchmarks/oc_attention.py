"""Base-OC's attention, without a map of pixels × pixels and with it: time and peak memory.

    PYTHONPATH=. python benchmarks/oc_attention.py [--train 97x97] [--test 129x257] [--device cuda]

Three forms of one block (512 channels, keys and values 256) with the same weights: ObjectContext,
the same with the explicit softmax, and MMSegmentation's SelfAttentionBlock. Sizes are those of the
paper: a training step on the features of a crop of 769², a forward pass on those of 1024×2048. The
explicit forms need some 10 GB of memory for the latter.
"""

import argparse
from functools import partial
from statistics import median

import torch
from memory import measured, return_freed_memory
from mmcv.cnn import ConvModule
from mmseg.models.utils import SelfAttentionBlock
from timing import machine

from normfix_mm.segmentation import ObjectContext

NORMED = dict(norm_cfg=dict(type="BN"), act_cfg=dict(type="LeakyReLU", negative_slope=0.01))
CHANNELS, KEYS = 512, 256


class ExplicitContext(ObjectContext):
    """ObjectContext as the authors compute it."""

    def forward(self, x):
        key, value = self.f_key(x).flatten(2), self.f_value(x).flatten(2)
        weights = (key.mT @ key * key.shape[1] ** -0.5).softmax(-1)
        context = (weights @ value.mT).mT
        return self.W(context.reshape(len(x), -1, *x.shape[2:]))


class StockContext(SelfAttentionBlock):
    """SelfAttentionBlock in Base-OC's widths, of one input."""

    def __init__(self):
        super().__init__(
            key_in_channels=CHANNELS,
            query_in_channels=CHANNELS,
            channels=KEYS,
            out_channels=CHANNELS,
            share_key_query=True,
            query_downsample=None,
            key_downsample=None,
            key_query_num_convs=1,
            value_out_num_convs=1,
            key_query_norm=True,
            value_out_norm=False,
            matmul_norm=True,
            with_out=True,
            conv_cfg=None,
            **NORMED,
        )

    def forward(self, x):
        return super().forward(x, x)


def blocks() -> dict[str, torch.nn.Module]:
    """The three forms, with equal weights."""
    layer = partial(ConvModule, **NORMED)
    lean = ObjectContext(CHANNELS, KEYS, KEYS, layer)
    torch.nn.init.normal_(lean.W.weight, 0, 0.05)
    explicit = ExplicitContext(CHANNELS, KEYS, KEYS, layer)
    explicit.load_state_dict(lean.state_dict())
    stock = StockContext()
    stock.key_project.load_state_dict(lean.f_key.state_dict())
    stock.value_project.load_state_dict(lean.f_value.state_dict())
    stock.out_project.load_state_dict(lean.W.state_dict())
    return {"ObjectContext": lean, "explicit": explicit, "SelfAttentionBlock": stock}


def train(block: torch.nn.Module, x: torch.Tensor) -> None:
    block(x).square().mean().backward()


@torch.no_grad()
def test(block: torch.nn.Module, x: torch.Tensor) -> None:
    block(x)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", default="97x97", help="features of a training step")
    parser.add_argument("--test", default="129x257", help="features of a forward pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    if args.device == "cpu":
        return_freed_memory()
    print(f"{machine(args.device)}; medians of {args.repeats}; one image\n")
    print("| | pixels | form | s | / ObjectContext | peak MB |\n|---|---|---|---|---|---|")
    forms = {name: block.to(args.device) for name, block in blocks().items()}
    for step, size in ((train, args.train), (test, args.test)):
        x = torch.randn(1, CHANNELS, *map(int, size.split("x")), device=args.device)
        small = x[..., :32, :32].contiguous()
        outputs = [block(small) for block in forms.values()]
        assert all(torch.allclose(y, outputs[0], rtol=1e-4, atol=1e-5) for y in outputs)
        for block in forms.values():
            block.train(step is train)
            step(block, small)  # kernels load, gradients get their place
        runs = {name: [] for name in forms}
        for _ in range(args.repeats):  # in turn, so that drift hits all alike
            for name, block in forms.items():
                runs[name].append(measured(partial(step, block, x), args.device))
        seconds = {name: median(s for s, _ in each) for name, each in runs.items()}
        for name, each in runs.items():
            ratio, peak = seconds[name] / seconds["ObjectContext"], max(mb for _, mb in each)
            row = f"| {name} | {seconds[name]:.2f} | {ratio:.2f} | {peak:.0f} |"
            print(f"| {step.__name__} | {size} {row}", flush=True)


if __name__ == "__main__":
    main()
