"""MMPretrain's backbones with normalized layers: names, registries, padding, heads."""

import copy
import pickle

import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.models import backbones
from mmpretrain.registry import MODELS as PRETRAIN
from torch import nn

from normfix_mm import FixNormLinear, WNLinear, WSConv2d, classification, detection, fold
from normfix_mm.models.mixins import Normalized
from normfix_mm.models.same_padding import plain_same_padding

SMALL = dict(depth=18, base_channels=8, stem_channels=8)


def test_every_backbone_of_mmpretrain_has_its_normalized_one():
    names = {f"Normalized{name}" for name in backbones.__all__}
    assert names <= set(classification.__all__)
    for name in names:
        ours = getattr(classification, name)
        assert ours.stock is getattr(backbones, name.removeprefix("Normalized"))
        assert PRETRAIN.module_dict[name] is ours and pickle.loads(pickle.dumps(ours)) is ours


def test_a_bare_name_is_that_of_the_scope_and_no_package_overwrites_another():
    config = dict(type="NormalizedResNet", **SMALL)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        assert type(MODELS.build(copy.deepcopy(config))) is classification.NormalizedResNet
    with DefaultScope.overwrite_default_scope("mmdet"):
        assert type(MODELS.build(copy.deepcopy(config))) is detection.NormalizedResNet
        config["type"] = "mmpretrain.NormalizedResNet"
        assert type(MODELS.build(config)) is classification.NormalizedResNet


def test_weights_of_the_stock_network_load_and_come_out_again():
    torch.manual_seed(0)
    stock = backbones.ResNet(**SMALL)
    ours = classification.NormalizedResNet(normalize=dict(form="WN"), **SMALL)
    ours.load_state_dict(stock.state_dict())
    folded = fold(ours)
    assert folded.state_dict().keys() == stock.state_dict().keys()
    for name, value in stock.state_dict().items():
        torch.testing.assert_close(folded.state_dict()[name], value)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (7, 64)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 2, 1), (5, 2, 1), (3, 1, 2)])
def test_a_layer_that_pads_as_tensorflow_is_the_same_as_a_plain_one(size, kernel, stride, dilation):
    torch.manual_seed(0)
    theirs = nn.Sequential(Conv2dAdaptivePadding(3, 4, kernel, stride, dilation=dilation))
    ours = copy.deepcopy(theirs)
    plain_same_padding(ours)
    assert type(ours[0]) is nn.Conv2d
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    torch.testing.assert_close(copy.deepcopy(ours)(x), theirs(x))


def test_efficientnet_s_stem_is_normalized_in_every_package_and_folds_back():
    for kind in (classification.NormalizedEfficientNet, detection.NormalizedEfficientNet):
        options = dict(arch="b0", out_indices=(2,))
        torch.manual_seed(0)
        ours = kind(normalize=dict(form="WS"), **options)
        stem = next(m for m in ours.modules() if isinstance(m, nn.Conv2d))
        assert type(stem) is WSConv2d
        stock = kind.stock(**options)
        stock.load_state_dict(fold(ours).state_dict())
        ours.eval(), stock.eval()
        x = torch.randn(1, 3, 65, 64)
        for a, b in zip(ours(x), stock(x), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "layer", "options"),
    [
        ("FixNormLinearClsHead", FixNormLinear, dict(alpha=0.5)),
        ("WNLinearClsHead", WNLinear, {}),
    ],
)
def test_heads_have_the_paper_s_classifier_and_start_as_the_stock_head(kind, layer, options):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        torch.manual_seed(0)
        ours = MODELS.build(dict(type=kind, num_classes=1000, in_channels=2048, **options))
        torch.manual_seed(0)
        stock = MODELS.build(dict(type="LinearClsHead", num_classes=1000, in_channels=2048))
    assert type(ours.fc) is layer and isinstance(ours, Normalized)
    for head in (ours, stock):
        torch.manual_seed(1)
        head.init_weights()
    ours.fc.reset_gain()
    # sqrt(1000 · 2048) · .01, under the cap of .5 · sqrt(1000)
    assert float(ours.fc.g.detach()) == pytest.approx(14.31, abs=0.05)
    if kind == "FixNormLinearClsHead":
        assert ours.fc.cap == pytest.approx(15.81, abs=0.01)
    x = torch.randn(4, 2048)
    torch.testing.assert_close(ours((x,)), stock((x,)), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        ours.fc.g.fill_(100.0)
    bounded = 15.81 if kind == "FixNormLinearClsHead" else 100.0
    expected = x @ ours.fc.weight.T * (bounded / ours.fc.weight.norm()) + ours.fc.bias
    torch.testing.assert_close(ours((x,)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "options"), [("RepVGG", dict(arch="A0")), ("MobileOne", dict(arch="s0"))]
)
def test_branches_are_merged_of_plain_layers_only(kind, options):
    """switch_to_deploy multiplies raw weights by those of BN: fold first."""
    torch.manual_seed(0)
    ours = getattr(classification, f"Normalized{kind}")(normalize=dict(form="WN"), **options)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(".g"):
                parameter.mul_(1.5)
    with pytest.raises(ValueError, match=f"Normalized{kind} cannot be switched.*fold the model"):
        ours.switch_to_deploy()
    folded, x = fold(ours), torch.randn(1, 3, 32, 32)
    nn.Module.train(folded, False)
    with torch.no_grad():
        before = folded(x)
        folded.switch_to_deploy()
        nn.Module.train(folded, False)
        for a, b in zip(folded(x), before, strict=True):
            assert (a - b).norm() < 1e-3 * b.norm()
