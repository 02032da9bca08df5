"""The one table: what each parameter is, and one treatment a weight."""

import pytest
from torch import nn

from normfix_mm import FixNormConv2d, WNConv2d, WNLinear, WSConv2d
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


@pytest.mark.skipif(not hasattr(nn, "RMSNorm"), reason="torch < 2.4")
def test_rms_norm_is_a_norm():
    infos = selection.weights_of(nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4)))
    assert {w.name: w.kind for w in infos}["1.weight"] == "norm"
