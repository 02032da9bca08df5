"""Attention among the pixels of a feature map, in memory linear in their number.

The explicit form, softmax(QKᵀ/√c)V, has a map of pixels × pixels: 354 MB an image in fp32 at 97²
pixels, 4.4 GB at 129×257. ``scaled_dot_product_attention`` needs none, but its lean CPU kernel
takes only four dimensions and keys as wide as the values, so queries and keys are padded with
zeros, which change no product. The scale stays that of the unpadded keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(query: Tensor, key: Tensor, value: Tensor, regions: int = 1) -> Tensor:
    """softmax(QKᵀ/√c)V, each pixel attending to those of its own region.

    Args:
        query, key: shape (N, c, H, W).
        value: shape (N, c_value, H, W), c_value >= c.
        regions: The map is cut into regions × regions rectangles of H // regions × W // regions
            pixels; the last row and the last column of rectangles take the remainder.

    Returns:
        Shape (N, c_value, H, W).

    Raises:
        ValueError: The values are narrower than the keys.
    """
    if value.shape[1] < key.shape[1]:
        raise ValueError(
            f"The values have {value.shape[1]} channels, fewer than the keys' {key.shape[1]}; give "
            "the values at least as many."
        )
    heights, widths = (_lengths(length, regions) for length in value.shape[2:])
    rows = []
    for row in zip(*(x.split(heights, 2) for x in (query, key, value))):
        cells = zip(*(x.split(widths, 3) for x in row))
        rows.append(torch.cat([_attend(*cell) for cell in cells], 3))
    return torch.cat(rows, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scale, width = key.shape[1] ** -0.5, value.shape[1]
    query, key, tokens = (_tokens(x, width) for x in (query, key, value))
    context = F.scaled_dot_product_attention(query, key, tokens, scale=scale)
    return context.squeeze(1).transpose(1, 2).reshape(value.shape)


def _tokens(x: Tensor, width: int) -> Tensor:
    """Shape (N, c, H, W) to (N, 1, H * W, width), contiguous as the kernels want it."""
    tokens = x.flatten(2).transpose(1, 2)
    if x.shape[1] < width:
        tokens = F.pad(tokens, (0, width - x.shape[1]))
    return tokens.unsqueeze(1).contiguous()


def _lengths(length: int, count: int) -> list[int]:
    """Lengths of `count` parts of a side, the last with the remainder; one if it is too short."""
    part = length // count
    parts = [part] * (count - 1) if part else []
    return [*parts, length - sum(parts)]
