"""The one table: what each parameter is, and one treatment a weight."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from normfix_mm import FixNormConv2d, NormFix, WNConv2d, WNLinear, WSConv2d
from normfix_mm.optim import weights as selection


def model() -> nn.Module:
    shared = nn.Conv2d(4, 4, 1)
    return nn.ModuleDict(
        {
            "stem": WSConv2d(3, 4, 3),
            "bn": nn.BatchNorm2d(4),
            "plain": shared,
            "again": shared,
            "reg": WNConv2d(4, 4, 3),
            "frozen": WSConv2d(4, 4, 1).requires_grad_(False),
            "cls": FixNormConv2d(4, 8, 3),
            "fc": nn.Linear(8, 2),
            "wn_fc": WNLinear(8, 2),
        }
    )


def names(infos):
    return [w.name for w in infos]


def test_every_distinct_parameter_once():
    net = model()
    infos = selection.weights_of(net)
    assert names(infos) == [name for name, _ in net.named_parameters()]
    what = {w.name: (w.kind, w.form, w.per_filter) for w in infos}
    assert what["stem.weight"] == ("conv", "WS", True)
    assert what["stem.bias"] == ("bias", None, False)
    assert what["bn.bias"] == ("norm", None, False)
    assert what["plain.weight"] == ("conv", None, False)
    assert what["reg.weight"] == ("conv", "WN", True)
    assert what["reg.g"] == ("gain", None, False)
    assert what["cls.weight"] == ("conv", "FixNorm", False)
    assert what["wn_fc.weight"] == ("linear", "WN", False)


@pytest.mark.needs("mmcv")
def test_mmcv_layers_are_recognized():
    from mmcv.cnn.bricks.conv_ws import ConvAWS2d, ConvWS2d

    net = nn.Sequential(ConvWS2d(3, 4, 3), ConvAWS2d(4, 4, 3))
    forms = {w.name: w.form for w in selection.weights_of(net) if w.kind == "conv"}
    assert forms == {"0.weight": "WS", "1.weight": "AWS"}


def test_what_each_method_takes():
    net = model()
    assert names(selection.eps_shift_weights(net)) == ["stem.weight", "reg.weight"]
    assert names(selection.norm_fix_weights(net, "conv")) == [
        "stem.weight",
        "plain.weight",
        "reg.weight",
    ]
    assert names(selection.norm_fix_weights(net)) == [
        "stem.weight",
        "plain.weight",
        "reg.weight",
        "cls.weight",
        "wn_fc.weight",
    ]


def test_patterns_narrow_and_must_match():
    net = model()
    assert names(selection.norm_fix_weights(net, exclude="^(plain|cls)")) == [
        "stem.weight",
        "reg.weight",
        "wn_fc.weight",
    ]
    assert names(selection.eps_shift_weights(net, include=["stem"])) == ["stem.weight"]
    with pytest.raises(ValueError, match="stme.*stem.weight"):
        selection.eps_shift_weights(net, include="stme")
    with pytest.raises(ValueError, match="conv\\+classifier"):
        selection.norm_fix_weights(net, "convs")


@pytest.mark.parametrize("pattern", ["(stem", "[", 5, ["stem", None]])
def test_a_pattern_that_is_none_is_one_sentence(pattern):
    with pytest.raises(ValueError, match="is no regular expression"):
        selection.norm_fix_weights(model(), include=pattern)


@pytest.mark.parametrize("wrap", [nn.DataParallel, AveragedModel, torch.compile])
def test_names_are_the_model_s_own_whatever_is_wrapped_around_it(wrap):
    """So that patterns, and the state that norm fixing saves, are the same with and without."""
    net = model()
    of_itself = names(selection.norm_fix_weights(net)), names(selection.eps_shift_weights(net))
    net = wrap(net)
    wrapped = names(selection.norm_fix_weights(net)), names(selection.eps_shift_weights(net))
    assert wrapped == of_itself
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    assert NormFix(optimizer, net, include="^stem").names == ["stem.weight"]


def test_a_layer_without_a_weight_yet_is_named():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Conv2d(4, 4, 3))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"0\.weight has no weight yet: run the model once"):
        NormFix(optimizer, net)
    assert NormFix(optimizer, net, exclude="^0").names == ["1.weight"]
    with torch.device("meta"):
        net = nn.Conv2d(3, 4, 3)
    with pytest.raises(ValueError, match="meta device"):
        NormFix(torch.optim.SGD(net.parameters(), lr=0.1), net)


@pytest.mark.skipif(not hasattr(nn, "RMSNorm"), reason="torch < 2.4")
def test_rms_norm_is_a_norm():
    infos = selection.weights_of(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4)))
    assert {w.name: w.kind for w in infos}["1.weight"] == "norm"
