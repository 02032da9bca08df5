"""The ε-shift's edits for many weights at once, at the speed of memory.

Each edit is, per filter, a·w + b:

    r = ε/s (WS), ε/‖w‖ (WN), ε/‖w−μ‖ (CWN);   a = λ(1 − r),   b = λ r μ   (WN: μ = 0)

so a weight is read for its statistics and, while the cache still holds it, once more for a·w + b.
Hence pieces, cut between filters where a layer is large, and batches of pieces of one form: the
arithmetic on a, b is done once a batch, on the filters of all its pieces laid end to end.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from .selection import WeightInfo
from .stepping import on_device

CENTERED = ("WS", "AWS", "CWN")  # forms that subtract the filter's mean
STANDARDIZED = ("WS", "AWS")  # forms whose size is the standard deviation, not the norm
# Elements of one kernel call (weight and target stay in the second-level caches from one kernel to
# the next) and of a batch (the weight stays in the third-level cache).
PIECE = 1 << 18
BATCH = 1 << 22
HALF = (torch.float16, torch.bfloat16)


def add_edits(
    infos: Sequence[WeightInfo],
    targets: Sequence[Tensor],
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> None:
    """target += Π factors · edit(weight), filter by filter.

    Args:
        infos: the weights, shape (F, ...), with their form.
        targets: gradients or the weights themselves, shapes as the weights'.
        factors: numbers or 0-dim tensors (a scheduled lr, an AMP scale), never read on the host.
    """
    kinds = defaultdict(list)
    for info, target in zip(infos, targets):
        if info.param.numel():
            weight, out, copied = as_rows(info.param.detach(), target)
            form = (info.form in CENTERED, info.form in STANDARDIZED)
            kinds[form, weight.dtype, weight.device].append(
                (weight, out, target if copied else None)
            )
    for ((centered, standardized), _, _), rows in kinds.items():
        for batch in batches([(weight, out) for weight, out, _ in rows]):
            _add_edits(batch, centered, standardized, lam, eps, factors)
        for _, out, target in rows:
            if target is not None:
                target.add_(out.view(target.shape))


def as_rows(weight: Tensor, target: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Both as (F, n) with elements in the same order, float32 or float64.

    Views where the memory allows it (contiguous, channels_last); otherwise copies, the target's
    starting at zero, and True: the caller adds it to the target.
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


def batches(
    pairs: Sequence[tuple[Tensor, Tensor]], limit: int = BATCH, piece: int = PIECE
) -> list[list[tuple[Tensor, Tensor]]]:
    """Cut tensors above ``piece`` elements between filters; gather pieces up to ``limit``."""
    result: list[list[tuple[Tensor, Tensor]]] = [[]]
    size = 0
    for weight, out in pairs:
        count = -(-weight.numel() // piece)
        parts = [(weight, out)]
        if count > 1:
            rows = -(-len(weight) // count)
            parts = list(zip(weight.split(rows), out.split(rows)))
        for part in parts:
            if size and size + part[0].numel() > limit:
                result.append([])
                size = 0
            result[-1].append(part)
            size += part[0].numel()
    return result


def moments(weights: Sequence[Tensor], centered: bool) -> tuple[Tensor, Tensor | None]:
    """‖w_f − μ_f‖ and μ_f (or ‖w_f‖ and None) of all filters end to end, shape (ΣF,).

    A constant filter differs from its mean by rounding alone, which is no size: it gets 0.
    """
    norm = torch.linalg.vector_norm
    if not centered:
        return _join([norm(w, dim=1) for w in weights]), None
    inverse, _, noise = _constants(weights)
    if weights[0].device.type != "cpu":
        # One exact kernel; a data-dependent second look would synchronize.
        pairs = [torch.var_mean(w, dim=1, correction=0) for w in weights]
        mean = _join([mean for _, mean in pairs])
        squares = _join([var for var, _ in pairs]) / inverse
        return torch.where(squares > (noise * mean).square_(), squares, 0.0).sqrt_(), mean
    # On the CPU var_mean costs three SGD steps for ResNet-50; a sum and a norm cost a fraction.
    both = [(w.sum(1), norm(w, dim=1)) for w in weights]  # while a weight is in the cache
    sums = _join([s for s, _ in both])
    total = _join([n for _, n in both]).square_()
    mean = sums * inverse
    squares = torch.addcmul(total, sums, mean, value=-1)
    poor = squares < total / 8
    if poor.any():
        # ‖w‖² − nμ² cancels where |μ| ≫ s: the layers with such filters, rare, are centered first.
        lengths = [len(w) for w in weights]
        parts = zip(weights, *(t.split(lengths) for t in (mean, squares, poor)))
        again = [
            norm(w - m.unsqueeze(1), dim=1).square_() if p.any() else q for w, m, q, p in parts
        ]
        squares = _join(again)
        squares = torch.where(squares > (noise * mean).square_(), squares, 0.0)
    return squares.sqrt_(), mean


def _constants(weights: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """1/n, √(n−1) and the rounding noise of a constant filter's ‖w − μ‖/|μ|, per filter."""
    like = weights[0]
    return _cached_constants(tuple(tuple(w.shape) for w in weights), like.dtype, like.device)


@functools.lru_cache(maxsize=1024)
def _cached_constants(
    shapes: tuple[tuple[int, int], ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    n = torch.cat([torch.full((rows,), float(n), dtype=torch.float64) for rows, n in shapes])
    noise = 4 * torch.finfo(dtype).eps * n.sqrt()
    return tuple(t.to(device, dtype) for t in (1 / n, (n - 1).sqrt(), noise))


def _add_edits(
    batch: Sequence[tuple[Tensor, Tensor]],
    centered: bool,
    standardized: bool,
    lam: float,
    eps: float,
    factors: Sequence[float | Tensor],
) -> None:
    weights = [weight for weight, _ in batch]
    size, mean = moments(weights, centered)
    scale = lam
    for factor in factors:
        scale = scale * on_device(factor, size.device)
    # s = ‖w−μ‖/√(n−1). No size, no direction to shift along: plain L2 for the zero and the
    # constant filter, and for n = 1, where the potential's (n−1)(s−ε)² vanishes.
    shift = _constants(weights)[1] * eps if standardized else eps
    ratio = torch.where(size > torch.finfo(size.dtype).tiny, shift / size, 0.0) * scale
    lengths = [len(w) for w in weights]
    slopes = (scale - ratio).unsqueeze(1).split(lengths)
    offsets = slopes if mean is None else (ratio * mean).unsqueeze(1).split(lengths)
    for (weight, out), slope, offset in zip(batch, slopes, offsets):
        out.addcmul_(weight, slope)
        if mean is not None:
            out.add_(offset)


def _join(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
