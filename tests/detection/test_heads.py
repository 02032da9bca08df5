"""RetinaNet heads: which layer becomes what, initialization, stock checkpoints, the cap."""

import math

import pytest
import torch
from mmdet.models.dense_heads import RetinaHead
from torch import nn

from normfix_mm import FixNormConv2d, WNConv2d
from normfix_mm.detection import FixNormRetinaHead, WNRetinaHead

SIZES = dict(num_classes=3, in_channels=8, feat_channels=8, stacked_convs=2)
HEADS = [FixNormRetinaHead, WNRetinaHead]
GN = dict(type="GN", num_groups=2)


def pair(cls, **options):
    """A stock head after its own initialization and one of ours that loaded its checkpoint."""
    common = SIZES | {k: options.pop(k) for k in list(options) if k in ("norm_cfg", "conv_cfg")}
    torch.manual_seed(1)
    stock = RetinaHead(**common)
    stock.init_weights()
    ours = cls(**common, **options)
    missing, unexpected = ours.load_state_dict(stock.state_dict(), strict=True)
    assert not missing and not unexpected
    return stock, ours


def test_every_convolution_without_a_norm_is_normalized():
    for cls, classifier in ((FixNormRetinaHead, FixNormConv2d), (WNRetinaHead, WNConv2d)):
        stock, ours = pair(cls)
        convolutions = [n for n, m in stock.named_modules() if isinstance(m, nn.Conv2d)]
        assert len(convolutions) == 2 * SIZES["stacked_convs"] + 2
        for name in convolutions:
            kind = classifier if name == "retina_cls" else WNConv2d
            layer = ours.get_submodule(name)
            assert type(layer) is kind, name
            assert layer.g.numel() == (1 if kind is FixNormConv2d else layer.out_channels)
        gains = {f"{name}.g" for name in convolutions}
        assert set(ours.state_dict()) == set(stock.state_dict()) | gains


@pytest.mark.parametrize("cls", HEADS)
def test_towers_with_a_norm_stay_plain(cls):
    stock, ours = pair(cls, norm_cfg=GN)
    normalized = [n for n, m in ours.named_modules() if isinstance(m, nn.Conv2d) and "g" in dir(m)]
    assert normalized == ["retina_cls", "retina_reg"]
    tower = [n for n, m in stock.named_modules() if isinstance(m, nn.Conv2d) and "convs" in n]
    assert len(tower) == 4 and all(type(ours.get_submodule(n)) is nn.Conv2d for n in tower)


def test_towers_keep_the_conv_cfg_of_the_config():
    head = FixNormRetinaHead(**SIZES, conv_cfg=dict(type="WNConv2d", gain=False))
    assert all(m.conv.g is None for m in [*head.cls_convs, *head.reg_convs])
    assert FixNormRetinaHead(**SIZES | dict(stacked_convs=0)).retina_reg.g is not None


@pytest.mark.parametrize("cls", HEADS)
def test_initialization_is_the_stock_head_s(cls):
    head = cls(**SIZES | dict(feat_channels=64, in_channels=64))
    head.init_weights()
    for name, layer in head.named_modules():
        if isinstance(layer, nn.Conv2d):
            assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.05), name
            bias = -math.log(99) if name == "retina_cls" else 0.0
            torch.testing.assert_close(layer.bias, torch.full_like(layer.bias, bias))
            torch.testing.assert_close(layer.normalized_weight(), layer.weight)


@pytest.mark.parametrize("cls", HEADS)
@pytest.mark.parametrize("norm_cfg", [None, GN])
def test_a_stock_checkpoint_keeps_its_function(cls, norm_cfg):
    stock, ours = pair(cls, norm_cfg=norm_cfg)
    x = torch.randn(2, 8, 9, 7)
    for got, expected in zip(ours.forward_single(x), stock.forward_single(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_the_cap_is_alpha_times_the_root_of_the_outputs():
    alpha = 0.01
    stock, ours = pair(FixNormRetinaHead, alpha=alpha)
    x = torch.randn(2, 8, 9, 7)
    bias = stock.retina_cls.bias.view(-1, 1, 1)
    cap = alpha * math.sqrt(9 * SIZES["num_classes"])
    norm = float(stock.retina_cls.weight.detach().norm())
    assert cap < norm
    scores, boxes = stock.forward_single(x)
    capped, same = ours.forward_single(x)
    torch.testing.assert_close(capped, (scores - bias) * cap / norm + bias, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(same, boxes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cls", HEADS)
def test_the_outputs_do_not_see_the_scale_of_any_weight(cls):
    _, head = pair(cls)
    x = torch.randn(1, 8, 9, 7)
    expected = [y.detach() for y in head.forward_single(x)]
    head.load_state_dict(head.state_dict())  # from here on g no longer follows the weight
    for layer in head.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.mul_(3.0)
    for got, y in zip(head.forward_single(x), expected, strict=True):
        torch.testing.assert_close(got, y, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        FixNormRetinaHead(**SIZES, alpha=alpha)
