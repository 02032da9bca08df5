"""Ways to standardize a convolution's weight, written out: ours and the peers'.

Only the first two compute the WS authors' formula; the others use another deviation or another eps
(see the README), and are here because they are what people run for speed.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from normfix_mm.layers.functional import standardize


def mmcv_formula(weight: Tensor) -> Tensor:
    """mmcv ConvWS: the authors' formula in plain operations."""
    shape = (-1, 1, 1, 1)
    rows = weight.view(len(weight), -1)
    mean, std = rows.mean(1).view(shape), rows.std(1).view(shape)
    return (weight - mean) / (std + 1e-5)


def batch_norm_trick(weight: Tensor) -> Tensor:
    """timm StdConv2d: one F.batch_norm call; biased deviation, eps inside the root."""
    rows = weight.view(1, len(weight), -1)
    return F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=1e-6).view_as(weight)


def layer_norm_trick(weight: Tensor) -> Tensor:
    """One F.layer_norm call; biased deviation, eps inside the root."""
    rows = weight.view(len(weight), -1)
    return F.layer_norm(rows, rows.shape[1:], eps=1e-6).view_as(weight)


def multiply(weight: Tensor) -> Tensor:
    """No normalization: the memory's own speed."""
    return weight * torch.tensor(2.0)


STANDARDIZATIONS = {
    "WSConv2d (ours)": standardize,
    "mmcv ConvWS formula": mmcv_formula,
    "F.batch_norm trick": batch_norm_trick,
    "F.layer_norm": layer_norm_trick,
}
