"""The papers' COCO configs as text: settings, schedules, headers, metafiles, no model built.

What they train is tested in test_config_selection.py, that they run in test_config_runs.py.
"""

import math

import pytest
import torch
import yaml
from detection.paper_configs import COLUMNS, ROOT, ROWS, Row
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from torch import nn

NINE_COLUMNS = ["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"]
NINE_COLUMNS += ["AR_s@1000", "AR_m@1000", "AR_l@1000"]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def leaves(node, path: str = "") -> dict:
    """Every value of a config by its dotted name, `type` and list positions included."""
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(n, dict) for n in node):
        items = enumerate(node)
    else:
        return {path: list(node) if isinstance(node, tuple) else node}
    parts = [leaves(value, f"{path}.{key}" if path else str(key)) for key, value in items]
    return {name: value for part in parts for name, value in part.items()}


def changed(config: Config, base: Config) -> set[str]:
    """Where two configs differ; the list of hooks counts as one place."""
    ours, theirs = (leaves(c.to_dict()) for c in (config, base))
    names = {
        name
        for name in ours.keys() | theirs.keys()
        if name not in ours or name not in theirs or ours[name] != theirs[name]
    }
    return {"custom_hooks" if name.startswith("custom_hooks") else name for name in names}


def other(row: Row, **changes) -> Row:
    """The config of the same table and schedule with another method or depth."""
    wanted = {"folder": row.folder, "schedule": row.schedule, "depth": row.depth} | changes
    return next(r for r in ROWS if all(getattr(r, k) == v for k, v in wanted.items()))


def test_the_configs_are_the_papers_rows():
    folders = {row.folder for row in ROWS}
    there = {path for folder in folders for path in (ROOT / "configs" / folder).glob("*.py")}
    assert {row.path for row in ROWS} == there
    index = yaml.safe_load((ROOT / "model-index.yml").read_text())
    assert set(index["Import"]) == {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("configs/*/metafile.yml")
    }


BACKBONE = {"model.backbone.type", "model.backbone.normalize.form"}
GAIN = {"model.backbone.normalize.gain", "model.neck.conv_cfg.type", "model.neck.conv_cfg.gain"}
HEADS = {
    "cascade_rcnn": ["rpn_head", *(f"roi_head.bbox_head.{stage}" for stage in range(3))],
    "faster_rcnn": ["rpn_head", "roi_head.bbox_head"],
    "mask_rcnn": ["rpn_head", "roi_head.bbox_head", "roi_head.mask_head"],
}


@pytest.mark.parametrize("row", [r for r in ROWS if r.two_stage], ids=lambda row: row.name)
def test_rows_of_a_table_differ_in_the_method_alone(row):
    config = row.config()
    checkpoint = "model.backbone.init_cfg.checkpoint"
    if row.depth == 101:
        r50 = other(row, depth=50, method=row.method).config()
        assert changed(config, r50) == {"model.backbone.depth", checkpoint}
    weights = "checkpoints/ws_resnet{}.pth" if "ws" in row.method else "torchvision://resnet{}"
    assert config.model.backbone.init_cfg.checkpoint == weights.format(row.depth)

    differences = changed(config, other(row, method="baseline").config())
    if row.method == "baseline":
        assert not differences
    elif row.method == "ws":
        assert differences == BACKBONE | {checkpoint}
    elif row.method == "ws-eps":
        paramwise = "optim_wrapper.paramwise_cfg"
        assert differences == BACKBONE | {
            checkpoint,
            "optim_wrapper.constructor",
            f"{paramwise}.bias_decay_mult",
            f"{paramwise}.eps_shift.lam",
            f"{paramwise}.eps_shift.eps",
        }
    else:
        heads = {f"model.{name}.{key}" for name in HEADS[row.folder] for key in ("type", "alpha")}
        decay = "optim_wrapper.optimizer.weight_decay"
        assert differences == BACKBONE | GAIN | heads | {decay, "custom_hooks"}
        assert all(v == 1.0 for k, v in leaves(config.model).items() if k.endswith(".alpha"))


@every_row
def test_settings_are_those_of_the_paper(row):
    config, stock = row.config(), row.stock_config()
    optimizer = config.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.momentum) == ("SGD", 0.9)
    fixnorm = row.method == "fixnorm"
    assert optimizer.weight_decay == (0.0 if fixnorm else 1e-4)
    assert config.auto_scale_lr == dict(enable=False, base_batch_size=16)
    assert config.train_dataloader.batch_size * 8 == 16
    pipeline = {step["type"]: step for step in config.train_pipeline}
    assert tuple(pipeline["Resize"]["scale"]) == (1333, 800)
    assert pipeline["RandomFlip"]["prob"] == 0.5 and len(pipeline) == 5  # the only augmentation
    backbone = config.model.backbone
    assert (backbone.depth, backbone.frozen_stages, backbone.norm_eval) == (row.depth, 1, True)
    hooks = [hook.type for hook in config.get("custom_hooks", [])]
    assert hooks == ["NormFixHook"] * fixnorm
    assert config.default_hooks.weight_table == dict(type="WeightTableHook")
    assert config.default_hooks.reproducible == dict(type="ReproducibleHook")
    for evaluator, theirs in (
        (config.val_evaluator, stock.val_evaluator),
        (config.test_evaluator, stock.test_evaluator),
    ):
        assert evaluator.metric == theirs.metric and evaluator.ann_file == theirs.ann_file
        assert list(evaluator.metric_items) == NINE_COLUMNS
    if row.two_stage:
        assert optimizer.lr == 0.02
        assert config.optim_wrapper.clip_grad == dict(max_norm=35, norm_type=2)
        assert backbone.norm_cfg == dict(type="BN", requires_grad=False)
        heads = config.model.roi_head.bbox_head
        losses = [head.loss_bbox for head in ([heads] if isinstance(heads, dict) else heads)]
        assert all((loss.type, loss.beta) == ("SmoothL1Loss", 1.0) for loss in losses)
        rpn = config.model.rpn_head.loss_bbox
        assert (rpn.type, rpn.beta) == ("SmoothL1Loss", 1.0 / 9.0)
    else:
        assert optimizer.lr == (0.0145 if fixnorm else 0.01)
        head = config.model.bbox_head
        loss = head.loss_cls
        assert (loss.type, loss.alpha, loss.gamma) == ("FocalLoss", 0.25, 2)
        assert (head.loss_bbox.type, head.loss_bbox.beta) == ("SmoothL1Loss", 0.1)


@pytest.mark.parametrize("row", [r for r in ROWS if r.method == "baseline"], ids=lambda r: r.name)
def test_a_baseline_is_mmdetection_s_own_model(row):
    losses = set()
    if row.folder != "cascade_rcnn":  # which has smooth L1 in MMDetection, too
        heads = ("rpn_head", "roi_head.bbox_head")
        losses = {f"{head}.loss_bbox.{key}" for head in heads for key in ("type", "beta")}
    differences = changed(row.config().model, row.stock_config().model)
    differences -= {"_scope_"}  # where mmengine looks for the base's types
    assert differences == {"backbone.norm_cfg.requires_grad"} | losses


def schedule(config: Config, steps: int, by_epoch: bool):
    """The rate, for a base rate of 1, before each of the first `steps` epochs or iterations.

    An epoch counts 600 iterations in the first, which covers the warm-up, and one later.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        schedulers = [
            PARAM_SCHEDULERS.build(each, default_args=dict(optimizer=optimizer))
            for each in config.param_scheduler
        ]
    group = optimizer.param_groups[0]
    for step in range(steps):
        for iteration in range(600 if by_epoch and step == 0 else 1):
            yield step, iteration, group["lr"]
            optimizer.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()


# One detector of each schedule; the rows of a table share theirs, as tested above.
BY_EPOCH = {
    "cascade_rcnn": (20, (16, 19)),
    "faster_rcnn": (24, (16, 22)),
    "mask_rcnn": (24, (16, 22)),
}


@pytest.mark.parametrize("folder", BY_EPOCH)
def test_schedule_by_epoch(folder):
    epochs, milestones = BY_EPOCH[folder]
    config = next(r for r in ROWS if r.folder == folder and r.method == "baseline").config()
    assert (config.train_cfg.type, config.train_cfg.max_epochs) == ("EpochBasedTrainLoop", epochs)
    for epoch, iteration, rate in schedule(config, epochs, by_epoch=True):
        warm = min(1, 1 / 3 + 2 / 3 * iteration / 499) if epoch == 0 else 1
        expected = warm * 0.1 ** sum(epoch >= m for m in milestones)
        assert rate == pytest.approx(expected, rel=1e-6), (epoch, iteration)


@pytest.mark.parametrize("row", [r for r in ROWS if not r.two_stage], ids=lambda row: row.name)
def test_schedule_by_iteration(row):
    config = row.config()
    assert (config.train_cfg.type, config.train_cfg.max_iters) == ("IterBasedTrainLoop", 90000)
    if row.method != "wn":
        baseline = other(row, method="wn").config()
        assert config.param_scheduler == baseline.param_scheduler
        return
    for t, _, rate in schedule(config, 90000, by_epoch=False):
        if t % 9973 == 250 or t in (0, 499, 59999, 60000, 79999, 80000, 89999):
            warm = min(1, 0.001 + 0.999 * t / 499)
            steps = 0.1 ** ((t >= 60000) + (t >= 80000))
            cosine = (1 + math.cos(math.pi * t / 90000)) / 2
            shape = cosine if "cosine" in row.schedule else steps
            assert rate == pytest.approx(warm * shape, rel=1e-3, abs=1e-12), t


@every_row
def test_header_names_command_result_and_source(row):
    header = row.path.read_text().split('"""')[1]
    assert f"configs/{row.folder}/{row.name}.py 8" in header
    assert "Run time: not measured" in header and "not trained here" in header
    if row.figures is None:
        assert "Expected: not in the paper" in header and "Source: FixNorm" in header
        return
    assert f"Expected: {row.figures[0]} box AP on val2017, the paper's figure" in header
    paper = "ε-shifted regularizer" if row.two_stage else "FixNorm"
    assert f"Source: {paper}" in header and f"Table {row.table}" in header
    if row.two_stage:
        columns = ", ".join(f"{c} {figure}" for c, figure in zip(COLUMNS, row.figures))
        assert f"\n    {columns}\n" in header
    if "ws" in row.method:
        assert (
            f"tools/convert_checkpoint.py DOWNLOADED checkpoints/ws_resnet{row.depth}.pth --form WS"
            in header
        )


@every_row
def test_metafile_has_the_paper_s_figures_and_no_others(row):
    meta = yaml.safe_load((row.path.parent / "metafile.yml").read_text())
    (model,) = (m for m in meta["Models"] if m["Name"] == row.name)
    assert ROOT / model["Config"] == row.path and "Weights" not in model
    assert model["In Collection"] in {c["Name"] for c in meta["Collections"]}
    assert len(meta["Models"]) == sum(r.folder == row.folder for r in ROWS)
    if row.figures is None:
        assert "Results" not in model
        return
    (result,) = model["Results"]
    assert result["Dataset"] == f"COCO (the paper's figure, Table {row.table})"
    names = [f"box {column.replace('.5', '50').replace('.75', '75')}" for column in COLUMNS]
    assert result["Metrics"] == dict(zip(names, row.figures))
