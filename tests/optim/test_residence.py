"""A treatment notices that the layers it was given are no longer those of the model."""

import copy

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, NormFix, WSConv2d, normalize_layers, param_groups


def net():
    body = nn.Sequential(WSConv2d(3, 4, 3), nn.BatchNorm2d(4))
    return nn.ModuleDict(dict(body=body, neck=nn.Conv2d(4, 4, 1), head=WSConv2d(4, 2, 1)))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


ATTACH = pytest.mark.parametrize("attach", [EpsShift, NormFix])


@ATTACH
@pytest.mark.parametrize("added", [False, True])
def test_a_replaced_layer_stops_the_run(attach, added):
    """As a classifier for other classes."""
    model = net()
    optimizer = sgd(model)
    attach(optimizer, model)
    model["head"] = WSConv2d(4, 7, 1)
    if added:
        optimizer.add_param_group(dict(params=list(model["head"].parameters())))
    with pytest.raises(RuntimeError, match=r"head\.weight were replaced after"):
        optimizer.step()


@ATTACH
def test_so_does_a_replaced_part(attach):
    model = nn.ModuleDict(dict(inner=net()))
    optimizer = sgd(model)
    attach(optimizer, model)
    model["inner"]["body"] = net()["body"]
    with pytest.raises(RuntimeError, match=r"inner\.body\.0\.weight were replaced after"):
        optimizer.step()


@ATTACH
def test_so_does_a_layer_that_comes_later(attach):
    model = net()
    optimizer = sgd(model)
    attach(optimizer, model)
    model["more"] = WSConv2d(2, 2, 1)
    optimizer.add_param_group(dict(params=list(model["more"].parameters())))
    with pytest.raises(RuntimeError, match=r"more\.weight came into the model"):
        optimizer.step()


@ATTACH
def test_so_does_a_layer_that_is_normalized_later(attach):
    model = net()
    optimizer = sgd(model)
    one = attach(optimizer, model)
    normalize_layers(model, dict(form="WS"))
    with pytest.raises(RuntimeError, match=r"neck\.weight .*normalized after"):
        optimizer.step()
    one.remove()
    attach(optimizer, model)
    optimizer.step()
    normalize_layers(nn.Conv2d(3, 4, 3), dict(form="WS"))  # of no concern to this model
    optimizer.step()


class Around(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner


@ATTACH
def test_a_wrapper_around_a_layer_is_no_replacement(attach):
    """Activation checkpointing, compilation, adapters."""
    model = net()
    optimizer = sgd(model)
    one = attach(optimizer, model)
    model["body"] = Around(model["body"])
    model["head"] = Around(model["head"])
    for p in model.parameters():
        p.grad = torch.randn_like(p)
    optimizer.step()
    model["head"] = model["head"].inner
    optimizer.step()
    if attach is NormFix:
        torch.testing.assert_close(one.joint_norm(), one.target, rtol=1e-6, atol=0)
    del model["head"]
    with pytest.raises(RuntimeError, match="head.weight were replaced"):
        optimizer.step()


@pytest.mark.parametrize("decay", [-1e-4, "1e-4", float("nan"), float("inf"), True])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match="Invalid weight_decay"):
        param_groups(net(), decay)


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
def test_a_frozen_copy_of_the_model_is_refused(attach):
    """Nothing of it will ever train; a model whose frozen weights are to join later may be."""
    model = normalize_layers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2)), dict(form="WS"))
    teacher = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="holds no parameter of this model.*teacher"):
        attach(optimizer, teacher)
    model[0].requires_grad_(False)
    attach(torch.optim.SGD(model[1].parameters(), lr=0.1), model)
