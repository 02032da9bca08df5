"""The kernels of `cpu`, by `formulas` alone: right on every device, never waits for it.

The statistics are of no use here; their places are left unwritten.
"""

import torch
from torch import Tensor

from normfix_mm.kernels import formulas


def standardize(rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return formulas.standardize(rows, eps), unused(rows), unused(rows)


def standardize_backward(grad: Tensor, rows: Tensor, eps: float, mean, rstd) -> Tensor:
    return formulas.standardize_vjp(grad, rows, eps)


def center_normalize(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return formulas.center_normalize(rows), unused(rows), unused(rows)


def center_normalize_backward(grad: Tensor, rows: Tensor, mean, rstd) -> Tensor:
    return formulas.center_normalize_vjp(grad, rows)


def normalize(rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    return formulas.normalize(rows, gain), unused(rows)


def normalize_backward(
    grad: Tensor, rows: Tensor, gain: Tensor | None, norm
) -> tuple[Tensor, Tensor]:
    return formulas.normalize_vjp(grad, rows, gain)


def normalize_layer(rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    return formulas.normalize(rows.view(1, -1), gain).view_as(rows), rows.new_empty(1)


def normalize_layer_backward(
    grad: Tensor, rows: Tensor, gain: Tensor | None, norm
) -> tuple[Tensor, Tensor]:
    out, radial = formulas.normalize_vjp(grad.view(1, -1), rows.view(1, -1), gain)
    return out.view_as(rows), radial


def unused(rows: Tensor) -> Tensor:
    """Room for one number a row."""
    return torch.empty(len(rows), dtype=rows.dtype, device=rows.device)
