"""The normalizations of rows on a CPU, by the kernels that torch has fused.

    WS, CWN     group norm forward, batch norm backward, one factor a filter beside them
    WN          torch's weight-norm kernels
    whole layer norms of rows, the norm of these, one product

These square in fp32 without care. The statistics they return tell whether they could; where not
(zero, constant, one-element, tiny and huge filters), `formulas` computes the layer. Looking at the
statistics is free on a CPU; a GPU would have to wait for it.

Shapes: rows (F, n), contiguous, fp32 or fp64; statistics and gains (F,).
"""

import torch
from torch import Tensor

from normfix_mm.kernels import formulas
from normfix_mm.kernels.rows import bessel, project, standardized_rows


def standardize(rows: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(w - mu)/(s + eps), mu, 1/sigma (biased)."""
    out, mean, rstd = standardized_rows(rows)
    if not _between(rstd, 1e-6, 1e6):
        return formulas.standardize(rows, eps), mean, rstd
    ratio = torch.rsub(rstd, bessel(rows.shape[1]), alpha=-eps)  # d/sigma = s/sigma + eps/sigma
    return out.div_(ratio.view(-1, 1)), mean, rstd


def standardize_backward(
    grad: Tensor, rows: Tensor, eps: float, mean: Tensor, rstd: Tensor
) -> Tensor:
    # dw = (G - mean(G)) / d - (w - mu) (G . (w - mu)) / (d^2 (n - 1) s),  d = s + eps.
    # With r = sqrt(s/d) / sigma this is a batch norm's backward at 1/sigma = r, over d r.
    if not _between(rstd, 1e-6, 1e6):
        return formulas.standardize_vjp(grad, rows, eps)
    per_sigma = bessel(rows.shape[1])  # s/sigma
    root = torch.rsub(rstd, 1.0, alpha=-eps / per_sigma).rsqrt_()  # of s/d
    return project(grad, rows, mean, rstd * root, root / per_sigma)


def center_normalize(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(w - mu)/‖w - mu‖, mu, 1/sigma (biased)."""
    scale = rows.new_full((rows.shape[0],), rows.shape[1] ** -0.5)
    out, mean, rstd = standardized_rows(rows, scale)
    if not _between(rstd, 1e-6, 1e6):
        out = formulas.center_normalize(rows)
    return out, mean, rstd


def center_normalize_backward(grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor) -> Tensor:
    if not _between(rstd, 1e-6, 1e6):
        return formulas.center_normalize_vjp(grad, rows)
    scale = rows.new_full((rows.shape[0],), rows.shape[1] ** -0.5)
    return project(grad, rows, mean, rstd, scale)


def normalize(rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """g w/‖w‖ and ‖w‖."""
    out, norm = torch._weight_norm_interface(rows, _column(gain, rows), 0)
    norm = norm.view(-1)
    if not _between(norm, 1e-10, 1e10):
        out = formulas.normalize(rows, gain)
    return out, norm


def normalize_backward(
    grad: Tensor, rows: Tensor, gain: Tensor | None, norm: Tensor
) -> tuple[Tensor, Tensor]:
    if not _between(norm, 1e-10, 1e10):  # the kernel takes ‖w‖^3
        return formulas.normalize_vjp(grad, rows, gain)
    out, grad_gain = torch.ops.aten._weight_norm_interface_backward(
        grad, rows, _column(gain, rows), norm.view(-1, 1), 0
    )
    return out, grad_gain.view(-1)


def normalize_layer(rows: Tensor, gain: Tensor | None) -> tuple[Tensor, Tensor]:
    """g W/‖W‖ and ‖W‖, of one element: norms of rows first, or a long fp32 sum loses digits."""
    norm = torch.linalg.vector_norm(torch.linalg.vector_norm(rows, dim=1)).view(1)
    if not _between(norm, 1e-10, 1e10):
        return formulas.normalize(rows.view(1, -1), gain).view_as(rows), norm
    return rows * (norm.reciprocal() if gain is None else gain / norm), norm


def normalize_layer_backward(
    grad: Tensor, rows: Tensor, gain: Tensor | None, norm: Tensor
) -> tuple[Tensor, Tensor]:
    if not _between(norm, 1e-10, 1e10):
        out, radial = formulas.normalize_vjp(grad.view(1, -1), rows.view(1, -1), gain)
        return out.view_as(rows), radial
    radial = torch.dot(grad.view(-1), rows.view(-1)) / norm
    out = torch.addcmul(grad, rows, radial / norm, value=-1)
    return out.mul_(norm.reciprocal() if gain is None else gain / norm), radial


def _column(gain: Tensor | None, rows: Tensor) -> Tensor:
    return rows.new_ones(rows.shape[0], 1) if gain is None else gain.view(-1, 1)


def _between(values: Tensor, low: float, high: float) -> bool:
    """Whether all values are; False for NaN."""
    least, most = torch.aminmax(values)
    return low < float(least) and float(most) < high
