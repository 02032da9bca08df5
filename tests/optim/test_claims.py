"""A weight gets one treatment, and no decay beside it, whichever optimizer it is under."""

import copy
import gc

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, FixNormLinear, NormFix, WNConv2d, WSConv2d, normalize_layers
from normfix_mm.optim.claims import claims, owner_of


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(
        dict(stem=WSConv2d(3, 4, 3), body=WNConv2d(4, 4, 3), plain=nn.Conv2d(4, 4, 3))
    )


def sgd(net, **options):
    return torch.optim.SGD(net.parameters(), lr=0.1, **options)


@pytest.mark.parametrize("first", [EpsShift, NormFix])
@pytest.mark.parametrize("second", [EpsShift, NormFix])
@pytest.mark.parametrize("other_optimizer", [False, True])
def test_one_treatment_a_weight(first, second, other_optimizer):
    net = model()
    optimizer = sgd(net)
    one = first(optimizer, net, include="^stem")
    assert claims(optimizer) == {net["stem"].weight: one.treatment}
    later = sgd(net) if other_optimizer else optimizer
    through = "another optimizer.*" if other_optimizer else ""
    with pytest.raises(ValueError, match=f"stem.weight already under {one.treatment}.*{through}"):
        second(later, net)
    assert owner_of(net["body"].weight) is None  # a failed attachment leaves nothing behind
    one.remove()
    second(later, net)


def test_removing_one_leaves_the_other_s_claim():
    net = model()
    optimizer = sgd(net)
    one, two = EpsShift(optimizer, net, include="^stem"), EpsShift(optimizer, net, include="^body")
    one.remove()
    assert owner_of(net["body"].weight) is two and owner_of(net["stem"].weight) is None
    with pytest.raises(ValueError, match="body.weight already"):
        NormFix(optimizer, net, include="body")


def test_a_forgotten_optimizer_holds_nothing():
    """As in a notebook whose cell runs again."""
    net = model()
    for _ in range(3):
        optimizer = sgd(net)
        EpsShift(optimizer, net, include="stem")
        NormFix(optimizer, net, exclude="stem")
    del optimizer
    gc.collect()
    assert owner_of(net["stem"].weight) is None


def test_a_copy_of_the_model_is_not_claimed():
    net = model()
    optimizer = sgd(net)
    EpsShift(optimizer, net)
    other = copy.deepcopy(net)
    NormFix(sgd(other), other)


def test_decay_or_absence_is_refused():
    net = model()
    with pytest.raises(ValueError, match="weight_decay=0"):
        NormFix(sgd(net, weight_decay=1e-4), net)
    with pytest.raises(ValueError, match="does not hold stem.weight"):
        NormFix(sgd(net["body"]), net)
    for attach in (NormFix, EpsShift):  # ASGD decays by 1e-4 where nobody asks it to
        with pytest.raises(ValueError, match="optimizer's lambd are both on .* with lambd=0"):
            attach(torch.optim.ASGD(net.parameters()), net)
    assert not any(owner_of(p) for p in net.parameters())


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
def test_an_optimizer_made_before_normalize_layers_is_refused(attach):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    optimizer = sgd(net)
    normalize_layers(net, dict(form="WN", gain=True))
    with pytest.raises(ValueError, match="not their gains g.*made before"):
        attach(optimizer, net)
    attach(sgd(net), net)


def test_gains_of_layers_that_no_treatment_gets_may_be_elsewhere():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), FixNormLinear(4, 2))
    NormFix(torch.optim.SGD([net[0].weight], lr=0.1), net, weights="conv")


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
@pytest.mark.parametrize("late", [False, True])
def test_another_optimizer_may_not_step_a_treated_weight(attach, late):
    net = model()
    optimizer = sgd(net)
    other = None if late else torch.optim.Adam(net.parameters())
    one = attach(optimizer, net, include="^stem")
    other = other or torch.optim.Adam(net.parameters())
    net["body"].weight.grad = torch.randn_like(net["body"].weight)
    other.step()  # not the one in question
    net["stem"].weight.grad = torch.zeros_like(net["stem"].weight)
    for _ in range(2):
        optimizer.step()
        with pytest.raises(RuntimeError, match=r"stem\.weight is under .* than the Adam"):
            other.step()
    net["stem"].weight.requires_grad_(False)  # as one that takes turns, whose weights rest
    other.step()
    net["stem"].weight.requires_grad_(True)
    one.remove()
    other.step()


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
def test_an_optimizer_that_wraps_the_one_attached_to_may(attach):
    class Outer(torch.optim.Optimizer):
        """As SAM: has the same groups, and its step is the inner one's."""

        def __init__(self, params):
            super().__init__(params, {})
            self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1)

        def step(self, closure=None):
            self.base_optimizer.step()

    net = model()
    outer = Outer(list(net.parameters()))
    attach(outer.base_optimizer, net)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    outer.step()


def test_a_forgotten_one_is_looked_for_once(monkeypatch):
    """Collecting garbage at every step would cost more than the step."""
    net = model()
    optimizer = sgd(net)
    NormFix(optimizer, net)
    optimizer = sgd(net)
    collect, times = gc.collect, []
    monkeypatch.setattr(gc, "collect", lambda: times.append(collect()))
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    for _ in range(5):
        optimizer.step()
    assert len(times) <= 1


def test_a_forgotten_one_does_not_stand_in_the_way():
    net = model()
    for _ in range(2):
        optimizer = sgd(net)
        NormFix(optimizer, net)
    optimizer = sgd(net)
    for p in net.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()


@pytest.mark.parametrize("first", ["words", "out"])
def test_an_embedding_that_is_a_classifier_too_is_not_rescaled(first):
    net = nn.ModuleDict({first: nn.Identity()})  # whichever is found first
    net.update(dict(words=nn.Embedding(7, 4), out=FixNormLinear(4, 7), conv=nn.Conv2d(3, 4, 1)))
    net["out"].weight = net["words"].weight
    name = rf"{first}\.weight"
    with pytest.raises(ValueError, match=rf"{name} is shared by '{first}', "):
        NormFix(sgd(net), net)
    assert NormFix(sgd(net), net, exclude=name).names == ["conv.weight"]
