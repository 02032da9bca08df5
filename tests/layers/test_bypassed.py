"""Layers whose weight somebody uses past their forward are refused, with who does."""

import sys

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
        pytest.param(
            beit, dict(form="WN", kind="linear"), "qkv", marks=pytest.mark.needs("mmpretrain")
        ),
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


@pytest.mark.needs("mmcv")
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


def convolve(conv, x):
    return F.conv2d(x, conv.weight, conv.bias)


helper = sys.modules[__name__]  # a module that functions are taken from


def _one_of_its_own(forward):
    """A module with one convolution of its own, which `forward` reaches in some way."""

    def body(self):
        nn.Module.__init__(self)
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 1)])
        self.conv = nn.Conv2d(3, 4, 1)

    helpers = dict(
        run=lambda self, x: F.conv2d(x, self.conv.weight),
        kernel=property(lambda self: 2 * self.conv.weight),
    )
    return type("Owner", (nn.Module,), dict(__init__=body, forward=forward) | helpers)()


def _by_a_variable(self, x):
    conv = self.conv
    return F.conv2d(x, conv.weight)


def _by_the_weight_s_variable(self, x):
    weight = self.conv.weight
    return F.conv2d(x, weight)


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (_by_a_variable, "conv"),
        (_by_the_weight_s_variable, "conv"),
        (lambda self, x: self.run(x), "conv"),
        (lambda self, x: F.conv2d(x, self.kernel), "conv"),
        (lambda self, x: convolve(self.conv, x), "conv"),
        (lambda self, x: helper.convolve(self.conv, x), "conv"),
        (lambda self, x: F.conv2d(x, self.convs[0].weight), "convs.0"),
        (lambda self, x: sum(F.conv2d(x, conv.weight) for conv in self.convs), "convs.0"),
        (lambda self, x: self.convs[0].weight.flatten(1) @ x.flatten(2), "convs.0"),
    ],
)
def test_a_weight_that_is_used_in_a_roundabout_way_is_refused(forward, name):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), _one_of_its_own(forward))
    with pytest.raises(ValueError, match=rf"'1.{name}', which is in a .*Owner.*uses its weight"):
        normalize_layers(model, dict(form="WN", layers=rf"^(0|1\.{name})$"))
    normalize_layers(model, dict(form="WN", layers="^0$"))


def test_what_is_read_of_other_layers_and_asked_of_weights_refuses_nothing():
    def forward(self, x):
        weight = self.conv.weight
        if weight.dtype != x.dtype or sum(conv.weight.numel() for conv in self.convs) != 12:
            raise ValueError
        return self.convs[0](x) + self.conv(x)

    owner = _one_of_its_own(forward)
    normalize_layers(owner, dict(form="WN"))
    owner(torch.randn(1, 3, 2, 2))

    def other(self, x):
        norm = self.norm
        return F.batch_norm(self.conv(x), None, None, norm.weight, training=True)

    owner = _one_of_its_own(other)
    owner.norm = nn.BatchNorm2d(4)
    normalize_layers(owner, dict(form="WN"))


def _one_norm_of_several(self, x, domain=0):
    norm = self.norms[domain]
    return F.batch_norm(self.conv(x), None, None, norm.weight, norm.bias, training=True)


def _a_penalty_on_norms(self, x):
    norms = [m for m in self.modules() if isinstance(m, nn.BatchNorm2d)]
    return self.conv(x) + sum(m.weight.abs().sum() for m in norms)


def _questions(self, x):
    weight = self.conv.weight
    if (self.conv.weight is not None and weight.is_cuda) or not weight.is_floating_point():
        raise ValueError
    return self.conv(x) + weight.new_zeros(1)


@pytest.mark.parametrize("forward", [_one_norm_of_several, _a_penalty_on_norms, _questions])
def test_weights_of_norms_and_further_questions_refuse_nothing(forward):
    owner = _one_of_its_own(forward)
    owner.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(4)])
    x = torch.randn(2, 3, 4, 4)
    before = owner(x)
    normalize_layers(owner, dict(form="WN"))
    torch.testing.assert_close(owner(x), before)


def test_what_a_module_reads_in_its_lists_is_not_what_lies_in_other_modules():
    owner = _one_of_its_own(lambda self, x: [F.conv2d(x, b.weight) for b in self.blocks])
    owner.blocks = nn.ModuleList([Asking(), nn.Sequential(nn.Conv2d(3, 4, 1))])
    with pytest.raises(ValueError, match=r"'blocks\.1\.0'.*uses its weight"):
        normalize_layers(owner, dict(form="WN", layers="blocks"))
    normalize_layers(owner, dict(form="WN", layers="blocks.0"))


@pytest.mark.needs("mmcv")
def test_mmcv_s_conv_module_is_taken():
    """Its method has the name of a function that uses the weight of what it is given."""
    from mmcv.cnn import ConvModule

    module = ConvModule(3, 4, 1, norm_cfg=dict(type="BN"))
    assert type(normalize_layers(module, dict(form="WS")).conv).__name__ == "WSConv2d"
