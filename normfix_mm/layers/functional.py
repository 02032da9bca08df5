"""Weight normalization of one tensor, forward and backward fused by hand.

    standardize       WS    (w_f - mu) / (s + eps)      unbiased s, eps outside the root
    normalize         WN    g_f * w_f / ||w_f||         one gain a filter, or one for the layer
    center_normalize  CWN   (w_f - mu) / ||w_f - mu||

Sources: weight standardization, arXiv 1903.10520; weight normalization, arXiv 1602.07868; the
per-layer form, eqs. 6 and 29 of FixNorm. `w_f` is one output filter, flattened.

Statistics are taken in fp32 (fp64 for fp64 weights) whatever the autocast.

Departure: a filter with nothing to normalize (zero under WN; constant or one-element under CWN)
gives zero and gets a zero gradient, where the formula divides by zero.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from normfix_mm.kernels.rows import TINY_VARIANCE, as_rows, bessel, project, standardized_rows


def standardize(weight: Tensor, eps: float = 1e-5) -> Tensor:
    """Standardize each filter: zero mean, unit unbiased standard deviation.

    Args:
        weight: shape (filters, ...).
        eps: added to the standard deviation, as the authors do, not to the variance.

    Returns:
        A tensor of the same shape and dtype.
    """
    return _Standardize.apply(weight, eps)


def normalize(weight: Tensor, gain: Tensor | None = None) -> Tensor:
    """Give each filter the length `gain` (1 without one).

    Args:
        weight: shape (filters, ...).
        gain: shape (filters,).
    """
    return _Normalize.apply(weight, gain, weight.shape[0])


def normalize_layer(weight: Tensor, gain: Tensor | None = None) -> Tensor:
    """Give the whole tensor the length `gain`, a tensor of one element (FixNorm, eq. 6)."""
    return _Normalize.apply(weight, gain, 1)


def center_normalize(weight: Tensor) -> Tensor:
    """Center each filter of a (filters, ...) weight and give it length 1."""
    return _CenterNormalize.apply(weight)


class _Standardize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, eps: float) -> Tensor:
        rows = as_rows(weight, weight.shape[0])
        out, mean, rstd = standardized_rows(rows)
        std = rstd.reciprocal().mul_(bessel(rows.shape[1]))
        out.mul_((std + eps).mul_(rstd).reciprocal_().view(-1, 1))
        ctx.save_for_backward(weight, mean, std)
        ctx.eps = eps
        return out.view_as(weight).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # dw = (G - mean(G)) / d - (w - mu) (G . (w - mu)) / (d^2 (n - 1) s),  d = s + eps.
        # With r^2 = n / (d (n - 1) s) this is a layer norm's backward at rstd = r, over d r.
        weight, mean, std = ctx.saved_tensors
        rows = as_rows(weight, weight.shape[0])
        n = rows.shape[1]
        d = std + ctx.eps
        rstd = (d * std.clamp_min(TINY_VARIANCE**0.5)).mul_(max(n - 1, 1) / n).rsqrt_()
        out = project(as_rows(grad, len(rows)), rows, mean, rstd, (d * rstd).reciprocal_())
        return out.view_as(weight).to(weight.dtype), None


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, gain: Tensor | None, count: int) -> Tensor:
        rows = as_rows(weight, count)
        norm = torch.linalg.vector_norm(rows, dim=1)
        usable = norm > 1e3 * torch.finfo(norm.dtype).tiny ** 0.5  # 1/norm^2 stays finite
        inverse = torch.where(usable, norm, 1.0).reciprocal() * usable
        factor = inverse if gain is None else inverse * gain.to(inverse.dtype)
        ctx.save_for_backward(weight, inverse, factor)
        ctx.gain_dtype = None if gain is None else gain.dtype
        return (rows * factor.view(-1, 1)).view_as(weight).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        # dw = a (G - u (G . u)) and dg = G . u,  u = w / ||w||,  a = g / ||w||.
        weight, inverse, factor = ctx.saved_tensors
        count = len(inverse)
        rows, grad_rows = as_rows(weight, count), as_rows(grad, count)
        radial = (grad_rows * rows).sum(1) * inverse
        grad_gain = None if ctx.gain_dtype is None else radial.to(ctx.gain_dtype)
        out = torch.addcmul(grad_rows, rows, (radial * inverse).view(-1, 1), value=-1)
        out.mul_(factor.view(-1, 1))
        return out.view_as(weight).to(weight.dtype), grad_gain, None


class _CenterNormalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor) -> Tensor:
        rows = as_rows(weight, weight.shape[0])
        out, mean, rstd = standardized_rows(rows)
        sigma = rstd.reciprocal()
        # A constant filter leaves only rounding noise after centering: not a direction.
        floor = 8 * torch.finfo(sigma.dtype).eps * mean.abs() + 2 * TINY_VARIANCE**0.5
        usable = (sigma > floor).to(sigma.dtype) * (rows.shape[1] ** -0.5)
        out.mul_(usable.view(-1, 1))
        ctx.save_for_backward(weight, mean, rstd, usable)
        return out.view_as(weight).to(weight.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> Tensor:
        weight, mean, rstd, usable = ctx.saved_tensors
        rows = as_rows(weight, weight.shape[0])
        out = project(as_rows(grad, len(rows)), rows, mean, rstd, usable)
        return out.view_as(weight).to(weight.dtype)
