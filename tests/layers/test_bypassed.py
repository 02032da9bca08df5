"""Layers whose weight somebody uses past their forward are refused, with who does."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from normfix_mm import EpsShift, NormFix, WNConv2d, WNLinear, fold, normalize_layers
from normfix_mm.layers.bypassed import bypass
from normfix_mm.layers.gain import settle_gains


class Direct(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.scale = nn.Linear(4, 12), 2.0

    def forward(self, x):
        return F.linear(x, self.qkv.weight * self.scale)


class Deep(nn.Module):
    """Two levels down, in a function that it defines, in a method beside `forward`."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential()
        self.block.conv = nn.Conv2d(3, 4, 1)

    def forward_features(self, x):
        def run(x):
            return F.conv2d(x, self.block.conv.weight)

        return checkpoint(run, x, use_reentrant=False)


class Asking(nn.Module):
    """Only asks what the weight is."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def init_weights(self):
        nn.init.normal_(self.conv.weight)

    def forward(self, x):
        assert self.conv.weight.requires_grad and self.conv.weight.shape[0] == 4
        return self.conv(x.to(self.conv.weight.dtype).to(self.conv.weight.device))


def beit():
    from mmpretrain.models.utils import BEiTAttention

    return BEiTAttention(8, num_heads=2, window_size=(2, 2), use_rel_pos_bias=True)


@pytest.mark.parametrize(
    ("make", "rule", "name"),
    [
        (Direct, dict(form="WN", kind="linear"), "qkv"),
        (lambda: nn.Sequential(nn.Identity(), Direct()), dict(form="WN", kind="linear"), "1.qkv"),
        (Deep, dict(form="WS"), "block.conv"),
        (lambda: nn.TransformerEncoderLayer(8, 2, 16), dict(form="WN", kind="linear"), "linear1"),
        (beit, dict(form="WN", kind="linear"), "qkv"),
    ],
)
def test_it_is_refused_by_name(make, rule, name):
    model = make()
    with pytest.raises(ValueError, match=rf"layer '{name}', which is in a .*uses its weight dir"):
        normalize_layers(model, rule | dict(layers=rf"{name}$"))


def test_asking_a_weight_what_it_is_is_no_use_of_it():
    model = normalize_layers(Asking(), dict(form="WN"))
    model(torch.randn(1, 3, 2, 2))


def test_torch_s_fast_path_is_what_would_be_wrong():
    """In evaluation it multiplies by the raw weight: the reason for all this, as long as it is."""
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    assert bypass(model, "linear1") and bypass(model, "linear2")
    WNLinear.adopt(model.linear1)
    x = torch.randn(2, 5, 8)
    model(x).sum().backward()
    with torch.no_grad():
        model.linear1.g.mul_(3.0)
        assert not torch.allclose(model.train()(x), model.eval()(x))


@pytest.mark.parametrize("attach", [EpsShift, NormFix])
def test_a_layer_built_so_gets_no_treatment(attach):
    """As TOOD's TaskDecomposition with a conv_cfg."""
    model = nn.Sequential(nn.BatchNorm2d(3), Deep())
    model[1].block.conv = WNConv2d(3, 4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"'1\.block\.conv', a WNConv2d, is in a .*Deep"):
        attach(optimizer, model)
    with pytest.raises(TypeError, match=r"1\.block\.conv.*Deep"):
        fold(model)


def test_mmcv_s_shortcut_for_a_bn_in_evaluation_mode_is_refused():
    """efficient_conv_bn_eval multiplies the raw weight by that of the BN."""
    from mmcv.cnn import ConvModule

    options = dict(norm_cfg=dict(type="BN"), efficient_conv_bn_eval=True)
    with pytest.raises(ValueError, match=r"'conv', which is in a .*efficient_conv_bn_eval"):
        normalize_layers(ConvModule(3, 4, 1, **options), dict(form="WS"))
    built = ConvModule(3, 4, 1, conv_cfg=dict(type="WSConv2d"), **options)
    with pytest.raises(ValueError, match=r"'conv', a WSConv2d, .*efficient_conv_bn_eval"):
        settle_gains(built)
    settle_gains(ConvModule(3, 4, 1, conv_cfg=dict(type="WSConv2d"), norm_cfg=dict(type="BN")))
