"""Gains settled before the first forward."""

import torch
from torch import nn

from normfix_mm import FixNormLinear, WNConv2d
from normfix_mm.core.gains import settle_gains


def test_every_gain_is_the_norm_of_the_present_weight():
    model = nn.Sequential(WNConv2d(3, 4, 3), nn.Conv2d(4, 4, 1), FixNormLinear(4, 5, alpha=9.0))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.7)
    settle_gains(model)
    torch.testing.assert_close(model[0].g.detach(), model[0].weight.detach().flatten(1).norm(dim=1))
    torch.testing.assert_close(model[2].g.detach(), model[2].weight.detach().norm().reshape(1))


def test_a_zero_weight_has_a_direction_before_its_norm_is_taken():
    model = nn.Sequential(WNConv2d(3, 4, 1))
    nn.init.zeros_(model[0].weight)
    settle_gains(model)
    assert model[0].weight.norm() > 0.5 and not model[0].g.any()
