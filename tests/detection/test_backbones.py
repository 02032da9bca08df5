"""Normalized backbones: stock checkpoints, initialization, frozen stages."""

import logging
from fractions import Fraction

import pytest
import torch
from helpers.stock_models import SMALL_HRNET, convolutions, thin, trained
from mmdet.models import backbones
from mmdet.models.backbones import ResNet
from mmdet.models.necks import FPN
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from torch import nn

from normfix_mm import CWNConv2d, WNConv2d, WSConv2d, detection
from normfix_mm.detection import NormalizedResNet
from normfix_mm.errors import BadInput

R18 = dict(depth=18, base_channels=8, stem_channels=8, frozen_stages=1, norm_eval=True)


def assert_same_function(ours: nn.Module, stock: nn.Module) -> None:
    for model in (ours, stock):
        model.train()  # with norm_eval, as detectors train; mmdet's train() returns None
    x = torch.randn(2, 3, 48, 40)
    for got, expected in zip(ours(x), stock(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_every_convolution_gets_a_gain_and_a_stock_checkpoint_its_function():
    stock, ours = trained(ResNet, **R18), NormalizedResNet(**R18)
    ours.load_state_dict(stock.state_dict(), strict=True)
    names = convolutions(stock)
    assert len(names) == 1 + 8 * 2 + 3  # stem, blocks, downsamples
    assert all(type(ours.get_submodule(n)) is WNConv2d for n in names)
    assert set(ours.state_dict()) == set(stock.state_dict()) | {f"{n}.g" for n in names}
    assert_same_function(ours, stock)


def test_frozen_bn_and_a_gain_make_the_weights_scale_invariant():
    ours = NormalizedResNet(**R18)
    ours.load_state_dict(NormalizedResNet(**R18).state_dict())
    ours.train()
    x = torch.randn(1, 3, 48, 40)
    before = [y.detach() for y in ours(x)]
    with torch.no_grad():
        for layer in convolutions(ours).values():
            layer.weight.mul_(2.5)
            layer.g.mul_(1.0)  # ours, hence no longer following the weight
    for got, expected in zip(ours(x), before, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_gains_of_frozen_stages_are_frozen():
    stock, ours = ResNet(**R18), NormalizedResNet(**R18)
    for mode in (True, False, True):
        ours.train(mode)
        trains = {n.rpartition(".")[0] for n, p in ours.named_parameters() if p.requires_grad}
        expected = {n.rpartition(".")[0] for n, p in stock.named_parameters() if p.requires_grad}
        assert trains == expected
        gains = {n for n, p in ours.named_parameters() if n.endswith(".g") and p.requires_grad}
        assert "conv1.g" not in gains and "layer1.0.conv1.g" not in gains
        assert "layer2.0.conv1.g" in gains


def test_kaiming_initialization_reaches_the_normalized_layers():
    torch.manual_seed(3)
    stock = ResNet(**R18)
    torch.manual_seed(3)
    ours = NormalizedResNet(**R18)
    for model in (stock, ours):
        torch.manual_seed(4)
        model.init_weights()
    for name, layer in convolutions(stock).items():
        torch.testing.assert_close(ours.get_submodule(name).weight, layer.weight)
        torch.testing.assert_close(ours.get_submodule(name).normalized_weight(), layer.weight)


def test_a_pretrained_file_loads_through_init_cfg(tmp_path):
    stock = trained(ResNet, **R18)
    file = tmp_path / "resnet.pth"  # torchvision's layout: bare names, and an fc on top
    torch.save(stock.state_dict() | {"fc.weight": torch.zeros(2, 2)}, file)
    ours = NormalizedResNet(**R18, init_cfg=dict(type="Pretrained", checkpoint=str(file)))
    ours.init_weights()
    assert_same_function(ours, stock)


def test_rules_are_the_config_s():
    rules = [dict(form="WS", layers="^layer[34]"), dict(form="WN", gain=True, layers="^layer2")]
    kinds = {n: type(m) for n, m in convolutions(NormalizedResNet(**R18, normalize=rules)).items()}
    assert {k for n, k in kinds.items() if n[:6] in ("layer3", "layer4")} == {WSConv2d}
    assert {k for n, k in kinds.items() if n.startswith("layer2")} == {WNConv2d}
    assert {k for n, k in kinds.items() if n[:6] in ("conv1", "layer1")} == {nn.Conv2d}
    with pytest.raises(ValueError, match="layer9"):
        NormalizedResNet(**R18, normalize=dict(form="WS", layers="layer9"))


OTHERS = {
    "ResNeXt": dict(depth=50, groups=4, base_width=4, base_channels=16, stem_channels=16),
    "ResNetV1d": R18 | dict(frozen_stages=-1),
    "RegNet": dict(arch="regnetx_400mf", frozen_stages=1),
    "Res2Net": dict(depth=50, scales=4, base_width=6, base_channels=16, stem_channels=16),
    "MobileNetV2": dict(widen_factor=0.25, norm_eval=True, frozen_stages=2),
    "HRNet": SMALL_HRNET | dict(norm_eval=True),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("form", ["WN", "WS", "CWN"])
def test_every_backbone_of_mmdetection(name, form):
    stock = trained(getattr(backbones, name), **OTHERS[name])
    ours = getattr(detection, f"Normalized{name}")(**OTHERS[name], normalize=dict(form=form))
    ours.load_state_dict(stock.state_dict(), strict=True)
    twin = dict(WN=WNConv2d, WS=WSConv2d, CWN=CWNConv2d)[form]
    for path, layer in convolutions(stock).items():
        assert type(ours.get_submodule(path)) is (type(layer) if thin(layer) else twin), path
    trains = {n for n, p in ours.named_parameters() if p.requires_grad and not n.endswith(".g")}
    assert trains == {n for n, p in stock.named_parameters() if p.requires_grad}
    for model in (ours, stock):
        model.double().train()
    with torch.no_grad():  # the stock backbone with weights normalized by hand
        for layer in convolutions(stock).values() if form != "WN" else ():
            if not thin(layer):
                w = layer.weight.flatten(1)
                w = w - w.mean(1, keepdim=True)
                scale = w.std(1, keepdim=True) + 1e-5 if form == "WS" else w.norm(dim=1)[:, None]
                layer.weight.copy_((w / scale).view_as(layer.weight))
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for got, expected in zip(ours(x), stock(x), strict=True):
        assert (got - expected).abs().max() < 1e-6 * expected.abs().max()


def test_a_backbone_of_one_s_own():
    class Mine(ResNet):
        pass

    ours = detection.normalized(Mine)
    assert ours is MODELS.get("NormalizedMine") and ours.stock is Mine
    assert ours.own_options == ("normalize",)
    assert {type(m) for m in convolutions(ours(**R18)).values()} == {WNConv2d}


def test_fpn_through_conv_cfg():
    sizes = dict(in_channels=[8, 16], out_channels=8, num_outs=3, add_extra_convs="on_input")
    stock, ours = FPN(**sizes), FPN(**sizes, conv_cfg=dict(type="WNConv2d", gain=True))
    stock.init_weights()
    ours.init_weights()  # xavier, by the name of the layer's base
    weight = ours.fpn_convs[0].conv.weight
    assert float(weight.detach().abs().max()) <= (6 / (2 * 8 * 9)) ** 0.5
    ours.load_state_dict(stock.state_dict(), strict=True)
    assert [type(ours.get_submodule(n)) for n in convolutions(stock)] == [WNConv2d] * 5
    x = [torch.randn(1, 8, 8, 8), torch.randn(1, 16, 4, 4)]
    for got, expected in zip(ours(x), stock(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_backbones_are_in_mmdetection_s_registry_and_heads_in_the_root():
    """MMSegmentation has a ResNet too: under its scope the bare name must not mean this one."""
    for name in ("NormalizedResNet", "NormalizedResNeXt"):
        assert name in MMDET_MODELS.module_dict and name not in MODELS.module_dict
    for name in ("FixNormRetinaHead", "WNRetinaHead"):
        assert name in MODELS.module_dict


@pytest.mark.parametrize(
    ("rule", "warned"),
    [
        (dict(form="WS"), True),
        (dict(form="CWN"), True),
        (dict(form="WN", gain=False), True),
        (dict(form="WN", gain=True), False),
    ],
)
def test_pretrained_weights_in_standardized_layers_are_warned_of(rule, warned, tmp_path):
    file = tmp_path / "resnet.pth"
    torch.save(trained(ResNet, **R18).state_dict(), file)
    pretrained = dict(type="Pretrained", checkpoint=str(file))
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    NormalizedResNet(**R18, normalize=rule).init_weights()
    assert not said
    NormalizedResNet(**R18, normalize=rule, init_cfg=pretrained).init_weights()
    logger.removeHandler(handler)
    assert len(said) == warned
    if warned:
        assert f"need {rule['form']}" in said[0] and "initializes 20 " in said[0]
        assert str(file) in said[0] and "init_cfg=None" in said[0]
    forms = {f"{n}.weight": "WS" for n in convolutions(ResNet(**R18))}
    torch.save(
        dict(state_dict=trained(ResNet, **R18).state_dict(), meta=dict(normfix_form=forms)), file
    )
    said.clear()
    logger.addHandler(handler)
    NormalizedResNet(**R18, normalize=rule, init_cfg=pretrained).init_weights()
    logger.removeHandler(handler)
    assert len(said) == (rule["form"] != "WS")
    assert all("holds WS weights where the backbone has" in message for message in said)


def test_a_checkpoint_with_objects_is_not_unpickled(tmp_path):
    stock = trained(ResNet, **R18)
    file = tmp_path / "resnet.pth"
    torch.save(dict(state_dict=stock.state_dict(), epochs=Fraction(3, 2)), file)
    pretrained = dict(type="Pretrained", checkpoint=str(file))
    ours = NormalizedResNet(**R18, normalize=dict(form="WS"), init_cfg=pretrained)
    with pytest.raises(BadInput, match=r"fractions\.Fraction"):
        ours.init_weights()
