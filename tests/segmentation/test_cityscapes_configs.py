"""The Cityscapes configs as text: settings, schedules, headers, metafile; no model built."""

import math

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, TRANSFORMS, DefaultScope
from segmentation.ocnet_configs import ROOT, ROWS, Row
from torch import nn

BASELINE = ROWS[0]
WEIGHTS = [
    0.8373, 0.918, 0.866, 1.0345, 1.0166, 0.9969, 0.9754, 1.0489, 0.8786, 1.0023,
    0.9539, 0.9843, 1.1116, 0.9037, 1.0865, 1.0955, 1.0865, 1.1529, 1.0507,
]  # fmt: skip
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_the_configs_are_these_rows():
    files = {path.stem for path in (ROOT / "configs/ocnet").glob("*.py")}
    assert files == {row.name for row in ROWS} and len(files) == 9


def leaves(node, path: str = "") -> dict:
    if isinstance(node, dict):
        parts = [leaves(v, f"{path}.{k}" if path else str(k)) for k, v in node.items()]
        return {name: value for part in parts for name, value in part.items()}
    return {path: node}


def changed(config: Config, base: Config) -> set[str]:
    ours, theirs = (leaves(c.to_dict()) for c in (config, base))
    return {n for n in ours.keys() | theirs.keys() if ours.get(n, ...) != theirs.get(n, ...)}


@every_row
def test_rows_differ_in_what_their_names_say(row):
    expected = set()
    if row.schedule == "cosine-40k":
        expected |= {"param_scheduler"}
    if row.context != "base":
        expected |= {"model.decode_head.context"}
    if row.context == "asp":
        expected |= {"model.auxiliary_head.dropout_ratio"}
    if row.context == "pyramid":  # no activation
        expected |= {
            "model.auxiliary_head.act_cfg" + key for key in ("", ".type", ".negative_slope")
        }
    if row.method == "ohem_baseline":
        loss = "model.decode_head.loss_decode"
        expected |= {f"{loss}.{key}" for key in ("type", "thresh", "min_kept")}
    if row.method == "fixnorm":
        heads = ("decode_head", "auxiliary_head")
        expected |= {f"model.{head}.{key}" for head in heads for key in ("type", "alpha")}
        optimizer = "optim_wrapper.optimizer"
        expected |= {f"{optimizer}.lr", f"{optimizer}.weight_decay", "custom_hooks"}
    assert changed(row.config(), BASELINE.config()) == expected


@every_row
def test_settings_are_those_of_the_papers(row):
    config = row.config()
    fixnorm = row.method == "fixnorm"
    assert config.default_scope == "mmseg"
    assert config.optim_wrapper.optimizer == dict(
        type="SGD",
        lr=row.rate,
        momentum=0.9,
        weight_decay=0.0 if fixnorm else 5e-4,
        fused=True,
    )
    assert "paramwise_cfg" not in config.optim_wrapper and "clip_grad" not in config.optim_wrapper
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=8)
    assert config.train_dataloader.batch_size * 4 == 8
    assert (config.train_cfg.type, config.train_cfg.max_iters) == ("IterBasedTrainLoop", 40000)
    assert config.model.data_preprocessor.size == (769, 769)
    assert config.model.test_cfg == dict(mode="whole") and config.val_dataloader.batch_size == 1
    assert config.sync_bn == "torch"
    hooks = [hook.type for hook in config.get("custom_hooks", [])]
    assert hooks == ["NormFixHook"] * fixnorm
    assert config.default_hooks.weight_table == dict(type="WeightTableHook")
    assert config.default_hooks.reproducible == dict(type="ReproducibleHook")
    if fixnorm:
        hook = config.custom_hooks[0]
        assert (hook.mode, hook.weights) == ("joint", "conv+classifier")
    decode, auxiliary = config.model.decode_head, config.model.auxiliary_head
    assert decode.loss_decode.class_weight == auxiliary.loss_decode.class_weight == WEIGHTS
    assert (decode.loss_decode.loss_weight, auxiliary.loss_decode.loss_weight) == (1.0, 0.4)
    assert auxiliary.loss_decode.type == "WeightedCrossEntropyLoss"  # in the OHEM variant, too
    if row.method == "ohem_baseline":
        assert (decode.loss_decode.thresh, decode.loss_decode.min_kept) == (0.7, 100000)
    assert (auxiliary.channels, auxiliary.in_index) == (512, 2)
    assert auxiliary.dropout_ratio == (0.1 if row.context == "asp" else 0.05)
    leaky = dict(type="LeakyReLU", negative_slope=0.01)
    assert auxiliary.act_cfg == (None if row.context == "pyramid" else leaky)
    assert decode.context == row.context
    if fixnorm:
        assert decode.alpha == auxiliary.alpha == 1.0
    # The whole image, unscaled.
    kinds = [step.type for step in config.val_dataloader.dataset.pipeline]
    assert kinds == ["LoadImageFromFile", "LoadAnnotations", "PackSegInputs"]
    assert config.test_dataloader.dataset == config.val_dataloader.dataset
    assert config.val_evaluator.type == "ClassIoUMetric"
    assert [each.type for each in config.test_evaluator] == [
        "ClassIoUMetric",
        "CityscapesOfficialMetric",
    ]


def test_augmentation_is_the_authors():
    """0.5, 0.6 ... 2.1 with equal chances, any crop, flips and nothing else."""
    import mmseg.datasets.transforms  # noqa: F401

    config = BASELINE.config()
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert list(steps) == [
        "LoadImageFromFile", "LoadAnnotations", "RandomChoice", "RandomCrop", "RandomFlip",
        "PackSegInputs",
    ]  # fmt: skip
    assert steps["RandomFlip"] == dict(type="RandomFlip", prob=0.5)
    assert steps["RandomCrop"] == dict(type="RandomCrop", crop_size=(769, 769))
    with DefaultScope.overwrite_default_scope("mmseg"):
        scale, crop = (TRANSFORMS.build(steps[kind]) for kind in ("RandomChoice", "RandomCrop"))
    assert crop.cat_max_ratio == 1.0
    np.random.seed(0)
    heights = set()
    for _ in range(400):
        image = np.zeros((10, 20, 3), np.uint8)
        labels = np.full((10, 20), 255, np.uint8)
        found = scale(
            dict(img=image, img_shape=(10, 20), gt_seg_map=labels, seg_fields=["gt_seg_map"])
        )
        height, width = found["img"].shape[:2]
        assert found["gt_seg_map"].shape == (height, width) and width == 2 * height
        heights.add(height)
    assert heights == set(range(5, 22))


def test_pixels_are_the_authors():
    """RGB minus a mean in the order of BGR; what is padded is the mean."""
    preprocessor = BASELINE.config().model.data_preprocessor
    assert preprocessor.mean == [102.9801, 115.9465, 122.7717]
    assert preprocessor.std == [1.0, 1.0, 1.0]
    assert preprocessor.bgr_to_rgb
    assert (preprocessor.pad_val, preprocessor.seg_pad_val) == (0, 255)


@pytest.mark.parametrize("row", ROWS[:4], ids=lambda row: row.name)
def test_schedule(row):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        schedulers = [
            PARAM_SCHEDULERS.build(each, default_args=dict(optimizer=optimizer))
            for each in row.config().param_scheduler
        ]
    (scheduler,) = schedulers
    assert not scheduler.by_epoch
    for t in range(40000):
        if t % 3989 == 0 or t in (1, 39998, 39999):
            poly, cosine = (1 - t / 40000) ** 0.9, (1 + math.cos(math.pi * t / 40000)) / 2
            expected = cosine if "cosine" in row.schedule else poly
            rate = optimizer.param_groups[0]["lr"]
            assert rate == pytest.approx(expected, rel=1e-6, abs=1e-8), t
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-8)


@every_row
def test_header_names_command_result_and_source(row):
    header = row.path.read_text().split('"""')[1]
    assert f"bash tools/dist_train.sh configs/ocnet/{row.name}.py 4" in header
    assert "Run time: not measured" in header and "not trained here" in header
    if row.figure is None:
        assert "Expected: no figure of the authors'" in header
    else:
        whose = "the paper's" if row.paper == "FixNorm" else "the authors'"
        assert f"Expected: {row.figure} mIoU on val, one scale, {whose} figure" in header
    if row.paper == "FixNorm":
        assert "Source: FixNorm, appendix A.4.2 and Table 3" in header
        assert f"lr {str(row.rate).removeprefix('0')}" in header
    else:
        assert "1809.00916" in header and "openseg-group/OCNet.pytorch" in header


def test_the_base_says_how_its_weights_are_converted():
    header = (ROOT / "configs/_base_/models/ocnet_r101-d8.py").read_text().split('"""')[1]
    checkpoint = BASELINE.config().model.backbone.init_cfg.checkpoint
    assert "tools/convert_checkpoint.py resnet101-imagenet.pth" in header and checkpoint in header


@every_row
def test_metafile_has_the_published_figures_and_no_others(row):
    meta = yaml.safe_load((ROOT / "configs/ocnet/metafile.yml").read_text())
    (model,) = (m for m in meta["Models"] if m["Name"] == row.name)
    assert ROOT / model["Config"] == row.path and "Weights" not in model
    assert model["In Collection"] == {"FixNorm": "FixNorm OCNet"}.get(row.paper, "OCNet")
    assert model["In Collection"] in {c["Name"] for c in meta["Collections"]}
    assert len(meta["Models"]) == len(ROWS)
    if row.figure is None:
        assert "Results" not in model
        return
    (result,) = model["Results"]
    whose = {"FixNorm": "the FixNorm paper's figure, Table 3"}
    whose = whose.get(row.paper, "the OCNet authors' figure")
    assert result["Dataset"] == f"Cityscapes ({whose})"
    assert result["Metrics"] == dict(mIoU=row.figure)


def test_the_index_has_the_metafile():
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    assert "configs/ocnet/metafile.yml" in index["Import"]


def test_row_names():
    assert Row("base", "fixnorm", "cosine-40k", 0, None, "").name == (
        "ocnet-base_r101-d8_fixnorm_4xb2-cosine-40k_cityscapes-769x769"
    )
