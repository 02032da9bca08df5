"""Decode heads with FixNorm's classifier: which layer becomes what, checkpoints, caps, invariance.

What must be normalized is derived from the stock head: its convolutions, without those that a
ConvModule follows up with a norm.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.stock_models import bare_layers, head_and_stock
from mmdet.registry import MODELS as MMDET
from mmengine.registry import MODELS
from mmseg.models.decode_heads import NLHead
from mmseg.registry import MODELS as MMSEG
from torch import nn

from normfix_mm import FixNormConv2d, WNConv2d, segmentation

CLASSES = 5
ONE = dict(num_classes=CLASSES, in_channels=8, channels=8, in_index=1)
FOUR = dict(num_classes=CLASSES, in_channels=[4, 8], channels=8, in_index=[0, 1])
KINDS = {
    "FixNormFCNHead": [ONE, ONE | dict(num_convs=0, concat_input=False)],
    "FixNormPSPHead": [ONE | dict(pool_scales=(1, 2))],
    "FixNormASPPHead": [ONE | dict(dilations=(1, 2))],
    "FixNormDepthwiseSeparableASPPHead": [
        ONE | dict(dilations=(1, 2), c1_in_channels=4, c1_channels=4)
    ],
    "FixNormUPerHead": [FOUR | dict(pool_scales=(1, 2))],
    "FixNormOCHead": [ONE | dict(context=context) for context in ("base", "asp", "pyramid")],
    "FixNormOCRHead": [ONE | dict(ocr_channels=4)],
}
CASES = [
    pytest.param(
        SimpleNamespace(cls=getattr(segmentation, name), options=options | norm),
        id=f"{name}-{i}{'-BN' if norm else ''}",
    )
    for name, several in KINDS.items()
    for i, options in enumerate(several)
    for norm in ({}, dict(norm_cfg=dict(type="BN")))
]
heads = pytest.mark.parametrize("c", CASES)


def pair(c, **options):
    """A stock head and one of ours that loaded its checkpoint, strictly."""
    stock, ours = head_and_stock(c.cls, c.options, **options)
    for head in (stock, ours):
        head.dropout = None
    return stock.train(), ours.train()


def logits(head) -> torch.Tensor:
    """Of two levels, in training mode: the norms take statistics of the batch."""
    noise = torch.Generator().manual_seed(0)
    levels = [
        torch.randn(2, channels, *size, generator=noise)
        for channels, size in ((4, (18, 14)), (8, (9, 7)))
    ]
    if isinstance(head, segmentation.FixNormOCRHead.stock):
        return head(levels, torch.randn(2, CLASSES, 9, 7, generator=noise))
    return head(levels)


@heads
def test_every_layer_without_a_norm_is_normalized_and_no_other(c):
    stock, ours = pair(c)
    bare = bare_layers(stock)
    if c.options.get("norm_cfg"):
        assert {name.split(".")[-1] for name in bare} - {"f_value", "W"} == {"conv_seg"}
    for name, layer in stock.named_modules():
        got = ours.get_submodule(name) if name else None
        if name == "conv_seg":
            assert type(got) is FixNormConv2d
        elif name in bare:
            assert type(got) is WNConv2d and got.gain, name
        else:
            assert name in ("", "dropout") or type(got) is type(layer), name
    assert set(ours.state_dict()) == set(stock.state_dict()) | {f"{name}.g" for name in bare}


@heads
def test_a_stock_checkpoint_keeps_its_function(c):
    stock, ours = pair(c)
    expected = logits(stock)
    assert expected.shape[1] == CLASSES and expected.std() > 0
    torch.testing.assert_close(logits(ours), expected, rtol=1e-5, atol=1e-6)


@heads
def test_the_cap_is_alpha_times_the_root_of_the_classes(c):
    stock, ours = pair(c, alpha=1e-3)
    with torch.no_grad():  # the same cap, put on the stock head by hand
        cap = 1e-3 * math.sqrt(CLASSES)
        assert cap < stock.conv_seg.weight.norm()
        stock.conv_seg.weight.mul_(cap / stock.conv_seg.weight.norm())
    torch.testing.assert_close(logits(ours), logits(stock), rtol=1e-5, atol=1e-6)


@heads
def test_the_logits_do_not_see_the_scale_of_any_weight(c):
    """Those with a norm behind them neither: batch statistics divide it out, but for BN's eps."""
    _, head = pair(c)
    expected = logits(head).detach()
    head.load_state_dict(head.state_dict())  # from here on g no longer follows the weight
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(3.0)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eps *= 9.0
    torch.testing.assert_close(logits(head), expected, rtol=1e-4, atol=1e-5)


@heads
def test_initialization_is_the_stock_head_s(c):
    """From one seed the weights agree, the override of conv_seg too, and gains are their norms.

    Only a weight of zeros has become a direction with the gain 0.
    """
    made = []
    for cls in (c.cls.stock, c.cls):
        torch.manual_seed(3)
        head = cls(**c.options)
        torch.manual_seed(4)
        head.init_weights()
        made.append(head)
    stock, ours = made
    for name, value in stock.state_dict().items():
        if name.endswith(".W.weight"):
            assert not value.any() and ours.state_dict()[name].flatten(1).any(1).all()
        else:
            torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0, msg=name)
    norm = 0.01 * math.sqrt(8 * CLASSES)
    assert 0.7 * norm < ours.conv_seg.weight.norm() < 1.4 * norm
    for name, layer in bare_layers(stock).items():
        got = ours.get_submodule(name).normalized_weight()
        torch.testing.assert_close(got, layer.weight, rtol=1e-5, atol=1e-7)


@heads
def test_names_are_in_the_root_registry_and_options_known(c):
    assert MODELS.module_dict[c.cls.__name__] is c.cls
    assert MMSEG.get(c.cls.__name__) is MMDET.get(c.cls.__name__) is c.cls
    assert c.cls.own_options == ("alpha", "gain_start")
    with pytest.raises(ValueError, match="alpha"):
        c.cls(**c.options, alpha=0.0)


def test_a_decode_head_of_one_s_own():
    class FixNormMine(segmentation.FixNormDecode, NLHead):
        pass

    head = FixNormMine(**ONE, alpha=2.0)
    assert FixNormMine.stock is NLHead
    assert {type(m) for m in head.modules() if isinstance(m, nn.Conv2d)} == {
        FixNormConv2d,
        WNConv2d,
    }
    assert head.conv_seg.cap == pytest.approx(2 * math.sqrt(CLASSES))
