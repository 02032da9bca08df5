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
