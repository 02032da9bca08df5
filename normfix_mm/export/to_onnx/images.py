"""The data preprocessor inside the graph: channel order, mean, std, padding, for any image size.

OpenMMLab's preprocessors compute the padding with Python's numbers, which a trace takes for
constants. Everything here is written with sizes that the trace follows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.onnx.operators import shape_as_tensor


class Images(nn.Module):
    """What ``data_preprocessor`` does to a batch of images of one size in testing.

    Args:
        data_preprocessor: of MMDetection, MMSegmentation or MMPretrain.
    """

    def __init__(self, data_preprocessor: nn.Module) -> None:
        super().__init__()
        given = data_preprocessor
        names = ("to_rgb", "_channel_conversion", "channel_conversion")  # each package its own
        self.swap = any(getattr(given, name, False) for name in names)
        self.normalize = given._enable_normalize
        if self.normalize:
            self.register_buffer("mean", given.mean.float())
            self.register_buffer("std", given.std.float())
        self.size = None
        if hasattr(given, "seg_pad_val") and hasattr(given, "test_cfg"):  # MMSegmentation's
            padding = given.test_cfg or {}
            self.divisor, self.value = padding.get("size_divisor") or 1, given.pad_val
            self.size = padding.get("size")
        else:
            self.divisor, self.value = given.pad_size_divisor, given.pad_value

    def forward(self, images: Tensor) -> Tensor:
        """Shape (N, 3, H, W), uint8 or float, to normalized and padded (N, 3, H', W')."""
        x = images.flip(1) if self.swap else images
        x = x.float()
        if self.normalize:
            x = (x - self.mean) / self.std
        if self.divisor > 1:
            height, width = (-length % self.divisor for length in x.shape[2:])
            x = F.pad(x, (0, width, 0, height), value=self.value)
        return x


def size_of(images: Tensor) -> Tensor:
    """Width, height, width, height: what the corners of a box must not exceed."""
    return shape_as_tensor(images)[[3, 2, 3, 2]].to(torch.float32)
