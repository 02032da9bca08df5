"""The ε-shift's edits, filter by filter, at the speed of memory.

Each edit is the weight and its direction, one number times each for a whole layer:

    WS   λ [w − ε √((n−1)/n) x]     with x = (w − μ)/σ, biased σ, as the group-norm kernel gives it
    CWN  λ [w − ε x/√n]
    WN   λ (1 − ε/‖w‖) w

The direction of a filter that has none (zero, constant, one element) is zero: it gets plain L2.

A CPU takes layer after layer, in pieces that stay in its caches. A GPU takes all filters of one
shape at once (`edits_of_many`): what costs there is the number of kernels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from normfix_mm.kernels import devices, formulas
from normfix_mm.kernels.rows import (
    TINY_VARIANCE,
    as_rows,
    as_weight,
    memory_format,
    standardized_rows,
)
from normfix_mm.kernels.scalars import on_device

# Elements of one piece: weight, direction and target stay in a CPU's caches between kernels.
PIECE = 1 << 18
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
    if not devices.few_kernels(weights):
        _piece_by_piece(weights, targets, targets, forms, lam, eps, factors)
        return
    edits = edits_of_many(weights, forms, lam, eps, factors)
    torch._foreach_add_(list(targets), edits)


def edited(
    weights: Sequence[Tensor],
    sources: Sequence[Tensor],
    forms: Sequence[str],
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> list[Tensor]:
    """source + Π factors · edit(weight) in new tensors; arguments as for `add_edits`."""
    if devices.few_kernels(weights):
        edits = edits_of_many(weights, forms, lam, eps, factors)
        return list(torch._foreach_add(list(sources), edits))
    targets = [torch.empty_like(source) for source in sources]
    _piece_by_piece(weights, targets, sources, forms, lam, eps, factors)
    return targets


def edits_of_many(
    weights: Sequence[Tensor],
    forms: Sequence[str],
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> list[Tensor]:
    """The edits of all weights, with a handful of kernels for each shape of filters."""
    alike: dict[tuple, list[int]] = {}
    for k, (weight, form) in enumerate(zip(weights, forms)):
        filters = (weight.shape[1:], weight.dtype, weight.device)
        alike.setdefault((_kind(form), *filters), []).append(k)
    edits = [torch.empty(0)] * len(weights)
    for (kind, *_), at in alike.items():
        together = torch.cat([weights[k].detach() for k in at])
        if not together.numel():
            edit = together
        else:
            order = memory_format(together)
            edit = as_weight(_edit(as_rows(together, order), kind, eps), together, order)
            edit *= _product(lam, factors, edit.device)
        for k, part in zip(at, edit.split([len(weights[k]) for k in at])):
            edits[k] = part
    return edits


def _edit(rows: Tensor, kind: str, eps: float) -> Tensor:
    """The edit of rows for λ = 1."""
    if kind == "WN":
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
        return rows * torch.where(norm > 0, 1 - eps / norm, 1.0).to(rows.dtype)
    n = rows.shape[1]
    if n == 1:  # which has no direction: old versions of torch find one of rounding
        return rows
    direction = torch.native_layer_norm(rows, (n,), None, None, TINY_VARIANCE)[0]
    # A filter too long to be squared: its direction weighs nothing beside it.
    direction.nan_to_num_(0.0)
    return torch.add(rows, direction, alpha=-_shift(kind, eps, n), out=direction)


def _piece_by_piece(
    weights: Sequence[Tensor],
    targets: Sequence[Tensor],
    sources: Sequence[Tensor],
    forms: Sequence[str],
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> None:
    """target = source + edit; each source is its target itself, or lies in other memory."""
    for whole, target, source, form in zip(weights, targets, sources, forms):
        if not whole.numel():
            continue
        scale = _product(lam, factors, whole.device)
        together = rows_alike(whole.detach(), target, source)
        if together is None:
            order = memory_format(whole)
            rows = as_rows(whole.detach(), order)
            edit = torch.zeros_like(rows)
            for part, into, start in pieces(rows, edit, edit):
                _add_edit(part, into, start, _kind(form), eps, scale)
            edit = as_weight(edit, whole.float() if whole.dtype in HALF else whole, order)
            torch.add(source, edit, out=target)
            continue
        for part, into, start in pieces(*together):
            _add_edit(part, into, start, _kind(form), eps, scale)


def _add_edit(
    rows: Tensor, out: Tensor, source: Tensor, kind: str, eps: float, scale: float | Tensor
) -> None:
    """out = source + scale · edit(rows)."""
    n = rows.shape[1]
    if kind == "WN":
        norm = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
        if not _ordinary(norm, 1e-10, 1e10):
            inverse = formulas.direction(rows)[1]
            ratio = eps * inverse
        else:
            ratio = eps / norm
        torch.addcmul(source, rows, (1 - ratio) * scale, out=out)
        return
    shift = _shift(kind, eps, n)
    direction, _, rstd = standardized_rows(rows)
    if not _ordinary(rstd, 1e-12, 1e13):
        direction.nan_to_num_(0.0)  # too long to be squared: it weighs nothing beside the filter
    if isinstance(scale, Tensor):
        torch.add(source, direction.mul_(-shift).add_(rows).mul_(scale), out=out)
    else:
        torch.add(source, rows, alpha=scale, out=out)
        out.add_(direction, alpha=-shift * scale)


def _shift(kind: str, eps: float, n: int) -> float:
    return eps * (n**-0.5 if kind == "CWN" else ((n - 1) / n) ** 0.5)


def _kind(form: str) -> str:
    return "WS" if form == "AWS" else form


def _product(lam: float, factors: Sequence[float | Tensor], device: torch.device) -> float | Tensor:
    """λ Π factors: a number, or a tensor on the device if one of them is."""
    scale: float | Tensor = lam * math.prod(f for f in factors if not isinstance(f, Tensor))
    for factor in factors:
        if isinstance(factor, Tensor):
            scale = scale * on_device(factor, device)
    return scale


def _ordinary(values: Tensor, low: float, high: float) -> bool:
    """Whether all are; the memory of a CPU's tensor is looked at as it is."""
    array = values.numpy()
    return bool(low < array.min() and array.max() < high)


def rows_alike(
    weight: Tensor, target: Tensor, source: Tensor
) -> tuple[Tensor, Tensor, Tensor] | None:
    """All three as (F, n) views with elements in the same order, or None if that takes copies."""
    if weight.dtype in HALF or not weight.stride() == target.stride() == source.stride():
        return None
    # Statistics do not mind the order inside a filter: take the one in memory.
    order = [0, *sorted(range(1, weight.dim()), key=weight.stride, reverse=True)]
    weight, target, source = (tensor.permute(order) for tensor in (weight, target, source))
    if not weight.is_contiguous():
        return None
    return weight.flatten(1), target.flatten(1), source.flatten(1)


def pieces(*tensors: Tensor, size: int = PIECE) -> Iterator[tuple[Tensor, ...]]:
    """All cut between filters into pieces of about ``size`` elements."""
    count = -(-tensors[0].numel() // size)
    rows = -(-len(tensors[0]) // count)
    return zip(*(tensor.split(rows) for tensor in tensors))
