"""How far weights turn at k times the learning rate: what docs/many_gpus.md says of linear scaling.

Random gradients of the direction, of another size for each of two layers, from the balance on.
"""

import math

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, NormFix, WNConv2d

SIZES, FAN_INS, LAM = (0.25, 1.0), (30, 50), 0.05


def turned(method: str, rate: float, lengths: list[float], steps: int = 600) -> list[float]:
    """Angle by which each layer turns a step, on average, without momentum."""
    random = torch.Generator().manual_seed(0)
    model = nn.Sequential(*(WNConv2d(n, 1, 1, gain=False, bias=False) for n in FAN_INS))
    for layer, length in zip(model, lengths, strict=True):
        w = torch.randn(layer.weight.shape, generator=random)
        layer.weight.data = length * w / w.norm()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    if method == "decay":
        EpsShift(optimizer, model, lam=LAM, eps=0.0)
    else:
        NormFix(optimizer, model)
    angles = []
    for _ in range(steps):
        before = [layer.weight.detach() / layer.weight.norm().item() for layer in model]
        for layer, u, size in zip(model, before, SIZES, strict=True):
            g = torch.randn(u.shape, generator=random)
            g = g - u * (u * g).sum()
            layer.weight.grad = size * g / g.norm() / layer.weight.detach().norm()
        optimizer.step()
        angles.append(
            [
                float((layer.weight.detach() / layer.weight.detach().norm() - u).norm())
                for layer, u in zip(model, before, strict=True)
            ]
        )
    return torch.tensor(angles).mean(0).tolist()


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_fixed_norm_turns_by_the_rate(rate):
    """By rate * sum of |gradients| / |W|^2, each layer; |W_l|^2 is shared out as the gradients."""
    joint = 6.0
    lengths = [math.sqrt(joint**2 * s / sum(SIZES)) for s in SIZES]
    expected = rate * sum(SIZES) / joint**2
    assert turned("fixed", rate, lengths) == pytest.approx([expected] * 2, rel=0.02)


@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_decayed_norm_turns_by_the_root_of_the_rate(rate):
    lengths = [(rate * s**2 / (2 * LAM)) ** 0.25 for s in SIZES]
    expected = math.sqrt(2 * rate * LAM)
    assert turned("decay", rate, lengths) == pytest.approx([expected] * 2, rel=0.02)
