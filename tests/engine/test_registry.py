"""Everything is found by name under every scope, and both stacks can read their checkpoints."""

import importlib

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.logging import HistoryBuffer
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, DefaultScope, Registry

import normfix_mm
from normfix_mm import engine
from normfix_mm.checkpoints import safe_load
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


def test_a_safe_load_reads_mmengines_log(tmp_path):
    log = HistoryBuffer([1.0, 2.0], [1, 1])
    saved = dict(log=log, runtime=dict(lr=np.float64(0.1), it=np.int64(3)))
    torch.save(saved, tmp_path / "log.pth")
    # The import did so already, but the maintained mmengine withdraws its names after each load.
    allow_history_buffers()
    loaded = torch.load(tmp_path / "log.pth", weights_only=True)
    assert loaded["log"].mean() == 1.5 and loaded["runtime"]["it"] == 3


def test_a_safe_load_reads_nothing_else(tmp_path):
    class Evil:
        def __reduce__(self):
            return getattr, (HistoryBuffer, "__init__")

    torch.save(Evil(), tmp_path / "evil.pth")
    with pytest.raises(Exception, match="HistoryBuffer"):
        torch.load(tmp_path / "evil.pth", weights_only=True)
    with pytest.raises(ValueError, match="no mmengine log contains"):
        _statistic(dict, "mean")
