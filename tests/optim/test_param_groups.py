"""Parameter groups for plain torch: what gets decay, once each, in as few groups as there are."""

import pytest
import torch
from torch import nn

from normfix_mm import EpsShift, FixNormLinear, NormFix, WNConv2d, WSConv2d, param_groups


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = WSConv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.body = WNConv2d(4, 4, 3)
        self.plain = nn.Conv2d(4, 4, 1)
        self.fc = FixNormLinear(4, 2)
        self.again = self.fc


def decays(model, groups):
    names = {p: n for n, p in model.named_parameters()}
    return {names[p]: group["weight_decay"] for group in groups for p in group["params"]}


def test_what_the_shift_regularizes_and_biases_have_none():
    model = Net()
    groups = param_groups(model, weight_decay=0.1)
    assert decays(model, groups) == {
        "stem.weight": 0.0, "stem.bias": 0.0, "norm.weight": 0.1, "norm.bias": 0.0,
        "body.weight": 0.0, "body.bias": 0.0, "body.g": 0.1, "plain.weight": 0.1,
        "plain.bias": 0.0, "fc.weight": 0.1, "fc.bias": 0.0, "fc.g": 0.1,
    }  # fmt: skip
    assert len(groups) == 2
    EpsShift(torch.optim.SGD(groups, lr=0.1), model)


def test_what_is_norm_fixed_has_none():
    model = Net()
    groups = param_groups(model, 0.1, eps_shift=False, norm_fix=True)
    assert {n for n, d in decays(model, groups).items() if d} == {"norm.weight", "body.g", "fc.g"}
    NormFix(torch.optim.SGD(groups, lr=0.1), model)
    groups = param_groups(model, 0.1, eps_shift=False, norm_fix=dict(weights="conv"))
    assert decays(model, groups)["fc.weight"] == 0.1


@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize("norms", [False, True])
def test_biases_and_norms_as_asked(biases, norms):
    model = Net()
    found = decays(model, param_groups(model, 0.1, decay_biases=biases, decay_norms=norms))
    assert found["plain.bias"] == found["norm.bias"] == (0.1 if biases else 0.0)
    assert found["norm.weight"] == found["fc.g"] == (0.1 if norms else 0.0)
    assert found["plain.weight"] == 0.1 and found["stem.weight"] == 0.0


def test_narrowed_as_the_shift_itself():
    model = Net()
    groups = param_groups(model, 0.1, eps_shift=dict(include="stem"))
    found = decays(model, groups)
    assert found["stem.weight"] == 0.0 and found["body.weight"] == 0.1
    EpsShift(torch.optim.SGD(groups, lr=0.1), model, include="stem")
    with pytest.raises(ValueError, match="matches no weight"):
        param_groups(model, 0.1, eps_shift=dict(include="steam"))


def test_further_options_and_parameters_left_out():
    model = Net()

    def options(name, param):
        if name.startswith("plain"):
            return None
        return dict(lr=0.01, weight_decay=0.3) if name.startswith(("norm", "stem")) else {}

    groups = param_groups(model, 0.1, options=options)
    found = decays(model, groups)
    assert "plain.weight" not in found and found["norm.weight"] == found["norm.bias"] == 0.3
    assert found["stem.weight"] == 0.0  # regularized by the shift, whatever is asked
    assert {g.get("lr") for g in groups} == {None, 0.01}


def test_frozen_parameters_are_there_to_thaw_and_shared_ones_once():
    model = Net()
    model.body.requires_grad_(False)
    groups = param_groups(nn.DataParallel(model), 0.1)
    params = [p for g in groups for p in g["params"]]
    assert len(params) == len(set(params)) == len(list(model.parameters()))


def test_without_a_decay_the_optimizer_s_own_holds():
    groups = param_groups(Net(), None)
    assert [g.get("weight_decay") for g in groups] == [0.0, None]


def test_biases_of_attention_and_recurrent_layers_are_biases():
    net = nn.ModuleDict(dict(words=nn.LSTM(3, 4), heads=nn.MultiheadAttention(4, 2)))
    found = decays(net, param_groups(net, 0.1, eps_shift=False))
    assert {name for name, decay in found.items() if not decay} == {
        "words.bias_ih_l0",
        "words.bias_hh_l0",
        "heads.in_proj_bias",
        "heads.out_proj.bias",
    }
