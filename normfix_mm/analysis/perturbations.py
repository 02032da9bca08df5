"""Other networks made of a given one, for the time of a measurement: see `invariance`."""

import math
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from normfix_mm.layers.plain import is_normalized
from normfix_mm.optim.weights import NORMS, weights_of

# Of a channel without variance rounding leaves some (1e-13 where its value is 5), or the mean is
# off by a rounding. An eps of that size would let its scale show: then another one does not.
TINY_EPS = (1e-12, 1e-9, 1e-20)


def norms_with_eps(model: nn.Module) -> list[tuple[Any, float | None]]:
    """What normalizes activations, and its eps; layers that torch lacks are known by their name.

    None is the eps of an RMSNorm that takes the dtype's.
    """
    modules: list[Any] = [m for m in model.modules() if not is_normalized(m) and hasattr(m, "eps")]
    known = [m for m in modules if isinstance(m, NORMS)]
    named = [m for m in modules if m not in known and "norm" in type(m).__name__.lower()]
    return [(m, m.eps) for m in [*known, *(m for m in named if isinstance(m.eps, float))]]


@contextmanager
def tiny_eps(model: nn.Module, tiny: float) -> Iterator[None]:
    """Norms whose eps is next to nothing, for the time of the block."""
    norms = norms_with_eps(model)
    for norm, _ in norms:
        norm.eps = tiny
    try:
        yield
    finally:
        for norm, eps in norms:
            norm.eps = eps


def revive(model: nn.Module) -> None:
    """Replace weights that are zero, which hide themselves and all that lies before them.

    A zero convolution gets a random direction; a zero norm weight (`zero_init_residual`), gain or
    scalar becomes 1. Biases stay.
    """
    generator = torch.Generator().manual_seed(0)
    for info in weights_of(model):
        param = info.param.data
        if info.name.endswith("bias") or param.numel() == 0 or param.any():
            continue
        if info.kind in ("norm", "gain") or param.dim() == 0:
            param.fill_(1.0)
        else:
            fan_in = param[0].numel()
            param.copy_(torch.randn(param.shape, generator=generator) / math.sqrt(fan_in))


def perturb(model: nn.Module, but: Container[str]) -> None:
    """Perturb the network: norm weights, gains and biases that are not judged change at random."""
    generator = torch.Generator().manual_seed(1)
    for info in weights_of(model):
        param = info.param.data
        if info.name in but or info.kind not in ("norm", "gain", "bias"):
            continue
        noise = torch.randn(param.shape, generator=generator).to(param)
        param.mul_((0.5 * noise).exp())
        if info.kind == "bias" or info.name.endswith("bias"):  # of a norm
            param.add_(0.1 * noise)
