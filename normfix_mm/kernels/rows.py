"""A weight as a (filters, fan-in) matrix in fp32 or fp64, and the statistics of its rows.

The row-wise moments come from torch's group-norm kernel, one group a filter, which reads a filter
once; what differs from a group norm is one factor per filter.
"""

import torch
from torch import Tensor

# Keeps 1/sigma finite on constant filters; far below any standard deviation worth the name.
TINY_VARIANCE = 1e-24
WIDE = (torch.float32, torch.float64)


def memory_format(weight: Tensor) -> torch.memory_format:
    """channels_last for a weight that lies so, else contiguous."""
    if weight.is_contiguous() or weight.dim() != 4:
        return torch.contiguous_format
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def as_rows(weight: Tensor, order: torch.memory_format) -> Tensor:
    """The weight as a contiguous (filters, n) matrix in fp32, fp64 for fp64.

    Elements stand in the given order, best that of memory, which is then not copied:
    normalizations do not mind the order inside a filter.
    """
    if weight.dtype not in WIDE:
        weight = weight.float()
    if order is torch.channels_last:
        weight = weight.permute(0, 2, 3, 1)
    return weight.reshape(weight.shape[0], -1).contiguous()


def as_weight(rows: Tensor, weight: Tensor, order: torch.memory_format) -> Tensor:
    """Rows of `as_rows(weight, order)` in the weight's shape and dtype, lying in this order."""
    if order is torch.channels_last:
        filters, channels, height, width = weight.shape
        rows = rows.view(filters, height, width, channels).permute(0, 3, 1, 2)
    rows = rows.view(weight.shape)
    return rows if rows.dtype == weight.dtype else rows.to(weight.dtype)


def as_gradient(rows: Tensor, weight: Tensor, order: torch.memory_format) -> Tensor:
    """`as_weight` for a gradient: finite values stay finite in float16."""
    if weight.dtype == torch.float16:
        most = torch.finfo(torch.float16).max
        rows = torch.where(rows.isfinite(), rows.clamp(-most, most), rows)
    return as_weight(rows, weight, order)


def bessel(n: int) -> float:
    """Factor from the biased to the unbiased deviation of n values; 0 for one value."""
    return (n / (n - 1)) ** 0.5 if n > 1 else 0.0


def standardized_rows(rows: Tensor, scale: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """scale (w - mu)/sigma with biased sigma, mu and 1/sigma of each row of a (rows, n) tensor."""
    count, n = rows.shape
    out, mean, rstd = torch.native_group_norm(
        rows.unsqueeze(0), scale, None, 1, count, n, count, TINY_VARIANCE
    )
    return out.view(count, n), mean.view(count), rstd.view(count)


def project(grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, scale: Tensor) -> Tensor:
    """scale rstd [G - mean(G) - x mean(G x)] with x = (w - mu) rstd, row by row.

    The batch norm's backward, of which `scale` is the affine weight: one kernel, which sweeps a
    row once, where group norm's goes over the whole tensor twice.
    """
    return torch.ops.aten.native_batch_norm_backward(
        grad.unsqueeze(0),
        rows.unsqueeze(0),
        scale,
        None,
        None,
        mean,
        rstd,
        True,
        0.0,
        [True, False, False],
    )[0].view_as(rows)
