"""Treatments over a run's life: freezing, thawing, loading, casts, optimizers that wrap others."""

import copy
import io
import math

import pytest
import torch
from helpers.fused import FUSED
from torch import nn

from normfix_mm import EpsShift, NormFix, WNConv2d, WSConv2d, normalize_layers
from normfix_mm.errors import Stopped

X = torch.randn(32, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(32) % 5


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def train(model, optimizer, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()


def norm(*params):
    return math.sqrt(sum(float(p.detach().double().square().sum()) for p in params))


def freeze(module, frozen=True):
    for p in module.parameters():
        p.requires_grad_(not frozen)


@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_frozen_weights_keep_their_bits_and_the_others_their_norm(mode):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    fixing = NormFix(optimizer, model, mode=mode)
    train(model, optimizer, 5)
    freeze(model[:2])
    kept, other = model[0].weight.detach().clone(), norm(model[3].weight)
    train(model, optimizer, 20)
    assert torch.equal(model[0].weight, kept)
    assert norm(model[3].weight) == pytest.approx(other, rel=1e-6)
    assert fixing.names == ["3.weight"]
    freeze(model[:2], False)  # joins again, with the norm that it has
    train(model, optimizer, 20)
    assert not torch.equal(model[0].weight, kept)
    whole = math.hypot(norm(kept), other)
    assert norm(model[0].weight, model[3].weight) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_weights_that_thaw_are_fixed_from_then_on(mode):
    model = net()
    freeze(model[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    NormFix(optimizer, model, mode=mode)
    train(model, optimizer, 3)
    freeze(model[:2], False)
    start = norm(model[0].weight, model[3].weight)
    train(model, optimizer, 20)
    assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)


def test_all_frozen_and_then_one_thaws():
    model = net()
    freeze(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    fixing = NormFix(optimizer, model)
    freeze(model[3:5], False)
    start = norm(model[3].weight)
    train(model, optimizer, 5)
    assert norm(model[3].weight) == pytest.approx(start, rel=1e-6)
    assert float(fixing.target) == pytest.approx(start, rel=1e-6)


def test_a_group_added_later_is_fixed_too_and_may_not_decay():
    model = net()
    freeze(model[0])
    rest = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(rest, lr=0.3)
    fixing = NormFix(optimizer, model)
    freeze(model[0], False)
    optimizer.add_param_group(dict(params=list(model[0].parameters())))
    start = norm(model[0].weight, model[3].weight)
    train(model, optimizer, 5)
    assert fixing.names == ["0.weight", "3.weight"]
    assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)

    other = net()
    freeze(other[0])
    optimizer = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=0.3)
    NormFix(optimizer, other)
    freeze(other[0], False)
    optimizer.add_param_group(dict(params=list(other[0].parameters()), weight_decay=0.1))
    with pytest.raises((Stopped, ValueError), match="weight_decay"):
        train(other, optimizer)


def test_the_shift_follows_freezing_and_thawing():
    model = net()
    normalize_layers(model, dict(form="WS"))
    freeze(model[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    EpsShift(optimizer, model, lam=0.1, eps=0.0)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    kept, decayed = model[0].weight.detach().clone(), norm(model[3].weight)
    optimizer.step()
    assert torch.equal(model[0].weight, kept)
    freeze(model[:2], False)
    optimizer.step()
    assert norm(model[0].weight) == pytest.approx(norm(kept) * 0.99, rel=1e-6)
    assert norm(model[3].weight) == pytest.approx(decayed * 0.99**2, rel=1e-6)


@pytest.mark.parametrize("frozen_then", [False, True])
@pytest.mark.parametrize("frozen_now", [False, True])
@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_a_state_is_taken_whatever_is_frozen_by_then(frozen_then, frozen_now, mode):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    fixing = NormFix(optimizer, model, mode=mode)
    if frozen_then:
        freeze(model[0])
    train(model, optimizer, 3)
    file = io.BytesIO()
    torch.save(dict(model=model.state_dict(), fixing=fixing.state_dict()), file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = net()
    freeze(again[0], frozen_now)
    optimizer = torch.optim.SGD(again.parameters(), lr=0.3)
    resumed = NormFix(optimizer, again, mode=mode)
    again.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["fixing"])
    trained = [again[3].weight] if frozen_now else [again[0].weight, again[3].weight]
    start = norm(*trained)
    train(again, optimizer, 3)
    assert norm(*trained) == pytest.approx(start, rel=2e-6)


@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_a_learning_rate_of_zero_beside_others_freezes(mode):
    model = net()
    model[1].eval()  # so that rescaling would show
    groups = [dict(params=list(part.parameters())) for part in (model[:2], model[2:])]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=0.9)
    fixing = NormFix(optimizer, model, mode=mode)
    kept, start = model[0].weight.detach().clone(), norm(model[0].weight, model[3].weight)
    assert float(fixing.target.norm()) == pytest.approx(start, rel=1e-7)  # a warm-up from 0
    train(model, optimizer)
    optimizer.param_groups[1]["lr"] = 0.3
    other = norm(model[3].weight)
    train(model, optimizer, 3)
    assert torch.equal(model[0].weight, kept) and fixing.names == ["3.weight"]
    assert norm(model[3].weight) == pytest.approx(other, rel=1e-6)
    optimizer.param_groups[0]["lr"] = 0.3
    train(model, optimizer, 3)
    assert not torch.equal(model[0].weight, kept)
    assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("attach", [NormFix, EpsShift])
def test_what_leaves_the_optimizer_may_come_back(attach):
    model = normalize_layers(net(), dict(form="WS"))
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1)
    optimizer.add_param_group(dict(params=list(model[:2].parameters())))
    treatment = attach(optimizer, model)
    start = norm(model[0].weight, model[3].weight)
    train(model, optimizer)
    group = optimizer.param_groups.pop()
    kept = model[0].weight.detach().clone()
    train(model, optimizer, 2)
    assert torch.equal(model[0].weight, kept)
    optimizer.add_param_group(group)
    train(model, optimizer, 2)
    assert not torch.equal(model[0].weight, kept)
    if attach is NormFix:
        assert treatment.names == ["0.weight", "3.weight"]
        assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("attach", [NormFix, EpsShift])
def test_a_weight_that_thaws_apart_from_the_optimizer_stops_the_run(attach):
    """Nobody would treat it; another optimizer may step it."""
    model = normalize_layers(net(), dict(form="WS"))
    freeze(model[:2])
    optimizer = torch.optim.SGD(model[2:].parameters(), lr=0.1)
    attach(optimizer, model)
    train(model, optimizer)
    freeze(model[:2], False)
    with pytest.raises(Stopped, match=r"0\.weight trains by now.*add_param_group"):
        train(model, optimizer)
    optimizer.add_param_group(dict(params=list(model[:2].parameters())))
    train(model, optimizer)
    optimizer.param_groups.pop()  # taken away, as another way of freezing
    kept = model[0].weight.detach().clone()
    train(model, optimizer)
    assert torch.equal(model[0].weight, kept)


def test_what_stays_keeps_its_norm_where_nearly_all_of_it_leaves():
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(3000.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    NormFix(optimizer, model)
    train(model, optimizer, 3)
    start = norm(model[3].weight)
    freeze(model[0])
    train(model, optimizer)
    assert norm(model[3].weight) == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("factor", [10.0, float("nan")])
def test_a_weight_written_by_hand_and_then_frozen_spoils_no_other(factor):
    """It is larger than the whole vector was."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    NormFix(optimizer, model)
    train(model, optimizer)
    start = model[3].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.mul_(factor)
    freeze(model[0])
    model[3].weight.grad = torch.zeros_like(start)
    if math.isnan(factor):
        with pytest.raises(Stopped, match="zero or not finite"):
            optimizer.step()
        assert torch.equal(model[3].weight, start)
        return
    optimizer.step()
    assert 0.1 * norm(start) < norm(model[3].weight) < norm(start)


def test_a_state_written_while_all_was_frozen():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    fixing = NormFix(optimizer, model)
    train(model, optimizer)
    freeze(model)
    fixing.follow_freezing()
    state = fixing.state_dict()
    freeze(model, False)
    fixing.load_state_dict(state)
    start = norm(model[0].weight, model[3].weight)
    train(model, optimizer, 3)
    assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)


@pytest.mark.parametrize("mode", ["joint", "layer"])
@pytest.mark.parametrize("kind", ["half", "zero", "nan"])
def test_a_frozen_weight_may_be_what_no_norm_could_be_held_of(kind, mode):
    model = net()
    with torch.no_grad():
        model[0].weight.mul_(dict(half=1.0, zero=0.0, nan=float("nan"))[kind])
    freeze(model[0])
    if kind == "half":
        model[0].half()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fixing = NormFix(optimizer, model, mode=mode)
    fixing.load_state_dict(fixing.state_dict())
    model[3].weight.grad = torch.randn_like(model[3].weight)
    start = norm(model[3].weight)
    optimizer.step()
    assert fixing.names == ["3.weight"]
    assert norm(model[3].weight) == pytest.approx(start, rel=1e-6)
    freeze(model[0], False)
    if (kind, mode) == ("zero", "joint"):  # all together have a norm
        optimizer.step()
        return
    with pytest.raises(Stopped, match=r"0\.weight (is torch.float16|became zero or not finite)"):
        optimizer.step()


@pytest.mark.parametrize("load", ["model", "layer"])
def test_weights_loaded_afterwards_are_held_at_their_own_norm(load):
    model, other = net(), net()
    with torch.no_grad():
        for k in (0, 3):
            other[k].weight.mul_(7.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    fixing = NormFix(optimizer, model)
    train(model, optimizer)
    if load == "model":
        model.load_state_dict(other.state_dict())
    else:
        for k in (0, 3):
            model[k].load_state_dict(other[k].state_dict())
    start = norm(other[0].weight, other[3].weight)
    assert fixing.norms_and_targets() == []
    train(model, optimizer)
    assert norm(model[0].weight, model[3].weight) == pytest.approx(start, rel=1e-6)
    ((what, held, target),) = fixing.norms_and_targets()
    assert what == "the joint norm" and held == pytest.approx(target, rel=1e-6)
    copied = copy.deepcopy(model)  # the copy does not speak for the original
    torch.save(copied, io.BytesIO())
    target = float(fixing.target)
    with torch.no_grad():
        copied[0].weight.mul_(3.0)
    copied.load_state_dict(copied.state_dict())
    train(model, optimizer)
    assert float(fixing.target) == target


@pytest.mark.parametrize("attach", [NormFix, EpsShift])
@pytest.mark.parametrize("how", ["load_state_dict", "schedule", "tensor"])
def test_decay_that_comes_back_stops_the_run(attach, how):
    model = normalize_layers(net(), dict(form="WS"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, model)
    train(model, optimizer)
    if how == "load_state_dict":
        decayed = torch.optim.SGD(net().parameters(), lr=0.1, weight_decay=0.5)
        optimizer.load_state_dict(decayed.state_dict())
    else:
        decay = torch.tensor(0.5) if how == "tensor" else 0.5
        optimizer.param_groups[0]["weight_decay"] = decay
    with pytest.raises(
        Stopped, match="0.weight .*weight_decay=.*set the group's weight_decay to 0"
    ):
        train(model, optimizer)


def test_a_model_cast_to_half_precision_stops_the_run():
    model = net()
    model.insert(3, nn.Identity())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    NormFix(optimizer, model)
    model[4].half()
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    with pytest.raises(Stopped, match="4.weight is torch.float16"):
        optimizer.step()


def test_the_dtype_named_is_that_of_the_weight_named():
    model = net()
    model[3].bfloat16()
    with pytest.raises(ValueError, match="3.weight is torch.bfloat16"):
        NormFix(torch.optim.SGD(model.parameters(), lr=0.1), model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_a_norm_that_is_none_stops_the_run(value):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    NormFix(optimizer, model)
    train(model, optimizer)
    with torch.no_grad():
        for k in (0, 3):
            model[k].weight.fill_(value)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    with pytest.raises(Stopped, match="0.weight.*zero or not finite"):
        optimizer.step()
    with pytest.raises(Stopped):  # nor does another step go on
        optimizer.step()


@pytest.mark.parametrize("with_target", [False, True])
def test_a_run_that_went_wrong_goes_on_from_its_checkpoint(with_target):
    """In the same process, as the sentence says."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fixing = NormFix(optimizer, model)
    saved = copy.deepcopy(model.state_dict()), fixing.state_dict()
    with torch.no_grad():
        model[0].weight.fill_(float("nan"))
    with pytest.raises(Stopped):
        train(model, optimizer)
    model.load_state_dict(saved[0])
    if with_target:
        fixing.load_state_dict(saved[1])
    train(model, optimizer)
    held = norm(model[0].weight, model[3].weight)
    assert held == pytest.approx(float(saved[1]["target"]), rel=1e-6)


def test_a_compilation_takes_no_treatment_away():
    """Before torch 2.3 the first one of a program took the step hooks of all of torch's classes."""
    layer = WNConv2d(3, 4, 3, gain=False, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    EpsShift(optimizer, layer, lam=0.5, eps=0.0)
    torch.compile(nn.Linear(2, 2), backend="eager")(torch.ones(1, 2))
    before = norm(layer.weight)
    layer.weight.grad = torch.zeros_like(layer.weight)
    optimizer.step()
    assert norm(layer.weight) == pytest.approx(0.95 * before, rel=1e-5)


@pytest.mark.parametrize("fused", FUSED)
def test_the_penalty_does_not_stay_in_the_gradients(fused):
    layer = WSConv2d(3, 4, 3, bias=False)
    by_hand = copy.deepcopy(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, **fused)
    EpsShift(optimizer, layer, lam=0.1, eps=0.0)
    plain = torch.optim.SGD(by_hand.parameters(), lr=0.1, weight_decay=0.1)
    gradient = torch.randn_like(layer.weight)
    layer.weight.grad, by_hand.weight.grad = gradient.clone(), gradient.clone()
    home = layer.weight.grad
    for _ in range(5):
        optimizer.step(), plain.step()
    assert layer.weight.grad is home and torch.equal(home, gradient)
    torch.testing.assert_close(layer.weight, by_hand.weight)


def test_a_hook_that_sets_gradients_to_zero_after_the_step_finds_the_real_ones():
    layer = WSConv2d(3, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda o, *_: o.zero_grad(set_to_none=False))
    EpsShift(optimizer, layer)
    for p in layer.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    assert not any(p.grad.any() for p in layer.parameters())


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_the_penalty_does_not_stay_where_a_group_has_a_weight_twice():
    layer = WSConv2d(3, 4, 3, bias=False)
    optimizer = torch.optim.SGD([layer.weight, layer.weight], lr=0.1)
    EpsShift(optimizer, layer, lam=0.5)
    gradient = torch.randn_like(layer.weight)
    layer.weight.grad = gradient
    optimizer.step()
    assert layer.weight.grad is gradient


def test_a_step_that_fails_leaves_the_gradients_for_the_next():
    layer = WSConv2d(3, 4, 3, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    EpsShift(optimizer, layer, lam=0.5, eps=0.0)
    handle = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    layer.weight.grad = torch.zeros_like(layer.weight)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            optimizer.step()
    handle.remove()
    before = norm(layer.weight)
    optimizer.step()
    assert norm(layer.weight) == pytest.approx(0.95 * before, rel=1e-6)
    assert not layer.weight.grad.any()


class Sharpness(torch.optim.Optimizer):
    """As SAM: perturbs the weights itself and calls another optimizer's step."""

    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def second_step(self):
        self.base_optimizer.step()


class Averaging(torch.optim.Optimizer):
    """As Sharpness, under the name that torch's ZeroRedundancyOptimizer has for the inner one."""

    def __init__(self, params, base, **options):
        super().__init__(params, options)
        self.optim = base(self.param_groups, **options)

    def second_step(self):
        self.optim.step()


class Lookahead(torch.optim.Optimizer):
    """Some never call Optimizer.__init__, and then have no hooks."""

    def __init__(self, base):
        self._base_optimizer, self.param_groups = base, base.param_groups


class ScheduleFree(torch.optim.SGD):
    def train(self):
        pass

    def eval(self):
        pass


class OptimWrapper:
    def __init__(self, optimizer):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda p: Sharpness(p, torch.optim.SGD, lr=0.1), "base_optimizer; attach"),
        (lambda p: Averaging(p, torch.optim.SGD, lr=0.1), "optim; attach"),
        (lambda p: Lookahead(torch.optim.SGD(p, lr=0.1)), "_base_optimizer; attach"),
        (lambda p: ScheduleFree(p, lr=0.1), "schedule-free"),
        (lambda p: torch.optim.SGD(p, lr=0.1, differentiable=True), "derivatives"),
        (lambda p: OptimWrapper(torch.optim.SGD(p, lr=0.1)), "is its .optimizer"),
    ],
)
def test_what_has_no_step_of_its_own_is_refused(attach, wrap, words):
    model = normalize_layers(net(), dict(form="WS"))
    optimizer = wrap(list(model.parameters()))
    for _ in range(2):  # and leaves no claim
        with pytest.raises(ValueError, match=words):
            attach(optimizer, model)


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
@pytest.mark.parametrize("parts", [list, lambda model: model.parameters()])
def test_what_is_no_model_is_refused(attach, parts):
    model = normalize_layers(net(), dict(form="WS"))
    with pytest.raises(ValueError, match="needs the model, a torch.nn.Module, got"):
        attach(torch.optim.SGD(model.parameters(), lr=0.1), parts(model))


def test_attached_to_the_inner_optimizer_it_works():
    model = net()
    outer = Sharpness(list(model.parameters()), torch.optim.SGD, lr=0.3)
    fixing = NormFix(outer.base_optimizer, model)
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    outer.second_step()
    assert norm(model[0].weight, model[3].weight) == pytest.approx(float(fixing.target), rel=1e-6)


@pytest.mark.parametrize("decoupled", [None, False, True])
@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_how_an_unknown_optimizer_decays_must_be_said(decoupled, base):
    """It may extend one of torch's and decay in another way."""
    layer = WNConv2d(3, 4, 3)
    optimizer = type("Own", (base,), {})(layer.parameters(), lr=0.1, weight_decay=0.0)
    if decoupled is None:
        with pytest.raises(ValueError, match=r"Own decays .*decoupled=True .*decoupled=False"):
            EpsShift(optimizer, layer)
        return
    EpsShift(optimizer, layer, lam=0.5, eps=0.0, decoupled=decoupled)
    layer.weight.grad = torch.zeros_like(layer.weight)
    before = norm(layer.weight)
    optimizer.step()
    if decoupled or base is torch.optim.SGD:
        assert norm(layer.weight) == pytest.approx(0.95 * before, rel=1e-5)


@pytest.mark.parametrize(
    "name", ["SGD", "Adam", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "ASGD", "RMSprop"]
)
def test_coupled_classes_of_torch_equal_their_own_decay(name):
    """With ε = 0 the regularizer of WN is ordinary decay."""
    torch.manual_seed(0)
    layer = WNConv2d(3, 4, 3, gain=False, bias=False)
    other = copy.deepcopy(layer)
    kind, own = getattr(torch.optim, name), dict(lambd=0.0) if name == "ASGD" else {}
    optimizer = kind(layer.parameters(), lr=0.01, **own)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    EpsShift(optimizer, layer, lam=0.3, eps=0.0)
    plain = kind(other.parameters(), lr=0.01, weight_decay=0.3, **own)
    for _ in range(3):
        gradient = torch.randn_like(layer.weight)
        layer.weight.grad, other.weight.grad = gradient.clone(), gradient.clone()
        optimizer.step(), plain.step()
    torch.testing.assert_close(layer.weight, other.weight)


def test_removed_in_the_middle_of_a_step_it_leaves_the_gradients():
    layer = WNConv2d(3, 4, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    shift = EpsShift(optimizer, layer)
    optimizer.register_step_pre_hook(lambda *_: shift.remove())
    gradient = torch.randn_like(layer.weight)
    layer.weight.grad = gradient
    optimizer.step()
    assert layer.weight.grad is gradient
