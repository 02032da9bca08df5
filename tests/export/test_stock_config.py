"""A config in its stock form: nothing of this package left, everything else as it was."""

from pathlib import Path

import pytest
from helpers import small_detectors
from helpers.small_detectors import BASES, config
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from normfix_mm.export.stock_config import stock_config

ROOT = Path(__file__).resolve().parents[2]
# R-101's differ in depth alone, the other files in what is stock anyway.
CONFIGS = [
    p for method in ("fixnorm", "ws-eps") for p in ROOT.glob(f"configs/*/*_r50_fpn_{method}_*")
]


@pytest.mark.parametrize("name", BASES)
def test_the_model_is_the_one_that_ours_was_made_from(name, real_data):
    expected = small_detectors.stock(name, real_data).model
    assert expected.backbone.init_cfg.type == "Pretrained"
    expected.backbone.init_cfg = None
    if name != "retinanet-ws":
        expected.neck.conv_cfg = None
    assert stock_config(config(name, real_data)).model == expected


@pytest.mark.parametrize("name", BASES)
def test_nothing_of_this_package_is_left(name, real_data):
    ours = config(name, real_data)
    before = str(ours.to_dict())
    stock = stock_config(ours)
    assert str(ours.to_dict()) == before
    text = str(stock.to_dict())
    words = ["normfix_mm", "Normalized", "normalize'", "WeightTable"]
    if name == "retinanet-ws":
        words += ["EpsShift", "eps_shift"]
    else:
        words += ["NormFix", "FixNorm", "WNConv", "'alpha': 0.0"]
    for word in words:
        assert word in before and word not in text
    assert "torchvision://resnet50" in before and "torchvision://" not in text
    hooks = [hook["type"] for hook in stock.get("custom_hooks", [])]
    assert hooks == ([] if name == "retinanet-ws" else ["EMAHook"])
    if name == "retinanet-ws":
        assert stock.optim_wrapper.paramwise_cfg.to_dict() == {"norm_decay_mult": 0.0}
        assert "constructor" not in stock.optim_wrapper
    for key in ("param_scheduler", "train_dataloader", "test_dataloader", "test_evaluator"):
        assert stock[key] == ours[key]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_of_ours_has_a_stock_form(config):
    text = str(stock_config(Config.fromfile(config)).to_dict())
    for word in ("normfix", "NormFix", "FixNorm", "Normalized", "WNConv", "WSConv", "EpsShift"):
        assert word not in text


def stock_model(model: dict, **others) -> Config:
    return stock_config(Config(dict(default_scope="mmdet", model=model) | others))


def test_layers_keep_the_options_that_are_not_ours():
    model = dict(
        type="FCNMaskHead",
        conv_cfg=dict(type="mmengine.WSConv2d", eps=1e-3),
        predictor_cfg=dict(type="FixNormConv2d", alpha=2.0, padding_mode="reflect"),
        upsample_cfg=dict(type="WNConvTranspose2d", scale_factor=2),
        fc_cfg=dict(type="FixNormLinear", alpha=2.0),
        other=(dict(type="ConvWS", eps=1e-3), dict(type="ConvAWS"), dict(type="Conv2d")),
        dcn=dict(type="DCNv2", deform_groups=1),
    )
    assert stock_model(model).model.to_dict() == dict(
        type="FCNMaskHead",
        conv_cfg=None,
        predictor_cfg=dict(type="Conv2d", padding_mode="reflect"),
        upsample_cfg=dict(type="deconv", scale_factor=2),
        fc_cfg=dict(type="Linear"),
        other=(dict(type="Conv2d"), dict(type="Conv2d"), dict(type="Conv2d")),
        dcn=dict(type="DCNv2", deform_groups=1),
    )


def test_other_packages_hooks_and_settings_stay():
    stock = stock_model(
        dict(type="RetinaNet"),
        custom_imports=dict(imports=["os.path", "normfix_mm.detection"], allow_failed_imports=True),
        custom_hooks=[dict(type="NormFixHook"), dict(type="EMAHook"), dict(type="SyncNormHook")],
        default_hooks=dict(timer=dict(type="IterTimerHook"), table=dict(type="WeightTableHook")),
        optim_wrapper=dict(constructor="DefaultOptimWrapperConstructor", paramwise_cfg=dict(a=1)),
        load_from="somewhere.pth",
        resume=True,
        work_dir="/home/me/run",
    )  # fmt: skip
    assert stock.custom_imports.to_dict() == dict(imports=["os.path"], allow_failed_imports=True)
    assert [hook["type"] for hook in stock.custom_hooks] == ["EMAHook", "SyncNormHook"]
    assert stock.default_hooks.to_dict() == dict(timer=dict(type="IterTimerHook"))
    assert stock.optim_wrapper.constructor == "DefaultOptimWrapperConstructor"
    assert (stock.load_from, stock.resume, "work_dir" in stock) == (None, False, False)


def test_pretrained_weights_leave_a_list_of_initializers():
    norms = dict(type="Constant", layer="BatchNorm2d", val=0.5)
    given = [dict(type="Pretrained", checkpoint="nowhere.pth"), norms]
    stock = stock_model(dict(type="NormalizedResNet", depth=18, init_cfg=given)).model
    assert stock.to_dict() == dict(type="ResNet", depth=18, init_cfg=[norms])
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(stock)
    model.init_weights()
    assert (model.bn1.weight == 0.5).all()


def test_a_stock_class_of_another_scope_is_named_with_it():
    """Under MMSegmentation's scope `ResNet` is MMSegmentation's, another class.

    So is the bare `NormalizedResNet`, as soon as normfix_mm.segmentation has been imported.
    """
    pytest.importorskip("mmseg")
    model = dict(type="EncoderDecoder", backbone=dict(type="mmdet.NormalizedResNet", depth=18))
    stock = stock_config(Config(dict(default_scope="mmseg", model=model)))
    assert stock.model.backbone.to_dict() == dict(type="mmdet.ResNet", depth=18)
    with DefaultScope.overwrite_default_scope("mmseg"):
        assert type(MODELS.build(stock.model.backbone)).__module__.startswith("mmdet.")


def test_a_type_without_stock_counterpart_keeps_the_import_of_its_module():
    model = dict(type="RetinaNet", extra=[dict(type="Own", conv_cfg=dict(type="WNConv2d"))])
    imports = dict(imports=["normfix_mm.detection", "mine"], allow_failed_imports=False)
    cfg = Config(dict(default_scope="mmdet", model=model, custom_imports=imports))

    @MODELS.register_module(force=True)
    class Own:
        __module__ = "normfix_mm.segmentation.heads"

    try:
        stock = stock_config(cfg)
    finally:
        MODELS.module_dict.pop("Own")
    assert stock.model.extra == [dict(type="Own", conv_cfg=None)]
    assert stock.custom_imports.imports == ["normfix_mm.segmentation", "mine"]


def test_losses_and_metrics_of_ours_are_stock_ones_or_left_out():
    import normfix_mm.segmentation  # noqa: F401  registers them

    loss = dict(
        type="OHEMWeightedCrossEntropyLoss", class_weight=[1.0], thresh=0.5, loss_weight=0.4
    )
    metrics = [dict(type="ClassIoUMetric", iou_metrics=["mIoU"])]
    metrics += [dict(type="CityscapesOfficialMetric")]
    head = dict(type="FCNHead", loss_decode=loss)
    cfg = Config(dict(default_scope="mmseg", model=dict(head=head), test_evaluator=metrics))
    stock = stock_config(cfg)
    assert stock.model.head.loss_decode == dict(type="CrossEntropyLoss", loss_weight=0.4)
    assert stock.test_evaluator == [dict(type="IoUMetric", iou_metrics=["mIoU"])]
    assert "custom_imports" not in stock
