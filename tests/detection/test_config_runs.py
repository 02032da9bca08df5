"""Every distinct model of the papers' configs, whole: loaded, trained, evaluated by the Runner.

Nothing is overridden but image size, batch, data, the length of the run and the checkpoint file,
which is not downloaded: a file in its layout stands in. No checkpoint is written, to spare the
disk. The R-101 differ in depth alone and are built in test_config_selection.py.
"""

import copy
import json
import runpy
import sys

import pytest
import torch
from detection.paper_configs import ROOT, ROWS
from helpers.toy_coco import make_toy_coco, toy_options
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from normfix_mm.detection import NormalizedResNet

pytestmark = pytest.mark.slow

# One of each model. WS is WS + ε with another optimizer, the cosine schedules share their models
# with the others, and one plain detector stands for three.
DISTINCT = [
    row
    for row in ROWS
    if row.depth == 50
    and (row.method in ("ws-eps", "fixnorm", "wn") or row.name.startswith("faster"))
    and not row.schedule.startswith("cosine")
]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    make_toy_coco(root, CocoDataset.METAINFO["classes"], n_images=1, size=(64, 64))
    for file in (root / "annotations").iterdir():
        content = json.loads(file.read_text())
        x, y = 3, 61  # one more box, nearly the picture, so that the highest level has work
        large = dict(bbox=[x, x, y - x, y - x], segmentation=[[x, x, y, x, y, y, x, y]])
        large |= dict(id=99, image_id=1, category_id=1, area=(y - x) ** 2, iscrowd=0)
        content["annotations"].append(large)
        file.write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """A ResNet-50's file per form, random, with the BN statistics that keep its outputs finite."""
    folder, files = tmp_path_factory.mktemp("weights"), {}
    torch.manual_seed(0)
    # Smooth, as pictures are: noise averages out on the way and leaves variances near zero.
    images = nn.functional.interpolate(2 * torch.randn(4, 3, 6, 6), size=(128, 128))
    rules = {"plain": dict(form="WN", gain=True), "ws": dict(form="WS")}
    for form, rule in rules.items():
        torch.manual_seed(0)
        net = NormalizedResNet(50, normalize=rule, norm_eval=False, zero_init_residual=False)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        net.train()
        with torch.no_grad():
            net(images)
        files[form] = folder / f"{form}.pth"
        state = {n: t for n, t in net.state_dict().items() if not n.endswith(".g")}
        torch.save(state, files[form])
    return files


def short(row, toy, backbones) -> Config:
    """The config on the toy data, for as short as a run can be: one iteration of one image."""
    config = Config.fromfile(row.path)
    # Cascade's RPN learns from anchors inside the image alone, and those of the highest level that
    # has weights of its own are 256 pixels wide.
    scale = (288, 288) if row.folder == "cascade_rcnn" else (64, 64)
    config.merge_from_dict(toy_options(toy, scale, batch=1))
    file = backbones["ws" if "ws" in row.method else "plain"]
    config.merge_from_dict({"model.backbone.init_cfg.checkpoint": str(file)})
    length = "max_epochs" if row.two_stage else "max_iters"
    config.merge_from_dict({f"train_cfg.{length}": 1, "train_cfg.val_interval": 1})
    config.default_hooks.checkpoint = None
    config.randomness = dict(seed=0)
    return config


class Recorder(Hook):
    """Keeps the parameters after initialization, the losses, and what a gradient has reached."""

    evaluated = False

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.start = copies(runner.model)
        self.reached = set()
        runner.optim_wrapper.optimizer.register_step_pre_hook(
            lambda *_: self.reached.update(
                n for n, p in runner.model.named_parameters() if p.grad is not None and p.grad.any()
            )
        )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses = outputs

    def after_val_epoch(self, runner, metrics=None):
        self.evaluated = True


def copies(model) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters()}


def joint_norm(weights: dict[str, torch.Tensor], names: list[str]) -> torch.Tensor:
    return sum(weights[n].double().square().sum() for n in names).sqrt()


@pytest.fixture(scope="module", params=DISTINCT, ids=lambda row: row.name)
def run(request, toy, backbones, tmp_path_factory):
    """A row, the state of its training run, and its backbone's file."""
    row = request.param
    config = short(row, toy, backbones)
    config.work_dir = str(tmp_path_factory.mktemp("run"))
    runner = Runner.from_cfg(config)
    runner.seen = Recorder()
    runner.register_hook(runner.seen)
    runner.train()
    return row, runner, config.model.backbone.init_cfg.checkpoint


def weights_of_layers(row) -> list[str]:
    """The weights of the stock model's convolutions and linear layers that train.

    FixNorm fixes the norm of these, and those in the backbone get the ε-shift.
    """
    layers = (nn.Conv2d, nn.Linear, nn.ConvTranspose2d)
    return [
        f"{name}.weight"
        for name, layer in row.stock_model().named_modules()
        if isinstance(layer, layers) and layer.weight.requires_grad
    ]


def test_trains_and_evaluates(run):
    row, runner, file = run
    seen, params = runner.seen, dict(runner.model.named_parameters())
    assert seen.losses and all(torch.isfinite(value) for value in seen.losses.values())
    assert all(torch.isfinite(p).all() for p in params.values())
    assert seen.evaluated and runner.iter == 1

    # It started from the file, in every layer.
    pretrained = torch.load(file)
    loaded = {n: p for n, p in seen.start.items() if n.removeprefix("backbone.") in pretrained}
    assert len(loaded) == 53 + 2 * 53
    assert all(torch.equal(p, pretrained[n.removeprefix("backbone.")]) for n, p in loaded.items())

    # Every weight that trains has had a gradient; what is frozen has not moved.
    trained = {n for n, p in params.items() if p.requires_grad}
    assert set(weights_of_layers(row)) <= trained & seen.reached
    moved = {n for n, p in params.items() if not torch.equal(p, seen.start[n])}
    assert moved and moved <= trained
    if row.method == "fixnorm":
        norms = [joint_norm(w, weights_of_layers(row)) for w in (seen.start, copies(runner.model))]
        torch.testing.assert_close(*norms, rtol=1e-6, atol=0)


def test_a_step_does_what_the_method_says(run):
    """The next step, with a known gradient everywhere and a rate that shows the decay.

    The formulas are written out here in float64; which weights they hold for, too.
    """
    row, runner, _ = run
    rate, gradient, lam, eps = 50.0, 1e-4, 1e-4, 1e-3
    optimizer, model = runner.optim_wrapper.optimizer, runner.model
    optimizer.state.clear()  # no momentum from the run
    for group in optimizer.param_groups:
        group["lr"] = rate
    for p in model.parameters():
        p.grad = torch.full_like(p, gradient) if p.requires_grad else None
    before = copies(model)
    optimizer.step()

    fixed = weights_of_layers(row) if row.method == "fixnorm" else []
    shifted = [
        n for n in weights_of_layers(row) if n.startswith("backbone.") and row.method == "ws-eps"
    ]
    stepped = {n: w.double() - rate * gradient for n, w in before.items() if n in fixed}
    factor = joint_norm(before, fixed) / joint_norm(stepped, fixed) if fixed else None
    for name, param in model.named_parameters():
        weight = before[name].double()
        if not param.requires_grad:
            expected = weight
        elif name in fixed:
            expected = stepped[name] * factor
        elif name in shifted:
            rows = weight.flatten(1)
            mean, std = rows.mean(1, keepdim=True), rows.std(1, keepdim=True)
            edit = ((1 - eps / std) * (rows - mean) + mean).view_as(weight)
            expected = weight - rate * (gradient + lam * edit)
        else:
            decay = 0 if row.method == "fixnorm" else lam
            expected = weight - rate * (gradient + decay * weight)
        scale = float(weight.abs().max())
        torch.testing.assert_close(
            param.detach().double(), expected, rtol=0, atol=2e-6 * max(scale, 0.01), msg=name
        )


def test_table_vii_s_columns_come_out_of_the_test_command(toy, backbones, tmp_path, capsys):
    """All nine for boxes and for masks, equal to pycocotools' own with COCO's usual limits."""
    row = next(r for r in DISTINCT if (r.folder, r.method) == ("mask_rcnn", "fixnorm"))
    config = short(row, toy, backbones)
    config.merge_from_dict({"test_evaluator.outfile_prefix": str(tmp_path / "boxes")})
    config.dump(tmp_path / "config.py")
    truth = toy / "annotations/instances_val2017.json"
    annotations = json.loads(truth.read_text())["annotations"]
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(copy.deepcopy(config.model))
    model.init_weights()
    with torch.no_grad():  # an untrained detector finds nothing: this one finds one class
        model.roi_head.bbox_head.fc_cls.bias[annotations[0]["category_id"] - 1] = 9.0
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    command = ["test.py", "config.py", "weights.pth", "--work-dir", "tested"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", command)
        runpy.run_path(str(ROOT / "tools/test.py"), run_name="__main__")
    (result,) = (tmp_path / "tested").glob("*/*.json")
    printed = json.loads(result.read_text())
    for kind in ("bbox", "segm"):
        api = COCO(str(truth))
        found = json.loads((tmp_path / f"boxes.{kind}.json").read_text())
        if kind == "segm":  # as CocoMetric does: areas are the masks'
            found = [{k: v for k, v in each.items() if k != "bbox"} for each in found]
        usual = COCOeval(api, api.loadRes(found), kind)
        usual.evaluate()
        usual.accumulate()
        usual.summarize()
        columns = [*usual.stats[:6], *usual.stats[9:12]]
        items = config.test_evaluator.metric_items
        assert [printed[f"coco/{kind}_{item}"] for item in items] == pytest.approx(
            columns, abs=5e-4
        )
    assert max(v for k, v in printed.items() if k.startswith("coco/bbox")) > 0
