"""What a model returned, as numbers to compare: nested losses in, one relative change out."""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def tensors(outputs: object) -> list[Tensor]:
    """The floating-point tensors of nested outputs, in order."""
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    if isinstance(outputs, Mapping):
        outputs = outputs.values()
    elif not isinstance(outputs, (list, tuple)):
        return []
    return [tensor for item in outputs for tensor in tensors(item)]


def projection(outputs: list[Tensor]) -> Tensor:
    """One number in which every output counts by its relative change.

    Each value has its own random coefficient: a plain sum over the values behind a norm is
    constant and would hide everything.
    """
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros((), dtype=torch.float64)
    for out in outputs:
        norm = out.detach().double().norm()
        if out.requires_grad and norm.isfinite() and norm > 0:
            coefficient = torch.rand(out.shape, generator=generator, dtype=torch.float64) + 0.5
            coefficient *= torch.randn(out.shape, generator=generator, dtype=torch.float64).sign()
            total = total + (coefficient.to(out.device) * out / norm).sum().cpu()
    if not total.requires_grad:
        raise ValueError(
            "run(model) returned no finite, non-zero tensor that depends on the weights, so "
            "nothing can be measured; return the losses of an ordinary batch, not detached."
        )
    return total


def relative_change(outputs: list[Tensor], before: list[Tensor]) -> float:
    """Largest ||a - b|| / ||b|| over the outputs; inf if one changed shape or is not finite."""
    if [o.shape for o in outputs] != [b.shape for b in before]:
        return math.inf
    largest = 0.0
    for out, base in zip(outputs, before, strict=True):
        out, base = out.detach().double(), base.double()
        if base.isfinite().all() and base.any():
            change = float((out - base).norm() / base.norm())
            largest = max(largest, change if math.isfinite(change) else math.inf)
    return largest


def worst_of_ranks(values: list[float]) -> list[float]:
    """The largest over all ranks, so that each rank draws the same conclusion."""
    values = [math.inf if math.isnan(v) else v for v in values]
    return _over_ranks(values, dist.ReduceOp.MAX) if _ranks() > 1 else values


def mean_of_ranks(values: list[float]) -> list[float]:
    """The mean over all ranks."""
    ranks = _ranks()
    return [v / ranks for v in _over_ranks(values, dist.ReduceOp.SUM)] if ranks > 1 else values


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _over_ranks(values: list[float], op: Any) -> list[float]:
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(shared, op=op)
    return shared.tolist()
