"""Layers that compute with their input's size, written so that a trace follows it.

An operator of ONNX has fixed windows, and what Python computes from a size is a constant in a
trace. So adaptive pooling (PSPNet, UPerNet) becomes two products with matrices of means, and
convolutions that pad as TensorFlow's do (EfficientNet) pad by an amount computed in the graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normfix_mm.models.same_padding import SAME_PADDING


def follow_sizes(model: nn.Module) -> None:
    """Replace such layers in place; the function stays."""
    for name, layer in list(model.named_modules()):
        parent, _, own = name.rpartition(".")
        if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size not in (1, (1, 1)):
            setattr(model.get_submodule(parent), own, MeanPool(layer.output_size))
        elif type(layer).__name__ in SAME_PADDING and isinstance(layer, nn.Conv2d):
            setattr(model.get_submodule(parent), own, SamePadding(layer))


class MeanPool(nn.Module):
    """``nn.AdaptiveAvgPool2d``.

    Output i is the mean of the pixels from floor(i·length / count) to ceil((i + 1)·length / count).
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        super().__init__()
        pair = isinstance(output_size, (tuple, list))
        self.rows, self.columns = output_size if pair else (output_size, output_size)

    def forward(self, x: Tensor) -> Tensor:
        if self.rows is not None:
            x = _means(x.shape[2], self.rows, x) @ x
        if self.columns is not None:
            x = x @ _means(x.shape[3], self.columns, x).transpose(0, 1)
        return x


def _means(length, count: int, like: Tensor) -> Tensor:
    """Shape (count, length); each row sums to one."""
    at = torch.arange(length, device=like.device)
    output = torch.arange(count, device=like.device)[:, None]
    start = torch.div(output * length, count, rounding_mode="floor")
    end = torch.div((output + 1) * length + count - 1, count, rounding_mode="floor")
    inside = ((at >= start) & (at < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)


class SamePadding(nn.Module):
    """mmcv's ``Conv2dAdaptivePadding`` and timm's ``Conv2dSame``.

    Of an odd number of pixels the end gets one more than the beginning.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer, amounts = self.layer, []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], layer.kernel_size, layer.stride, layer.dilation
        ):
            last = (size + stride - 1) // stride - 1
            needed = last * stride + (kernel - 1) * dilation + 1
            missing = torch.as_tensor(needed - size).clamp(min=0)
            amounts = [missing // 2, missing - missing // 2, *amounts]
        x = F.pad(x, amounts)
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
