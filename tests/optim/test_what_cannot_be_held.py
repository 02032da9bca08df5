"""Weights that no treatment can hold are named, instead of passed over; parameters that move."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from normfix_mm import EpsShift, NormFix, WSConv2d, normalize_layers, param_groups


def net():
    return nn.Sequential(WSConv2d(3, 4, 3), nn.BatchNorm2d(4), WSConv2d(4, 4, 3))


class Twice(nn.Module):
    def forward(self, w):
        return 2 * w


def pruned(layer):
    prune.l1_unstructured(layer, "weight", 0.5)


def parametrized(layer):
    parametrize.register_parametrization(layer, "weight", Twice())


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
@pytest.mark.parametrize("spoil", [pruned, parametrized, parametrizations.weight_norm])
def test_a_computed_weight_is_refused_by_name(attach, spoil):
    model = net()
    spoil(model[2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"2\.weight is computed .*exclude='2"):
        attach(optimizer, model)
    assert [i.name for i in attach(optimizer, model, exclude=r"2\.weight").infos] == ["0.weight"]


@pytest.mark.parametrize("spoil", [parametrizations.weight_norm, nn.utils.spectral_norm])
def test_a_plain_convolution_under_torch_s_norms_is_refused_by_norm_fixing(spoil):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), spoil(nn.Conv2d(4, 4, 3)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"2\.weight is computed"):
        NormFix(optimizer, model)
    with pytest.raises(ValueError, match=r"2\.weight is computed"):
        param_groups(model, 1e-4, eps_shift=False, norm_fix=True)
    assert NormFix(optimizer, model, include="^0").names == ["0.weight"]


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
@pytest.mark.parametrize("spoil", [pruned, parametrized])
def test_a_weight_that_is_computed_since_stops_the_run(attach, spoil):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    attach(optimizer, model)
    spoil(model[2])
    with pytest.raises(RuntimeError, match=r"2\.weight was sharded or replaced .*pruning"):
        optimizer.step()


@pytest.mark.parametrize("plain", [0, 1])
def test_a_weight_shared_by_layers_of_two_forms_is_refused(plain):
    model = nn.Sequential(*[nn.Conv2d(4, 4, 3) for _ in range(3)])
    normalize_layers(model, dict(form="WS", exclude=str(plain)))
    model[1].weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"0\.weight is shared by '0', '1'"):
        EpsShift(optimizer, model)
    assert [i.name for i in EpsShift(optimizer, model, exclude="^0").infos] == ["2.weight"]


def test_a_weight_that_the_optimizer_gets_later_has_one_treatment():
    model = net()
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD([*model[0].parameters(), *model[1].parameters()], lr=0.1)
    shift = EpsShift(optimizer, model)
    model[2].requires_grad_(True)
    optimizer.add_param_group(dict(params=list(model[2].parameters())))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    with pytest.raises(ValueError, match=r"2\.weight already under ε-shift"):
        NormFix(optimizer, model, include="^2")
    shift.remove()
    NormFix(optimizer, model, include="^2")


def test_weights_that_change_places_in_the_optimizer():
    """As many parameters as before, and others: what left it is no longer rescaled."""
    convs = [nn.Conv2d(3, 4, 3, bias=False) for _ in range(3)]
    model = nn.ModuleList(convs)
    model[2].requires_grad_(False)
    optimizer = torch.optim.SGD([model[0].weight, model[1].weight], lr=0.1)
    fixing = NormFix(optimizer, model)
    model[1].requires_grad_(False)
    model[2].requires_grad_(True)
    optimizer.param_groups[0]["params"][1] = model[2].weight
    norm = torch.stack([model[k].weight.detach().double().norm() for k in (0, 2)]).norm()
    for k in (0, 2):
        model[k].weight.grad = torch.randn_like(model[k].weight)
    kept = model[1].weight.detach().clone()
    optimizer.step()
    assert fixing.names == ["0.weight", "2.weight"]
    torch.testing.assert_close(fixing.joint_norm(), norm, rtol=1e-6, atol=0)
    assert torch.equal(model[1].weight, kept)
