"""Everything is found by name under every scope."""

import importlib

import pytest
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope, Registry

import normfix_mm
from normfix_mm import engine
from normfix_mm.engine import registry

NAMES = ["WSConv2d", "WNConv2d", "CWNConv2d", "WNLinear", "FixNormConv2d", "FixNormLinear"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scope", ["mmdet", "mmseg", "mmengine"])
def test_layers_are_found_under_every_scope(name, scope):
    with DefaultScope.overwrite_default_scope(scope):
        layer = MODELS.build(dict(type=name, **_sizes(name)))
    assert type(layer) is getattr(normfix_mm, name)
    other = Registry("model", parent=MODELS, scope=f"{scope}_{name}")  # such as mmseg's
    assert other.get(name) is type(layer)


def _sizes(name):
    if name.endswith("Linear"):
        return dict(in_features=3, out_features=2)
    return dict(in_channels=3, out_channels=2, kernel_size=1)


def test_conv_cfg_reaches_a_conv_module():
    from mmcv.cnn import ConvModule

    module = ConvModule(3, 4, 3, conv_cfg=dict(type="WNConv2d", gain=False))
    assert type(module.conv) is normfix_mm.WNConv2d and module.conv.g is None


def test_cls_predictor_cfg_reaches_a_box_head():
    head = MMDET_MODELS.build(
        dict(
            type="Shared2FCBBoxHead",
            in_channels=4,
            fc_out_channels=8,
            roi_feat_size=1,
            num_classes=3,
            cls_predictor_cfg=dict(type="FixNormLinear", alpha=0.5),
        )
    )
    assert type(head.fc_cls) is normfix_mm.FixNormLinear and head.fc_cls.cap == 0.5 * 4**0.5


def test_hooks_and_constructor_are_in_the_root_registries():
    assert HOOKS.get("NormFixHook") is engine.NormFixHook
    assert HOOKS.get("ReproducibleHook") is engine.ReproducibleHook
    name = "EpsShiftOptimWrapperConstructor"
    assert OPTIM_WRAPPER_CONSTRUCTORS.get(name) is engine.EpsShiftOptimWrapperConstructor


def test_registering_again_is_no_error():
    importlib.reload(registry)
    assert MODELS.get("WNConv2d") is normfix_mm.WNConv2d
