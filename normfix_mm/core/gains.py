"""Gains that are right before training, not only from the first forward on."""

import torch
from torch import nn


@torch.no_grad()
def settle_gains(model: nn.Module) -> None:
    """Give every layer whose gain still follows the weight g = ||W||, now.

    A zero weight gets its random direction here too, before a norm is taken from it.
    """
    for layer in model.modules():
        if hasattr(layer, "normalized_weight"):
            layer.normalized_weight()
