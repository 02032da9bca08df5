"""Normalized backbones of MMSegmentation: names, checkpoints, frozen stages."""

import logging
import pickle

import pytest
import torch
from helpers.stock_models import SMALL_HRNET, convolutions, thin, trained
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmseg.models import backbones
from mmseg.models.backbones import ResNetV1c
from torch import nn

from normfix_mm import CWNConv2d, WNConv2d, WSConv2d, detection, segmentation

R18 = dict(depth=18, base_channels=8, stem_channels=8)
# As OCNet dilates its ResNet-101, with a wider stem.
DILATED = R18 | dict(
    stem_channels=16, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=False
)
OTHERS = {
    "ResNet": R18,
    "ResNetV1c": DILATED,
    "ResNetV1d": R18 | dict(frozen_stages=1, norm_eval=True),
    "ResNeXt": dict(depth=50, groups=4, base_width=4, base_channels=16, stem_channels=16),
    "MobileNetV2": dict(widen_factor=0.25, frozen_stages=2),
    "HRNet": SMALL_HRNET,
}
everyone = pytest.mark.parametrize("name", OTHERS)


def built(cfg: dict, scope: str) -> nn.Module:
    with DefaultScope.overwrite_default_scope(scope):
        return MODELS.build(dict(cfg))


@everyone
def test_each_framework_s_config_gets_its_own(name):
    """Both are registered; the bare name means the one of the config's scope."""
    type_ = f"Normalized{name}"
    ours = getattr(segmentation, type_)
    assert ours.stock is getattr(backbones, name) and ours.own_options == ("normalize",)
    assert type(built(dict(type=type_, **OTHERS[name]), "mmseg")) is ours
    assert type(built(dict(type=f"mmseg.{type_}", **OTHERS[name]), "mmdet")) is ours
    assert pickle.loads(pickle.dumps(ours)) is ours
    if hasattr(detection, type_):
        theirs = getattr(detection, type_)
        assert theirs is not ours and MODELS.get(f"mmdet.{type_}") is theirs
        assert type(built(dict(type=type_, **OTHERS[name]), "mmdet")) is theirs


def test_every_backbone_of_mmsegmentation_has_one():
    for name in backbones.__all__:
        ours = getattr(segmentation, f"Normalized{name}")
        assert ours.stock is getattr(backbones, name)
        assert MODELS.get(f"mmseg.Normalized{name}") is ours


@everyone
def test_a_stock_checkpoint_keeps_its_function(name):
    """The default, weight normalization with gain; in evaluation mode, with BN's statistics."""
    stock = trained(getattr(backbones, name), **OTHERS[name])
    ours = getattr(segmentation, f"Normalized{name}")(**OTHERS[name])
    ours.load_state_dict(stock.state_dict(), strict=True)
    wide = {n for n, layer in convolutions(stock).items() if not thin(layer)}
    assert all(type(ours.get_submodule(n)) is WNConv2d for n in wide) and len(wide) > 10
    assert set(ours.state_dict()) == set(stock.state_dict()) | {f"{n}.g" for n in wide}
    trains = {n for n, p in ours.named_parameters() if p.requires_grad and not n.endswith(".g")}
    assert trains == {n for n, p in stock.named_parameters() if p.requires_grad}
    for n, p in ours.named_parameters():
        assert not n.endswith(".g") or p.requires_grad == (f"{n[:-1]}weight" in trains)
    x = torch.randn(2, 3, 48, 64)
    for model in (ours, stock):
        model.train(False)  # mmseg's train() returns None
    for got, expected in zip(ours(x), stock(x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@everyone
@pytest.mark.parametrize("form", ["WS", "CWN"])
def test_standardized_as_by_hand(name, form):
    stock = trained(getattr(backbones, name), **OTHERS[name])
    ours = getattr(segmentation, f"Normalized{name}")(**OTHERS[name], normalize=dict(form=form))
    ours.load_state_dict(stock.state_dict(), strict=True)
    twin = dict(WS=WSConv2d, CWN=CWNConv2d)[form]
    with torch.no_grad():
        for path, layer in convolutions(stock).items():
            if thin(layer):
                assert type(ours.get_submodule(path)) is type(layer)
                continue
            assert type(ours.get_submodule(path)) is twin
            w = layer.weight.double().flatten(1)
            w = w - w.mean(1, keepdim=True)
            scale = w.std(1, keepdim=True) + 1e-5 if form == "WS" else w.norm(dim=1)[:, None]
            layer.weight.copy_((w / scale).view_as(layer.weight))
    x = torch.randn(2, 3, 48, 64)
    for model in (ours, stock):
        model.train()
    for got, expected in zip(ours(x), stock(x), strict=True):
        assert (got - expected).abs().max() < 1e-3 * expected.abs().max()


def test_the_deep_stem_is_among_the_layers():
    rules = [dict(form="WS", layers="^stem"), dict(form="WN", gain=True, layers=r"^layer")]
    layers = convolutions(segmentation.NormalizedResNetV1c(**DILATED, normalize=rules))
    stems = [type(m) for n, m in layers.items() if n.startswith("stem")]
    assert stems == [WSConv2d] * 3
    assert {type(m) for n, m in layers.items() if not n.startswith("stem")} == {WNConv2d}
    with pytest.raises(ValueError, match="layer9"):
        segmentation.NormalizedResNetV1c(**R18, normalize=dict(form="WS", layers="layer9"))


@pytest.mark.parametrize("option", ["pretrained", "init_cfg"])
@pytest.mark.parametrize("form", ["WS", "WN"])
def test_pretrained_weights_load_and_are_warned_of_where_they_do_not_fit(form, option, tmp_path):
    stock, file = trained(ResNetV1c, **OTHERS["ResNetV1c"]), tmp_path / "resnet.pth"
    torch.save(stock.state_dict(), file)
    given = dict(pretrained=str(file), init_cfg=dict(type="Pretrained", checkpoint=str(file)))
    rule = dict(form=form) | (dict(gain=True) if form == "WN" else {})
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    cfg = dict(type="NormalizedResNetV1c", **DILATED, normalize=rule)
    ours = built(cfg | {option: given[option]}, "mmseg")
    ours.init_weights()
    logger.removeHandler(handler)
    assert len(said) == (form == "WS")
    assert not said or f"{str(file)!r} initializes 23 WS layers" in said[0]
    for key, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


def test_a_backbone_of_one_s_own():
    class Mine(ResNetV1c):
        pass

    ours = segmentation.normalized(Mine)
    assert ours.stock is Mine and MODELS.get("NormalizedMine") is ours
    assert built(dict(type="NormalizedMine", **R18), "mmseg").stem[0].gain
