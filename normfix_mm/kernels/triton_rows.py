"""The kernels of `cpu` in Triton: one kernel a direction, one program a row.

The arithmetic is that of `formulas`, in fp32: a row is first brought to a size whose squares
neither overflow nor vanish, so nothing has to be looked at on the host. A program goes over its row
several times; all but the first come from the cache. The backward kernels take the statistics anew
instead of keeping them. float64, and a layer that is one row, go another way.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from normfix_mm.kernels import formulas, portable

STEEPEST = tl.constexpr(formulas.steepest(torch.float32))
LARGEST = tl.constexpr(torch.finfo(torch.float32).max ** 0.63)
TINY = tl.constexpr(torch.finfo(torch.float32).tiny)
NOISE = tl.constexpr(8 * torch.finfo(torch.float32).eps)
# Elements that a program holds at once.
BLOCK = 2048


@triton.jit
def _load(rows, row, n, start, BLOCK: tl.constexpr):
    at = start + tl.arange(0, BLOCK)
    return tl.load(rows + row * n + at, mask=at < n, other=0.0)


@triton.jit
def _store(out, row, n, start, values, BLOCK: tl.constexpr):
    at = start + tl.arange(0, BLOCK)
    tl.store(out + row * n + at, values, mask=at < n)


@triton.jit
def _largest(rows, row, n, BLOCK: tl.constexpr):
    """max |w| of a row."""
    most = 0.0
    for start in range(0, n, BLOCK):
        most = tl.maximum(most, tl.max(tl.abs(_load(rows, row, n, start, BLOCK)), 0))
    return most


@triton.jit
def _to_unit(most):
    """What brings a largest element `most` to 1; 0 for a zero row."""
    scale = 1.0 / tl.where(most == 0.0, 1.0, most)
    scale = tl.where(scale > STEEPEST, STEEPEST, scale)
    return tl.where(most == 0.0, 0.0, scale)


@triton.jit
def _center(rows, row, n, BLOCK: tl.constexpr):
    """scale <= 1, the scaled row's mean in two parts, squares and largest of what is left."""
    most = _largest(rows, row, n, BLOCK)
    scale = 1.0 / tl.where(most > LARGEST, LARGEST, tl.where(most < 1.0, 1.0, most))
    total = 0.0
    for start in range(0, n, BLOCK):
        total += tl.sum(_load(rows, row, n, start, BLOCK) * scale, 0)
    first = total / n
    rest = 0.0
    for start in range(0, n, BLOCK):
        inside = start + tl.arange(0, BLOCK) < n
        left = _load(rows, row, n, start, BLOCK) * scale - first
        rest += tl.sum(tl.where(inside, left, 0.0), 0)
    second = rest / n  # the first is rounded
    squares, most = 0.0, 0.0
    for start in range(0, n, BLOCK):
        left = _left(rows, row, n, start, scale, first, second, BLOCK)
        squares += tl.sum(left * left, 0)
        most = tl.maximum(most, tl.max(tl.abs(left), 0))
    return scale, first, second, squares, most


@triton.jit
def _left(rows, row, n, start, scale, first, second, BLOCK: tl.constexpr):
    """w scale less its mean, which is the sum of two numbers; zero beyond the row's end."""
    inside = start + tl.arange(0, BLOCK) < n
    left = _load(rows, row, n, start, BLOCK) * scale - first - second
    return tl.where(inside, left, 0.0)


@triton.jit
def _standardize(rows, out, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale, first, second, squares, _ = _center(rows, row, n, BLOCK)
    std = tl.sqrt(squares / tl.where(n > 1, n - 1, 1))
    d = std + eps * scale
    for start in range(0, n, BLOCK):
        left = _left(rows, row, n, start, scale, first, second, BLOCK)
        _store(out, row, n, start, left / d, BLOCK)


@triton.jit
def _standardize_backward(grads, rows, out, n, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale, first, second, squares, _ = _center(rows, row, n, BLOCK)
    norm = tl.sqrt(squares)
    std = tl.sqrt(squares / tl.where(n > 1, n - 1, 1))
    d = std + eps * scale
    per_norm = 1.0 / tl.where(norm < TINY, TINY, norm)
    _project(grads, rows, out, row, n, scale, first, second, per_norm, std / d, scale / d, BLOCK)


@triton.jit
def _center_normalize(rows, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale, first, second, _, most = _center(rows, row, n, BLOCK)
    per_norm, _ = _direction_left(rows, row, n, scale, first, second, most, BLOCK)
    for start in range(0, n, BLOCK):
        left = _left(rows, row, n, start, scale, first, second, BLOCK)
        _store(out, row, n, start, left * per_norm, BLOCK)


@triton.jit
def _center_normalize_backward(grads, rows, out, n, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale, first, second, _, most = _center(rows, row, n, BLOCK)
    per_norm, usable = _direction_left(rows, row, n, scale, first, second, most, BLOCK)
    factor = per_norm * scale * usable
    _project(grads, rows, out, row, n, scale, first, second, per_norm, 1.0, factor, BLOCK)


@triton.jit
def _direction_left(rows, row, n, scale, first, second, most, BLOCK: tl.constexpr):
    """1/norm of what centering leaves, 0 where that is the rounding of a constant row."""
    usable = tl.where(most <= tl.abs(first) * NOISE, 0.0, 1.0)
    again = _to_unit(most * usable)
    squares = 0.0
    for start in range(0, n, BLOCK):
        unit = _left(rows, row, n, start, scale, first, second, BLOCK) * again
        squares += tl.sum(unit * unit, 0)
    norm = tl.sqrt(squares)
    return again / tl.where(norm < 0.5, 0.5, norm), usable


@triton.jit
def _project(
    grads, rows, out, row, n, scale, first, second, per_norm, share, factor, BLOCK: tl.constexpr
):
    """[G - mean(G) - u (G . u) share] factor, u the direction of the centered row."""
    total, radial = 0.0, 0.0
    for start in range(0, n, BLOCK):
        grad = _load(grads, row, n, start, BLOCK)
        left = _left(rows, row, n, start, scale, first, second, BLOCK)
        total += tl.sum(grad, 0)
        radial += tl.sum(grad * (left * per_norm), 0)
    for start in range(0, n, BLOCK):
        grad = _load(grads, row, n, start, BLOCK)
        unit = _left(rows, row, n, start, scale, first, second, BLOCK) * per_norm
        _store(out, row, n, start, (grad - total / n - unit * (radial * share)) * factor, BLOCK)


@triton.jit
def _length(rows, row, n, BLOCK: tl.constexpr):
    """scale and norm of the scaled row: w scale / norm has length 1."""
    scale = _to_unit(_largest(rows, row, n, BLOCK))
    squares = 0.0
    for start in range(0, n, BLOCK):
        unit = _load(rows, row, n, start, BLOCK) * scale
        squares += tl.sum(unit * unit, 0)
    norm = tl.sqrt(squares)
    return scale, tl.where(norm < 0.5, 0.5, norm)


@triton.jit
def _normalize(rows, gains, out, n, GAINED: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    scale, norm = _length(rows, row, n, BLOCK)
    gain = 1.0
    if GAINED:
        gain = tl.load(gains + row)
    for start in range(0, n, BLOCK):
        unit = _load(rows, row, n, start, BLOCK) * scale / norm
        _store(out, row, n, start, unit * gain, BLOCK)


@triton.jit
def _normalize_backward(
    grads, rows, gains, out, radials, n, GAINED: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    scale, norm = _length(rows, row, n, BLOCK)
    radial = 0.0
    for start in range(0, n, BLOCK):
        unit = _load(rows, row, n, start, BLOCK) * scale / norm
        radial += tl.sum(_load(grads, row, n, start, BLOCK) * unit, 0)
    tl.store(radials + row, radial)
    factor = scale / norm
    if GAINED:
        factor *= tl.load(gains + row)
    for start in range(0, n, BLOCK):
        unit = _load(rows, row, n, start, BLOCK) * scale / norm
        grad = _load(grads, row, n, start, BLOCK)
        _store(out, row, n, start, (grad - unit * radial) * factor, BLOCK)


def standardize(rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    if rows.dtype == torch.float64:
        return portable.standardize(rows, eps)
    out = torch.empty_like(rows)
    _run(_standardize, rows, rows, out, rows.shape[1], eps)
    return out, portable.unused(rows), portable.unused(rows)


def standardize_backward(grad: Tensor, rows: Tensor, eps: float, mean, rstd) -> Tensor:
    if rows.dtype == torch.float64:
        return portable.standardize_backward(grad, rows, eps, mean, rstd)
    out = torch.empty_like(rows)
    _run(_standardize_backward, rows, grad, rows, out, rows.shape[1], eps)
    return out


def center_normalize(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if rows.dtype == torch.float64:
        return portable.center_normalize(rows)
    out = torch.empty_like(rows)
    _run(_center_normalize, rows, rows, out, rows.shape[1])
    return out, portable.unused(rows), portable.unused(rows)


def center_normalize_backward(grad: Tensor, rows: Tensor, mean, rstd) -> Tensor:
    if rows.dtype == torch.float64:
        return portable.center_normalize_backward(grad, rows, mean, rstd)
    out = torch.empty_like(rows)
    _run(_center_normalize_backward, rows, grad, rows, out, rows.shape[1])
    return out


def normalize(rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    if rows.dtype == torch.float64:
        return portable.normalize(rows, gain)
    out = torch.empty_like(rows)
    gained = gain is not None
    _run(_normalize, rows, rows, gain if gained else rows, out, rows.shape[1], GAINED=gained)
    return out, portable.unused(rows)


def normalize_backward(
    grad: Tensor, rows: Tensor, gain: Tensor | None, norm
) -> tuple[Tensor, Tensor]:
    if rows.dtype == torch.float64:
        return portable.normalize_backward(grad, rows, gain, norm)
    out, radial = torch.empty_like(rows), portable.unused(rows)
    gained = gain is not None
    gains = gain if gained else rows
    _run(_normalize_backward, rows, grad, rows, gains, out, radial, rows.shape[1], GAINED=gained)
    return out, radial


normalize_layer = portable.normalize_layer
normalize_layer_backward = portable.normalize_layer_backward


def _run(kernel, rows: Tensor, *args, **flags) -> None:
    """Start one program for each row, on the rows' device."""
    count, n = rows.shape
    block = min(triton.next_power_of_2(n), BLOCK)
    with torch.cuda.device_of(rows):
        kernel[(count,)](*args, **flags, BLOCK=block, num_warps=8 if block > 1024 else 4)
