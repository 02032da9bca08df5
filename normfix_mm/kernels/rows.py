"""Statistics of rows: a weight as a (filters, fan-in) matrix in fp32 or fp64.

The row-wise moments and the row-wise backward come from torch's group-norm kernels, one group a
filter, which read a filter once; what differs from a group norm is one factor per filter.
"""

import torch
from torch import Tensor

# Keeps 1/sigma finite on constant filters; far below any standard deviation worth the name.
TINY_VARIANCE = 1e-24


def as_rows(weight: Tensor, rows: int) -> Tensor:
    """The weight as a contiguous (rows, n) matrix in fp32, fp64 for fp64."""
    wide = weight if weight.dtype == torch.float64 else weight.float()
    return wide.reshape(rows, -1).contiguous()


def bessel(n: int) -> float:
    """Factor from the biased to the unbiased deviation of n values; 0 for one value."""
    return (n / (n - 1)) ** 0.5 if n > 1 else 0.0


def standardized_rows(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(w - mu)/sigma with biased sigma, mu and 1/sigma of each row of a (rows, n) tensor."""
    count, n = rows.shape
    centered, mean, rstd = torch.native_group_norm(
        rows.unsqueeze(0), None, None, 1, count, n, count, TINY_VARIANCE
    )
    return centered.view(count, n), mean.view(-1), rstd.view(-1)


def project(grad: Tensor, rows: Tensor, mean: Tensor, rstd: Tensor, scale: Tensor) -> Tensor:
    """scale rstd [G - mean(G) - x mean(G x)] with x = (w - mu) rstd, row by row.

    The group norm's backward, of which `scale` is the affine weight: one kernel call.
    """
    count, n = rows.shape
    shape, row = (1, count, n), (1, count)
    return torch.ops.aten.native_group_norm_backward(
        grad.view(shape),
        rows.view(shape),
        mean.view(row),
        rstd.view(row),
        scale,
        1,
        count,
        n,
        count,
        [True, False, False],
    )[0]
