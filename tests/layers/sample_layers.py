"""Layers with a gain, inputs for them, and a step that trains them."""

import torch
from torch import nn

from normfix_mm import (
    FixNormConv2d,
    FixNormLinear,
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    WNPointwiseConv2d,
)

GAINED = [
    (WNConv2d, (4, 6, 3)),
    (FixNormConv2d, (4, 6, 3)),
    (WNConvTranspose2d, (4, 6, 3)),
    (WNPointwiseConv2d, (4, 6, 1)),
    (WNLinear, (4, 6)),
    (FixNormLinear, (4, 6)),
]


def sample(layer):
    return torch.randn(2, 4) if isinstance(layer, nn.Linear) else torch.randn(2, 4, 8, 8)


def train_one_step(layer):
    """After it g is no longer ||W||."""
    layer(sample(layer)).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
