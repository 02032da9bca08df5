"""The normalizations as operators of torch, one a direction: what torch.compile and export see.

    torch.ops.normfix_mm.standardize(weight, eps)                 and three more
    torch.ops.normfix_mm.standardize_backward(grad, weight, …)

The kernels are chosen by the weight's device; they see rows, weights are cut and joined here. The
backward operators have no derivative: a second one is taken of `formulas`, in `layers.functional`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from normfix_mm.kernels import cpu, portable
from normfix_mm.kernels.rows import as_gradient, as_rows, as_weight, memory_format

STATISTICS = "Tensor mean, Tensor rstd"
FORWARD = {
    "standardize": "(Tensor weight, float eps) -> (Tensor, Tensor, Tensor)",
    "center_normalize": "(Tensor weight) -> (Tensor, Tensor, Tensor)",
    "normalize": "(Tensor weight, Tensor? gain) -> (Tensor, Tensor)",
    "normalize_layer": "(Tensor weight, Tensor? gain) -> (Tensor, Tensor)",
}
BACKWARD = {
    "standardize_backward": f"(Tensor grad, Tensor weight, float eps, {STATISTICS}) -> Tensor",
    "center_normalize_backward": f"(Tensor grad, Tensor weight, {STATISTICS}) -> Tensor",
    "normalize_backward": "(Tensor grad, Tensor weight, Tensor? gain, Tensor norm)"
    " -> (Tensor, Tensor)",
    "normalize_layer_backward": "(Tensor grad, Tensor weight, Tensor? gain, Tensor norm)"
    " -> (Tensor, Tensor)",
}
library = torch.library.Library("normfix_mm", "FRAGMENT")


def _forward(kernel: Callable) -> Callable:
    """From (rows, …) -> (rows, statistics…) to weights."""

    def run(weight: Tensor, *others) -> tuple[Tensor, ...]:
        order = memory_format(weight)
        rows = as_rows(weight, order)
        out, *statistics = kernel(rows, *_wide(others, rows))
        return as_weight(out, weight, order), *statistics

    return run


def _backward(kernel: Callable) -> Callable:
    """From (gradient, rows, …) -> rows' gradient, or this and the gain's, to weights."""

    def run(grad: Tensor, weight: Tensor, *others) -> Tensor | tuple[Tensor, Tensor]:
        order = memory_format(weight)
        rows = as_rows(weight, order)
        out = kernel(as_rows(grad, order), rows, *_wide(others, rows))
        if isinstance(out, Tensor):
            return as_gradient(out, weight, order)
        gain, radial = others[0], out[1]
        radial = radial if gain is None else as_gradient(radial, gain, torch.contiguous_format)
        return as_gradient(out[0], weight, order), radial

    return run


def _forward_fake(name: str) -> Callable:
    def run(weight: Tensor, *others) -> tuple[Tensor, ...]:
        out = torch.empty_like(weight, memory_format=memory_format(weight))
        length = 1 if "layer" in name else len(weight)
        statistics = FORWARD[name].partition("->")[2].count("Tensor") - 1
        return out, *(_statistic(weight, length) for _ in range(statistics))

    return run


def _backward_fake(name: str) -> Callable:
    def run(grad: Tensor, weight: Tensor, *others) -> Tensor | tuple[Tensor, Tensor]:
        out = torch.empty_like(weight, memory_format=memory_format(weight))
        if BACKWARD[name].endswith("-> Tensor"):
            return out
        gain = others[0]
        if gain is not None:
            return out, torch.empty_like(gain)
        return out, _statistic(weight, 1 if "layer" in name else len(weight))

    return run


def _statistic(weight: Tensor, length: int) -> Tensor:
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return weight.new_empty(length, dtype=wide)


def _wide(others: tuple, rows: Tensor) -> list:
    return [other.to(rows.dtype) if isinstance(other, Tensor) else other for other in others]


def _on_cuda(name: str) -> Callable:
    """The kernel in Triton; by torch's own operators where Triton is absent or cannot compile."""
    here: list[Callable] = []

    def run(*args):
        if not here:
            here.append(getattr(_triton_rows() or portable, name))
            try:
                return here[0](*args)
            except Exception as error:  # no C compiler, a GPU that Triton does not know, …
                if here[0] is getattr(portable, name):
                    raise
                warnings.warn(
                    f"{name}: Triton fails, slower kernels instead: {error}", stacklevel=2
                )
                here[0] = getattr(portable, name)
        return here[0](*args)

    return run


def _triton_rows() -> ModuleType | None:
    try:
        from normfix_mm.kernels import triton_rows
    except ImportError:
        return None
    return triton_rows


for _schemas, _on_weights, _fake in (
    (FORWARD, _forward, _forward_fake),
    (BACKWARD, _backward, _backward_fake),
):
    for _name, _schema in _schemas.items():
        library.define(_name + _schema)
        library.impl(_name, _on_weights(getattr(cpu, _name)), "CPU")
        library.impl(_name, _on_weights(_on_cuda(_name)), "CUDA")
        library.impl(_name, _on_weights(getattr(portable, _name)), "CompositeExplicitAutograd")
        library.impl(_name, _fake(_name), "Meta")
