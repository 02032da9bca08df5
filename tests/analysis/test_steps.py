"""What a step does to a weight, against naive loops and simulated balances."""

import math

import pytest
import torch
from torch import nn

import normfix_mm as nf
from normfix_mm.analysis import remarks, steps
from normfix_mm.optim.weights import norm_fix_weights, weights_of


@pytest.mark.parametrize("angle", [1e-6, 1e-3, 0.3, 2.0, math.pi])
def test_a_turn_is_the_angle_by_which_a_vector_was_rotated(angle):
    torch.manual_seed(0)
    along, across = torch.linalg.qr(torch.randn(60, 2, dtype=torch.float64))[0].T
    before = 3 * along
    after = 5 * (math.cos(angle) * along + math.sin(angle) * across)
    (turned, moved), shape = steps.turns([before], [after]), (1,)
    assert turned.shape == moved.shape == shape
    assert turned.item() == pytest.approx(angle, rel=1e-6)
    assert moved.item() == pytest.approx(math.dist(before, after) / 3, rel=1e-12)


def test_a_step_of_float32_turns_by_its_angle():
    torch.manual_seed(0)
    weights = [torch.randn(64, 32, 3, 3), torch.randn(10, 64)]
    steps_ = [1e-3 * torch.randn_like(w) for w in weights]
    after = [w + s for w, s in zip(weights, steps_)]
    turned, moved = steps.turns(weights, after)
    for k, (w, v) in enumerate(zip(weights, after)):
        u, v = w.double().flatten() / w.double().norm(), v.double().flatten() / v.double().norm()
        assert turned[k].item() == pytest.approx(2 * math.asin((u - v).norm().item() / 2), rel=1e-3)
        assert moved[k].item() == pytest.approx((steps_[k].norm() / w.norm()).item(), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (torch.optim.SGD, dict(lr=0.1, momentum=0.9)),
        (torch.optim.SGD, dict(lr=0.1, momentum=0.8, nesterov=True)),
        (torch.optim.SGD, dict(lr=0.2, momentum=0.9, dampening=0.5)),
        (torch.optim.SGD, dict(lr=0.3)),
        (torch.optim.AdamW, dict(lr=0.01, betas=(0.9, 0.99))),
    ],
)
def test_decay_settles_at_the_turn_that_it_says(make, options):
    """Gradients that only turn the weight, and do not depend on each other."""
    torch.manual_seed(0)
    lam = 0.02 if make is torch.optim.SGD else 0.5
    weight = nn.Parameter(torch.randn(2000, dtype=torch.float64))
    optimizer = make([weight], weight_decay=lam, **options)
    squares = []
    for step in range(1500):
        noise, w = torch.randn_like(weight), weight.detach()
        noise -= (noise @ w) / (w @ w) * w
        weight.grad = noise / w.norm()
        before = w.clone()
        optimizer.step()
        if step >= 500:
            squares.append(steps.turns([before], [weight])[0].item() ** 2)
    seen = (sum(squares) / len(squares)) ** 0.5
    said = steps.settled_turn(optimizer, optimizer.param_groups[0], lam)
    assert seen == pytest.approx(said, rel=0.05)


def test_nothing_is_said_of_a_balance_that_is_not_known():
    weight = nn.Parameter(torch.ones(3))
    for optimizer in (torch.optim.Adam([weight], weight_decay=0.1), torch.optim.Adagrad([weight])):
        assert steps.settled_turn(optimizer, optimizer.param_groups[0], 0.1) is None
    sgd = torch.optim.SGD([weight], lr=0.1)
    assert steps.settled_turn(sgd, sgd.param_groups[0], 0.0) is None


@pytest.mark.parametrize("form", ["WS", "WN", "CWN"])
def test_the_smallest_filter_is_that_of_a_loop_over_filters(form):
    torch.manual_seed(0)
    model = nf.normalize_layers(nn.Sequential(nn.Conv2d(3, 5, 3)), dict(form=form))
    info = next(i for i in weights_of(model) if i.kind == "conv")
    sizes = []
    for w in info.param.detach().double().flatten(1):
        centered = w - w.mean()
        deviation = (centered.square().sum() / (len(w) - 1)).sqrt()
        sizes.append({"WS": deviation, "WN": w.norm(), "CWN": centered.norm()}[form].item())
    assert steps.smallest_filter(info).item() == pytest.approx(min(sizes), rel=1e-6)


def test_a_plain_weight_has_no_filters_to_speak_of():
    infos = weights_of(nn.Sequential(nn.Conv2d(3, 5, 3), nn.Linear(3, 2)))
    assert [steps.smallest_filter(i) for i in infos] == [None] * len(infos)


def test_only_a_weight_whose_length_matters_leans():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 3)).double()
    infos = norm_fix_weights(model)
    loss = (model(torch.randn(4, 3, 8, 8, dtype=torch.float64)) - 1).square().mean()
    grads = torch.autograd.grad(loss, [i.param for i in infos])
    invariant, variant = steps.leaning(grads, [i.param for i in infos]).tolist()
    assert abs(invariant) < 1e-3 < abs(variant)  # BN's own eps leaves the first a little


def test_a_zero_gradient_leans_nowhere():
    assert steps.leaning([torch.zeros(3)], [torch.ones(3)]).tolist() == [0.0]


def test_time_to_act_is_the_exponent_of_what_decay_leaves():
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.01, momentum=0.9, weight_decay=1e-3)
    for _ in range(5000):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    acts = steps.time_to_act(0.01, 1e-3, 5000, 0.9)
    assert -math.log(weight.item()) == pytest.approx(acts, rel=0.02)


def test_filters_that_collapse_are_said_and_those_on_their_way_to_eps_are_not():
    falling = [1.0, 0.1, 0.005]
    assert "shrunk from 1 to 0.005" in remarks.size_remark("conv", falling, None)
    assert remarks.size_remark("conv", falling, 1e-3) is None
    assert remarks.size_remark("conv", [*falling, 1e-4], 1e-3) is not None  # below its floor
    assert remarks.size_remark("conv", [1.0, 0.9, 0.5], None) is None
    assert remarks.size_remark("conv", [1.0, 0.001, 0.005], None) is None  # grows again
    assert remarks.size_remark("conv", [1.0, 0.001], None) is None


def test_a_gradient_that_stays_along_its_weight_is_said():
    assert remarks.leaning_remark("conv", [0.0, -0.3, -0.2, -0.4]) is not None
    assert remarks.leaning_remark("conv", [0.3, 0.3, 0.01]) is None


def test_only_a_rate_that_left_its_schedule_has_drifted():
    schedule = [1.0, 0.5, 0.1]
    assert remarks.drift_remark(schedule, [r / 9 for r in schedule]) is None
    assert "rose 30 times" in remarks.drift_remark(schedule, [1 / 9, 0.5 / 3, 30 * 0.1 / 9])
    assert "fell 20 times" in remarks.drift_remark(schedule, [1 / 9, 0.5 / 90, 0.1 / 180])
    assert remarks.drift_remark([1.0, 0.5, 0.0], [1.0, 0.5, 0.0]) is None


def test_decay_without_time_is_said():
    assert "0.002" in remarks.time_remark(0.002)
    assert remarks.time_remark(1.0) is None
