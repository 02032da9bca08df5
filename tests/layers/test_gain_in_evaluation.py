"""Training a layer that is in evaluation mode, as whole models with frozen statistics are."""

import pytest
import torch
from layers.sample_layers import GAINED, sample
from torch import nn

from normfix_mm.layers.gain import settle_gains


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_weight_initialized_late_is_one_sentence(cls, shape):
    layer = cls(*shape).eval()
    nn.init.normal_(layer.weight, std=3.0)
    out, g = layer(sample(layer)), layer.g.detach().clone()
    with torch.no_grad():
        layer(sample(layer))
    assert torch.equal(layer.g, g)  # looking at it says and changes nothing
    with pytest.raises(RuntimeError, match="reset_gains"):
        out.sum().backward()


@pytest.mark.parametrize(("cls", "shape"), GAINED)
def test_a_gain_that_rests_there_stays(cls, shape):
    layer = cls(*shape).eval()
    layer.g.requires_grad_(False)
    g = layer.g.detach().clone()
    optimizer = torch.optim.SGD([layer.weight, layer.bias], lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        layer(sample(layer)).square().sum().backward()
        optimizer.step()
    assert not torch.allclose(layer.weight.reshape(len(g), -1).norm(dim=1), g, rtol=1e-3)
    settle_gains(layer)
    layer.train()(sample(layer)).sum().backward()
    assert torch.equal(layer.g, g)
