"""Theorem 1 of the ε-shift paper: on normalized weights decay is a learning rate that grows.

Plain gradient descent at rate η, twice from one start: run Q decays the normalized weights by λ,
run J does not, but has their rate multiplied at step t = 1, 2, … by

    α_t = (1 − ηλ)^−(2t−1)

The normalized weights of both agree at every step. All other parameters train alike in both. In
float64, on scanned digits; WS without its 1e-5, which makes the gradient less than homogeneous.
"""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from normfix_mm import CWNConv2d, EpsShift, WNConv2d, WSConv2d

pytestmark = pytest.mark.slow

# The rate grows by a factor of 7; with many times that, training amplifies rounding errors.
RATE, LAM, STEPS = 0.05, 0.02, 1000
LAYERS = {
    "WN": lambda *shape: WNConv2d(*shape, gain=False),
    "CWN": CWNConv2d,
    "WS": lambda *shape: WSConv2d(*shape, eps=1e-300),
}


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images of shape (64, 1, 8, 8) and classes."""
    images, labels = load_digits(return_X_y=True)
    return (
        torch.from_numpy(images[:64]).double().view(-1, 1, 8, 8) / 16,
        torch.from_numpy(labels[:64]),
    )


def network(form: str) -> nn.Module:
    torch.manual_seed(0)
    make = LAYERS[form]
    body = [make(1, 6, 3), nn.Tanh(), make(6, 8, 3), nn.Tanh(), nn.Flatten(), nn.Linear(128, 10)]
    return nn.Sequential(*body).double()


def run(model: nn.Module, data: tuple, lam: float, by_rate: bool, steps: int = STEPS):
    """Train, and give the normalized weights after each step.

    Args:
        by_rate: the rate grows in place of the decay.
    """
    images, labels = data
    layers = [m for m in model if hasattr(m, "normalized_weight")]
    normalized = [m.weight for m in layers]
    others = [p for p in model.parameters() if all(p is not w for w in normalized)]
    optimizer = torch.optim.SGD([dict(params=normalized), dict(params=others)], lr=RATE)
    if not by_rate:
        EpsShift(optimizer, model, lam=lam, eps=0.0)
    for step in range(1, steps + 1):
        if by_rate:
            optimizer.param_groups[0]["lr"] = RATE * (1 - RATE * lam) ** -(2 * step - 1)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        yield [layer.normalized_weight().detach() for layer in layers]


@pytest.mark.parametrize("form", LAYERS)
def test_decay_of_a_normalized_weight_is_a_growing_rate(form, digits):
    model = network(form)
    start = copy.deepcopy(model)
    worst = 0.0
    for decayed, hastened in zip(
        run(model, digits, LAM, by_rate=False), run(start, digits, LAM, by_rate=True), strict=True
    ):
        for a, b in zip(decayed, hastened):
            worst = max(worst, float((a - b).norm() / a.norm()))
    assert worst < 1e-9
    # The weights themselves went apart, by (1 − ηλ)^steps, and training has moved them.
    ratio = float(model[0].weight.detach().norm() / start[0].weight.detach().norm())
    assert ratio == pytest.approx((1 - RATE * LAM) ** STEPS, rel=1e-6)
    moved = model[0].normalized_weight() - network(form)[0].normalized_weight()
    assert float(moved.detach().norm()) > 0.1


def test_another_growth_of_the_rate_is_not_the_same(digits):
    """So that the test above can fail: one step's difference in the exponent shows."""
    model = network("WS")
    start = copy.deepcopy(model)
    decayed = run(model, digits, LAM, by_rate=False, steps=200)
    hastened = run(start, digits, 1.001 * LAM, by_rate=True, steps=200)
    pairs = zip(decayed, hastened, strict=True)
    worst = max(float((a[0] - b[0]).norm() / a[0].norm()) for a, b in pairs)
    assert worst > 1e-6
