"""The ε-shift's edits, filter by filter, at the speed of memory.

Each edit is the weight and its direction, one number times each for a whole layer:

    WS   λ [w − ε √((n−1)/n) x]     with x = (w − μ)/σ, biased σ, as the group-norm kernel gives it
    CWN  λ [w − ε x/√n]
    WN   λ (1 − ε/‖w‖) w

The direction of a filter that has none (zero, constant, one element) is zero: it gets plain L2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from normfix_mm.kernels.rows import standardized_rows
from normfix_mm.kernels.scalars import on_device

# Elements of one piece: weight, direction and target stay in a CPU's caches between kernels.
PIECE = 1 << 19
HALF = (torch.float16, torch.bfloat16)


def add_edits(
    weights: Sequence[Tensor],
    targets: Sequence[Tensor],
    forms: Sequence[str],
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> None:
    """target += Π factors · edit(weight), filter by filter.

    Args:
        weights: shape (F, ...).
        targets: gradients or the weights themselves, shapes as the weights'.
        forms: how each weight is normalized: 'WS', 'WN', 'CWN' or 'AWS' (as WS).
        factors: numbers or 0-dim tensors (a scheduled lr, an AMP scale), never read on the host.
    """
    number = lam * math.prod(f for f in factors if not isinstance(f, Tensor))
    tensors = [f for f in factors if isinstance(f, Tensor)]
    for whole, target, form in zip(weights, targets, forms):
        if not whole.numel():
            continue
        weight, out, copied = as_rows(whole.detach(), target)
        scale: float | Tensor = number
        for tensor in tensors:
            scale = scale * on_device(tensor, weight.device)
        for rows, part in pieces(weight, out):
            _add_edit(rows, part, form, eps, scale)
        if copied:
            target.add_(out.view(target.shape))


def _add_edit(rows: Tensor, out: Tensor, form: str, eps: float, scale: float | Tensor) -> None:
    n = rows.shape[1]
    if form == "WN":
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        ratio = torch.where(norm > torch.finfo(norm.dtype).tiny, eps / norm, 0.0)
        out.addcmul_(rows, (1 - ratio) * scale)
        return
    shift = eps * (n**-0.5 if form == "CWN" else ((n - 1) / n) ** 0.5)
    direction, _, _ = standardized_rows(rows)
    if isinstance(scale, Tensor):
        out.add_(direction.mul_(-shift).add_(rows).mul_(scale))
    else:
        out.add_(rows, alpha=scale)
        out.add_(direction, alpha=-shift * scale)


def as_rows(weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Both as (F, n) with elements in the same order, float32 or float64.

    Returns:
        weight, target, copied. They are views where the memory allows it (contiguous,
        channels_last). Where it does not, `copied` is True: the target is then a buffer of zeros,
        which the caller must add to the real one.
    """
    order = list(range(weight.dim()))
    if weight.stride() == target.stride():
        # Statistics do not mind the order inside a filter: take the one in memory.
        order[1:] = sorted(order[1:], key=weight.stride, reverse=True)
    rows, out = weight.permute(order), target.permute(order)
    if rows.is_contiguous() and out.is_contiguous() and weight.dtype not in HALF:
        return rows.flatten(1), out.flatten(1), False
    rows = weight.reshape(len(weight), -1)
    rows = rows.float() if rows.dtype in HALF else rows
    return rows, torch.zeros_like(rows, memory_format=torch.contiguous_format), True


def pieces(weight: Tensor, out: Tensor, size: int = PIECE) -> Iterator[tuple[Tensor, Tensor]]:
    """Both cut between filters into pieces of about ``size`` elements; whole on a GPU."""
    count = 1 if weight.is_cuda else -(-weight.numel() // size)
    rows = -(-len(weight) // count)
    return zip(weight.split(rows), out.split(rows))
