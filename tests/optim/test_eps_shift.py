"""The ε-shift against loops written filter by filter, against autograd of its potential, and in
every way an optimizer can be run."""

import copy
import inspect
import math

import pytest
import torch
from helpers.fused import FUSED
from torch import nn

from normfix_mm import CWNConv2d, EpsShift, WNConv2d, WSConv2d
from normfix_mm.kernels import filter_edits

FORMS = {"WS": WSConv2d, "CWN": CWNConv2d, "WN": lambda *a, **k: WNConv2d(*a, gain=False, **k)}


def net(dtype=torch.float32, seed=0):
    torch.manual_seed(seed)
    layers = [FORMS[form](3, 5, 3, bias=False) for form in FORMS]
    layers += [WSConv2d(6, 4, 1, groups=2), nn.Conv2d(3, 4, 3), nn.Linear(3, 2)]
    model = nn.ModuleList(layers).to(dtype)
    for layer in model:
        nn.init.normal_(layer.weight, mean=0.1, std=0.2)
    return model


def set_gradients(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.dtype)


def edit(weight, form, lam, eps):
    """The formula for one filter after another, in float64."""
    result = torch.empty_like(weight, dtype=torch.float64)
    for f, filter_ in enumerate(weight.detach().double()):
        w = filter_.flatten().tolist()
        mu = 0.0 if form == "WN" else sum(w) / len(w)
        norm = math.sqrt(sum((x - mu) ** 2 for x in w))
        size = norm / math.sqrt(len(w) - 1) if form == "WS" else norm
        new = [lam * ((1 - eps / size) * (x - mu) + mu) for x in w]
        result[f] = torch.tensor(new, dtype=torch.float64).view_as(filter_)
    return result


def step_and_see(optimizer, weight):
    """The gradient that the step has used; `.grad` has its old value afterwards."""
    seen = []
    handle = optimizer.register_step_pre_hook(lambda *_: seen.append(weight.grad.clone()))
    before = weight.grad.clone()
    optimizer.step()
    handle.remove()
    assert torch.equal(weight.grad, before)
    return seen[0]


def normalized(model):
    return [layer for layer in model if getattr(layer, "form", None)]


DECOUPLED = dict(decoupled_weight_decay=True)
ADAM_DECOUPLES = pytest.mark.since_torch("2.7", "Adam with decoupled decay")
OPTIMIZERS = {
    "sgd": (torch.optim.SGD, dict(lr=0.1)),
    "nesterov": (torch.optim.SGD, dict(lr=0.1, momentum=0.9, nesterov=True)),
    "adam": (torch.optim.Adam, dict(lr=0.01)),
    "adamw": (torch.optim.AdamW, dict(lr=0.01, weight_decay=0)),
    "nadam-decoupled": (torch.optim.NAdam, dict(lr=0.01, **DECOUPLED)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flags", [*FUSED, {"foreach": True}, {"foreach": False}])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_equal_edits_made_by_hand(name, maximize, flags, dtype):
    if name.startswith("nadam") and "fused" in flags:
        flags = {}  # NAdam has no fused form
    cls, options = OPTIMIZERS[name]
    ours, hand = net(dtype), net(dtype)
    if maximize:
        flags = flags | dict(maximize=True)
        if "maximize" not in inspect.signature(cls).parameters:
            pytest.skip(f"{cls.__name__} of torch {torch.__version__} has no maximize")
    build = lambda m: cls(m.parameters(), **options, **flags)  # noqa: E731
    optimizer, by_hand = build(ours), build(hand)
    EpsShift(optimizer, ours, lam=0.3, eps=0.2)
    for step in range(3):
        for opt in (optimizer, by_hand):  # a schedule
            opt.param_groups[0]["lr"] = options["lr"] / (step + 1)
        set_gradients(ours, step), set_gradients(hand, step)
        optimizer.step()
        with torch.no_grad():
            for layer in normalized(hand):
                by = edit(layer.weight, layer.form, 0.3, 0.2)
                if "adamw" in name or "decoupled" in name:
                    layer.weight -= (options["lr"] / (step + 1) * by).to(dtype)
                else:
                    layer.weight.grad += ((-1) ** maximize * by).to(dtype)
        by_hand.step()
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for a, b in zip(ours.parameters(), hand.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_edit_is_the_gradient_of_the_potential(form, offset):
    torch.manual_seed(0)
    layer = FORMS[form](4, 6, 3, bias=False).double()
    nn.init.normal_(layer.weight, offset, 0.1)
    lam, eps, n = 0.7, 0.05, 36
    w = layer.weight.detach().clone().requires_grad_()
    rows = w.flatten(1)
    mean = rows.mean(1)
    if form == "WS":
        energy = (n - 1) * (rows.std(1) - eps) ** 2 + n * mean**2
    elif form == "WN":
        energy = (rows.norm(dim=1) - eps) ** 2
    else:
        energy = ((rows - mean[:, None]).norm(dim=1) - eps) ** 2 + n * mean**2
    (lam / 2 * energy.sum()).backward()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    EpsShift(optimizer, layer, lam, eps)
    layer.weight.grad = torch.zeros_like(w)
    used = step_and_see(optimizer, layer.weight)
    assert (used - w.grad).abs().max() < 1e-10


def test_eps_zero_is_weight_decay():
    ours, plain = net(torch.float64), net(torch.float64)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1, momentum=0.9)
    EpsShift(optimizer, ours, lam=0.3, eps=0)
    groups = [
        dict(params=[m.weight for m in normalized(plain)], weight_decay=0.3),
        dict(params=[m.bias for m in plain if m.bias is not None]),
        dict(params=[m.weight for m in plain if not hasattr(m, "form")]),
    ]
    decayed = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    for step in range(4):
        set_gradients(ours, step), set_gradients(plain, step)
        optimizer.step(), decayed.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def run_scaled(model, optimizer, scale, clip, overflow=False):
    """One iteration as AmpOptimWrapper does it; gradients are scale × those of set_gradients."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale(torch.zeros(()))
    set_gradients(model)
    for p in model.parameters():
        p.grad *= scale
    if overflow:
        model[0].weight.grad[0, 0, 0, 0] = float("inf")
    if clip is not None:
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), clip)
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.since_torch("2.3", "a GradScaler for the CPU")
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("cls", [torch.optim.SGD, torch.optim.AdamW])
def test_after_unscaling_and_clipping(cls, clip, fused):
    """The reference has no scaler: gradients, clipped without the regularizer, then the edit."""
    ours, plain = net(), net()
    optimizer = cls(ours.parameters(), lr=0.01, weight_decay=0, **fused)
    reference = cls(plain.parameters(), lr=0.01, weight_decay=0)
    EpsShift(optimizer, ours, lam=5.0, eps=0.2), EpsShift(reference, plain, lam=5.0, eps=0.2)
    run_scaled(ours, optimizer, 1024.0, clip)
    set_gradients(plain)
    if clip is not None:
        nn.utils.clip_grad_norm_(plain.parameters(), clip)
    reference.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.since_torch("2.3", "a GradScaler for the CPU")
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("decoupled", [{}, pytest.param(DECOUPLED, marks=ADAM_DECOUPLES)])
def test_overflow_changes_nothing(fused, decoupled):
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, **fused, **decoupled)
    EpsShift(optimizer, model, lam=0.5)
    before = copy.deepcopy(model.state_dict())
    run_scaled(model, optimizer, 64.0, clip=None, overflow=True)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    run_scaled(model, optimizer, 64.0, clip=None)
    assert not torch.equal(model[0].weight, before["0.weight"])


def test_accumulation_adds_the_edit_once():
    ours = net(torch.float64)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    EpsShift(optimizer, ours, lam=0.5, eps=0.1)
    before = ours[0].weight.detach().clone()
    for _ in range(4):  # backward four times, one step
        ours[0].weight.sum().backward()
    optimizer.step()
    expected = before - 0.1 * (4 + edit(before, "WS", 0.5, 0.1))
    torch.testing.assert_close(ours[0].weight.detach(), expected, rtol=1e-12, atol=1e-12)


def toy_loss(layer, x, y):
    return (nn.functional.conv2d(x, layer.normalized_weight()) - y).square().mean()


def test_theorem_1_decay_is_a_growing_learning_rate():
    """Decay λ at rate η, or no decay at η·(1−ηλ)^−(2t−1): the same directions at every step."""
    torch.manual_seed(0)
    x, y = torch.randn(8, 3, 5, 5).double(), torch.randn(8, 4, 3, 3).double()
    decayed = WNConv2d(3, 4, 3, gain=False, bias=False).double()
    grown = copy.deepcopy(decayed)
    eta, lam = 0.3, 0.1
    q = torch.optim.SGD(decayed.parameters(), lr=eta)
    EpsShift(q, decayed, lam=lam, eps=0)
    j = torch.optim.SGD(grown.parameters(), lr=eta)
    for t in range(1, 31):
        j.param_groups[0]["lr"] = eta * (1 - eta * lam) ** -(2 * t - 1)
        for layer, optimizer in ((decayed, q), (grown, j)):
            optimizer.zero_grad()
            toy_loss(layer, x, y).backward()
            optimizer.step()
        torch.testing.assert_close(
            decayed.normalized_weight(), grown.normalized_weight(), rtol=1e-10, atol=1e-10
        )
    assert grown.weight.norm() > 2 * decayed.weight.norm()


def test_with_eps_the_norm_settles_at_eps_without_it_never():
    for eps, settled in ((0.05, 0.05), (0.0, 0.0)):
        torch.manual_seed(0)
        layer = WNConv2d(3, 4, 3, gain=False, bias=False).double()
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        EpsShift(optimizer, layer, lam=0.5, eps=eps)
        norms = []
        for _ in range(600):
            layer.weight.grad = torch.zeros_like(layer.weight)  # only the regularizer acts
            optimizer.step()
            norms.append(layer.weight.detach().flatten(1).norm(dim=1))
        torch.testing.assert_close(
            norms[-1], torch.full_like(norms[-1], settled), atol=1e-9, rtol=0
        )
        if not eps:  # no minimum: still falling by the same factor
            torch.testing.assert_close(norms[-1] / norms[-2], torch.full_like(norms[-1], 0.95))


@pytest.mark.parametrize("form", FORMS)
def test_degenerate_filters_stay_finite_and_get_plain_decay(form):
    layer = FORMS[form](2, 3, 3, bias=False)
    with torch.no_grad():
        layer.weight[0] = 0
        layer.weight[1] = 0.3
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    EpsShift(optimizer, layer, lam=0.5, eps=10.0)
    layer.weight.grad = torch.zeros_like(before)
    used = step_and_see(optimizer, layer.weight)
    assert layer.weight.isfinite().all()
    assert torch.equal(layer.weight[0], before[0])
    if form != "WN":
        torch.testing.assert_close(used[1], 0.5 * before[1])


def test_one_element_filters_keep_the_mean_term():
    layer = WSConv2d(1, 4, 1, bias=False)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    EpsShift(optimizer, layer, lam=0.5, eps=0.1)
    layer.weight.grad = torch.zeros_like(before)
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), 0.5 * before)


@pytest.mark.parametrize("offset", [0, 1, 30, 1000])
def test_edit_is_accurate_far_from_zero_mean(offset):
    """Where ‖w‖² − nμ² would have cancelled. Reference in float64."""
    torch.manual_seed(0)
    layer = WSConv2d(64, 20, 3, bias=False)
    layer.weight.data.mul_(0.02 / layer.weight.std()).add_(0.02 * offset)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    EpsShift(optimizer, layer, 1.0, 1.0)  # the shift, ε/s = 50, outweighs the decay
    used = step_and_see(optimizer, layer.weight)
    by_hand = edit(layer.weight, "WS", 1.0, 1.0)
    error = (used.double() - by_hand).norm() / by_hand.norm()
    assert error < 1e-6 * max(1, offset)  # w − μ itself is rounded to |μ|/s · 2⁻²⁴


def test_big_layers_cut_into_pieces_and_memory_formats():
    torch.manual_seed(0)
    rows = torch.randn(7, 30)
    cut = list(filter_edits.pieces(rows, rows, size=60))
    assert [len(w) for w, _ in cut] == [2, 2, 2, 1]
    assert torch.equal(torch.cat([w for w, _ in cut]), rows)
    for fmt_w in (torch.contiguous_format, torch.channels_last):
        for fmt_g in (torch.contiguous_format, torch.channels_last):
            layer = WSConv2d(4, 6, 3, bias=False).to(memory_format=fmt_w)
            by_hand = edit(layer.weight, "WS", 0.5, 0.1)
            layer.weight.grad = torch.zeros(6, 4, 3, 3).to(memory_format=fmt_g)
            optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
            EpsShift(optimizer, layer, 0.5, 0.1)
            used = step_and_see(optimizer, layer.weight)
            torch.testing.assert_close(used.double(), by_hand, rtol=1e-5, atol=1e-6)


def test_half_precision_weights_use_float32_statistics():
    layer = WSConv2d(8, 4, 3, bias=False).bfloat16()
    by_hand = edit(layer.weight, "WS", 0.5, 0.1)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    EpsShift(optimizer, layer, 0.5, 0.1)
    used = step_and_see(optimizer, layer.weight)
    assert torch.equal(used, by_hand.to(torch.bfloat16))


def test_tensor_lr_missing_gradients_and_frozen_weights():
    model = net(torch.float64)
    model[0].weight.requires_grad_(False)
    kept = model[0].weight.clone(), model[1].weight.detach().clone()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=torch.tensor(0.01), weight_decay=0, foreach=False
    )
    EpsShift(optimizer, model, lam=0.5, eps=0.2)
    before = model[2].weight.detach().clone()
    model[2].weight.grad = torch.zeros_like(before)
    optimizer.step()
    assert torch.equal(model[0].weight, kept[0]) and torch.equal(model[1].weight, kept[1])
    expected = before - 0.01 * edit(before, "WN", 0.5, 0.2)
    torch.testing.assert_close(model[2].weight.detach(), expected, rtol=1e-7, atol=1e-8)


def test_refusals():
    model = net()
    sgd = lambda **k: torch.optim.SGD(model.parameters(), lr=0.1, **k)  # noqa: E731
    words = [{k: v} for k in ("lam", "eps") for v in (True, "1e-4", None, float("inf"))]
    for bad in (dict(lam=-1.0), dict(eps=-1.0), dict(lam=float("nan")), *words):
        with pytest.raises(ValueError, match="must be a finite number"):
            EpsShift(sgd(), model, **bad)
    with pytest.raises(ValueError, match="decoupled='yes' must be"):
        EpsShift(sgd(), model, decoupled="yes")
    with pytest.raises(ValueError, match="1 Linear"):
        linear = nn.Linear(2, 2)
        EpsShift(torch.optim.SGD(linear.parameters(), lr=0.1), linear)
    with pytest.raises(ValueError, match="weight_decay"):
        EpsShift(sgd(weight_decay=0.1), model)
    optimizer = sgd()
    shift = EpsShift(optimizer, model)
    with pytest.raises(ValueError, match="already under ε-shift"):
        EpsShift(optimizer, model)
    with pytest.raises(RuntimeError, match="closure"):
        optimizer.step(lambda: 0.0)
    set_gradients(model)
    optimizer.load_state_dict(sgd(weight_decay=0.1).state_dict())
    with pytest.raises(RuntimeError, match="load_state_dict"):
        optimizer.step()
    shift.remove()
    optimizer.step()
    optimizer.param_groups[0]["weight_decay"] = 0
    EpsShift(optimizer, model)
    model[0].weight.grad = model[0].weight.grad.to_sparse()
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
