"""Optimizers whose step calls their parent's, whose hooks are the same: the edit is made once.

torch puts the hooks around the parent's step, too, once a program has made a parent.
"""

import copy

import pytest
import torch

from normfix_mm import EpsShift, NormFix, WNConv2d


def extended(base, edit=None):
    """A class that extends torch's and calls its step, after an edit of the gradients."""

    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if edit is not None:
                    edit(p)
        return base.step(self, closure)

    return type("Extended", (base,), dict(step=step))


def centralize(p):
    p.grad.sub_(p.grad.mean())


def centralized(p):
    p.grad = p.grad - p.grad.mean()


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("edit", [None, centralize, centralized])
def test_the_same_as_without_a_parent(base, decoupled, edit):
    torch.manual_seed(0)
    layer = WNConv2d(3, 4, 3, gain=False, bias=False)
    plain = copy.deepcopy(layer)
    base(layer.parameters(), lr=0.1)  # from now on the parent's step has hooks as well
    # One whose parent was never made, and so runs them once.
    fresh = type("Fresh", (base,), dict(step=base.step.__wrapped__))
    optimizers = []
    for one, kind in ((layer, extended(base, edit)), (plain, extended(fresh, edit))):
        optimizer = kind(one.parameters(), lr=0.1, weight_decay=0.0)
        EpsShift(optimizer, one, lam=0.5, eps=0.01, decoupled=decoupled)
        optimizers.append(optimizer)
    for _ in range(3):
        gradient = torch.randn_like(layer.weight)
        for one, optimizer in zip((layer, plain), optimizers, strict=True):
            one.weight.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(layer.weight, plain.weight)


def test_decoupled_decay_is_that_of_adamw():
    layer = WNConv2d(3, 4, 3, gain=False, bias=False)
    other = copy.deepcopy(layer)
    optimizer = extended(torch.optim.AdamW)(layer.parameters(), lr=0.1, weight_decay=0.0)
    EpsShift(optimizer, layer, lam=0.5, eps=0.0, decoupled=True)
    plain = torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        gradient = torch.randn_like(layer.weight)
        layer.weight.grad, other.weight.grad = gradient.clone(), gradient.clone()
        optimizer.step(), plain.step()
    torch.testing.assert_close(layer.weight, other.weight)


def test_a_norm_is_held_through_both():
    layer = WNConv2d(3, 4, 3)
    torch.optim.SGD(layer.parameters(), lr=0.1)
    optimizer = extended(torch.optim.SGD)(layer.parameters(), lr=0.1)
    fixing = NormFix(optimizer, layer)
    for p in layer.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    torch.testing.assert_close(fixing.joint_norm(), fixing.target, rtol=1e-6, atol=0)


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_a_step_that_fails_and_is_made_anew(decoupled, set_to_none):
    """With new gradients: neither the old ones nor a second edit come in."""
    layer = WNConv2d(3, 4, 3, gain=False, bias=False)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    EpsShift(optimizer, layer, lam=0.5, eps=0.0, decoupled=decoupled)
    handle = optimizer.register_step_pre_hook(lambda *_: 1 / 0)
    layer.weight.grad = torch.randn_like(layer.weight)
    before = layer.weight.detach().norm()
    with pytest.raises(ZeroDivisionError):
        optimizer.step()
    handle.remove()
    optimizer.zero_grad(set_to_none)
    (layer.weight * 0).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer.weight.detach().norm(), 0.95 * before)
