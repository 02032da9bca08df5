"""The normalizations of rows as the papers write them, right for every finite filter.

Plain torch, differentiable, on any device, without a branch on values: the definition that the
fast kernels of `cpu` and `triton_rows` are held to, and what runs where they cannot.

A row is first brought to a size whose squares neither overflow nor vanish. What has no direction
(a zero row; a constant one after centering) gives zero and gets a zero gradient. A row shorter than
1 / STEEPEST fades to zero, so that no gradient exceeds STEEPEST times what comes in.
"""

import torch
from torch import Tensor


def steepest(dtype: torch.dtype) -> float:
    """The largest 1/‖w‖ a gradient is multiplied by: 1.3e30 in float32."""
    return torch.finfo(dtype).max * 2.0**-28


def direction(rows: Tensor) -> tuple[Tensor, Tensor]:
    """w/‖w‖ of each row of a (rows, n) matrix, and 1/‖w‖ as a column; zeros for a zero row."""
    size = rows.detach().abs().amax(1, keepdim=True)
    scale = torch.where(size == 0, 0.0, size.reciprocal().clamp(max=steepest(rows.dtype)))
    unit = rows * scale
    # At least 1, but for rows that fade. A sum, since torch's norm of a long row loses digits.
    norm = unit.square().sum(1, keepdim=True).clamp(min=0.25).sqrt()
    return unit / norm, scale / norm


def centered(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(w - mu) scale of each row, its mean before centering, and scale <= 1, both as columns."""
    largest = torch.finfo(rows.dtype).max ** 0.63  # squares of what is left can be summed
    scale = rows.detach().abs().amax(1, keepdim=True).clamp(1, largest).reciprocal()
    scaled = rows * scale
    mean = scaled.mean(1, keepdim=True)
    left = scaled - mean
    return left - left.mean(1, keepdim=True), mean, scale  # the first mean is rounded


def standardize(rows: Tensor, eps: float) -> Tensor:
    """(w - mu) / (s + eps) with unbiased s."""
    left, _, scale = centered(rows)
    return left / (_norm(left) * _per_root(rows) + eps * scale)


def standardize_vjp(grad: Tensor, rows: Tensor, eps: float) -> Tensor:
    """[G - mean(G) - u (G . u) s/d] / d with d = s + eps and u the direction of w - mu."""
    left, _, scale = centered(rows)
    norm = _norm(left)
    std = norm * _per_root(rows)
    d = std + eps * scale
    unit = left / norm.clamp(min=torch.finfo(rows.dtype).tiny)
    radial = (grad * unit).sum(1, keepdim=True) * (std / d)
    return (grad - grad.mean(1, keepdim=True) - unit * radial) * (scale / d)


def normalize(rows: Tensor, gain: Tensor | None) -> Tensor:
    """g w / ‖w‖, one g a row."""
    unit, _ = direction(rows)
    return unit if gain is None else unit * gain.view(-1, 1)


def normalize_vjp(grad: Tensor, rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """dw = (g/‖w‖) (G - u (G . u)) and dg = G . u."""
    unit, inverse = direction(rows)
    radial = (grad * unit).sum(1, keepdim=True)
    factor = inverse if gain is None else inverse * gain.view(-1, 1)
    return (grad - unit * radial) * factor, radial.view(-1)


def center_normalize(rows: Tensor) -> Tensor:
    """(w - mu) / ‖w - mu‖."""
    left, usable, _ = _direction_left(rows)
    return direction(left * usable)[0]


def center_normalize_vjp(grad: Tensor, rows: Tensor) -> Tensor:
    """[G - mean(G) - u (G . u)] / ‖w - mu‖."""
    left, usable, scale = _direction_left(rows)
    unit, inverse = direction(left * usable)
    radial = (grad * unit).sum(1, keepdim=True)
    return (grad - grad.mean(1, keepdim=True) - unit * radial) * (inverse * scale * usable)


def _direction_left(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`centered` rows, 1 where they are more than the rounding of a constant row, else 0, scale."""
    left, mean, scale = centered(rows)
    noise = 8 * torch.finfo(rows.dtype).eps * mean.detach().abs()
    most = left.detach().abs().amax(1, keepdim=True)
    return left, 1 - (most <= noise).to(rows.dtype), scale


def _norm(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def _per_root(rows: Tensor) -> float:
    """From the length of a centered row to its unbiased deviation."""
    return max(rows.shape[1] - 1, 1) ** -0.5
