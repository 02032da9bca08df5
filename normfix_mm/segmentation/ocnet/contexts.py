"""The three contexts of OCNet (arXiv 1809.00916): Base-OC, ASP-OC and Pyramid-OC.

Modules and widths are those of the authors' code, github.com/openseg-group/OCNet.pytorch, with
these differences, none of which changes what the network can compute:

* A convolution before a norm has no bias: the norm subtracts it again. The converter of
  checkpoints folds the published ones into the norm's mean.
* The norm is any of OpenMMLab's, by default BN; the authors' InPlaceABN applies |gamma| + 1e-5.
* Queries are keys, so they are computed once. The authors compute both with one module, which
  updates its running statistics twice an iteration.
* Layers start as OpenMMLab's do; the authors leave them as torch does, except for ``W = 0``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normfix_mm.segmentation.ocnet.attention import attention

# (in_channels, out_channels, kernel_size, **options) -> convolution, norm and activation.
Layer = Callable[..., nn.Module]


class ObjectContext(nn.Module):
    """Each pixel's context: values of the pixels that resemble it.

    No norm is behind ``f_value`` and ``W``. ``W`` starts at zero, and with it the context.

    Args:
        channels: of input and output.
        keys, values: channels of keys (= queries) and values.
        layer: makes the convolution of the keys.
        scale: The input is max-pooled by this factor and the context resized to it.
        regions: Pixels attend within regions × regions rectangles (``attention``).
    """

    def __init__(
        self,
        channels: int,
        keys: int,
        values: int,
        layer: Layer,
        scale: int = 1,
        regions: int = 1,
    ) -> None:
        super().__init__()
        self.scale, self.regions = scale, regions
        self.f_key = layer(channels, keys, 1)
        self.f_value = nn.Conv2d(channels, values, 1)
        self.W = nn.Conv2d(values, channels, 1)
        nn.init.zeros_(self.W.weight)
        nn.init.zeros_(self.W.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, H, W) to the same."""
        size = x.shape[2:]
        if self.scale > 1:
            x = F.max_pool2d(x, [min(self.scale, length) for length in size])
        key = self.f_key(x)
        context = self.W(attention(key, key, self.f_value(x), self.regions))
        if self.scale > 1:
            context = F.interpolate(context, size, mode="bilinear", align_corners=True)
        return context

    def extra_repr(self) -> str:
        return f"scale={self.scale}, regions={self.regions}"


class BaseOC(nn.Module):
    """Context and input side by side, fused by a 1×1 layer.

    Args:
        channels: of input and output; 512 in the paper.
        layer: makes a convolution with norm and activation.
    """

    dropout_ratio = 0.05  # before the classifier
    input_activated = True  # whether an activation is behind the norm of the input

    def __init__(self, channels: int, layer: Layer) -> None:
        super().__init__()
        self.context = ObjectContext(channels, channels // 2, channels // 2, layer)
        self.fuse = layer(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, H, W) to the same."""
        return self.fuse(torch.cat([self.context(x), x], 1))


class ASPOC(nn.Module):
    """Atrous spatial pyramid whose image-wide branch is an object context at half the size.

    Args:
        channels, layer: as of ``BaseOC``.
        dilations: of the three 3×3 branches.
    """

    dropout_ratio = 0.1
    input_activated = True

    def __init__(self, channels: int, layer: Layer, dilations=(12, 24, 36)) -> None:
        super().__init__()
        width = channels // 2
        self.context = nn.Sequential(
            layer(channels, width, 3, padding=1),
            ObjectContext(width, width // 2, width, layer, scale=2),
            layer(width, width, 1),
        )
        self.branches = nn.ModuleList(
            [
                layer(channels, width, 1),
                *(layer(channels, width, 3, padding=d, dilation=d) for d in dilations),
            ]
        )
        self.fuse = layer((2 + len(dilations)) * width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, H, W) to the same."""
        return self.fuse(torch.cat([self.context(x), *(branch(x) for branch in self.branches)], 1))


class PyramidOC(nn.Module):
    """Contexts within 1, 2², 3² and 6² rectangles, beside the widened input.

    Args:
        channels, layer: as of ``BaseOC``.
        regions: along each side, a context for each entry.
    """

    dropout_ratio = 0.05
    input_activated = False

    def __init__(self, channels: int, layer: Layer, regions=(1, 2, 3, 6)) -> None:
        super().__init__()
        self.contexts = nn.ModuleList(
            ObjectContext(channels, channels // 2, channels, layer, regions=r) for r in regions
        )
        self.widen = layer(channels, len(regions) * channels, 1)
        self.fuse = layer(2 * len(regions) * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, channels, H, W) to the same."""
        return self.fuse(torch.cat([self.widen(x), *(context(x) for context in self.contexts)], 1))
