"""The four COCO configs, whole: model, optimizer, hooks, forward, backward, step.

Nothing is overridden but image size, batch, data and the number of iterations. ImageNet's weights
are not downloaded: a file in their layout, from a random ResNet-50, stands in for them.
"""

import math
from pathlib import Path

import mmdet
import pytest
import torch
from mmdet.datasets import CocoDataset
from mmdet.models.backbones import ResNet
from mmdet.registry import MODELS as MMDET_MODELS
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from toy_coco import make_toy_coco, toy_options

from normfix_mm import FixNormConv2d, WNConv2d

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs" / "retinanet").glob("retinanet_r50_fpn_*_coco.py"))
ITERATIONS = 2
EXPECTED_AP = {
    "retinanet_r50_fpn_wn_8xb2-90k_coco": 36.5,
    "retinanet_r50_fpn_wn_8xb2-cosine-90k_coco": 36.2,
    "retinanet_r50_fpn_fixnorm_8xb2-90k_coco": 36.9,
    "retinanet_r50_fpn_fixnorm_8xb2-cosine-90k_coco": 37.1,
}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return make_toy_coco(tmp_path_factory.mktemp("coco"), CocoDataset.METAINFO["classes"])


@pytest.fixture(scope="module")
def stock():
    """MMDetection's own model, which says what is a convolution and what has a norm behind it."""
    cfg = Config.fromfile(CONFIGS[0])
    base = Config.fromfile(
        Path(mmdet.__file__).parent / ".mim/configs/retinanet/retinanet_r50_fpn_1x_coco.py"
    )
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MMDET_MODELS.build(base.model)


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    """A file as torchvision's, whose residual branches are not zero as in a fresh ResNet."""
    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.manual_seed(0)
    model = ResNet(50, zero_init_residual=False)
    torch.save(model.state_dict(), file)
    return file


def train(config: Path, toy: Path, resnet50: Path, work_dir: Path) -> Runner:
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(toy_options(toy, batch=1))
    cfg.merge_from_dict({"model.backbone.init_cfg.checkpoint": str(resnet50)})
    cfg.work_dir = str(work_dir)
    cfg.merge_from_dict({"train_cfg.max_iters": ITERATIONS, "train_cfg.val_interval": ITERATIONS})
    cfg.randomness = dict(seed=0)
    runner = Runner.from_cfg(cfg)
    runner.seen = Recorder()
    runner.register_hook(runner.seen)
    runner.train()
    return runner


class Recorder(Hook):
    """Keeps the parameters after initialization, the losses, and what a gradient has reached."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.start = {n: p.detach().clone() for n, p in runner.model.named_parameters()}
            self.reached = set()
            runner.optim_wrapper.optimizer.register_step_pre_hook(
                lambda *_: self.reached.update(
                    n
                    for n, p in runner.model.named_parameters()
                    if p.grad is not None and p.grad.any()
                )
            )

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses = outputs


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_config_trains_and_evaluates(config, toy, resnet50, stock, tmp_path):
    runner = train(config, toy, resnet50, tmp_path)
    model, fixnorm = runner.model, "fixnorm" in config.stem

    # Layers: every convolution of the stock model, and no other parameter of it, has a new form.
    convolutions = {n for n, m in stock.named_modules() if isinstance(m, nn.Conv2d)}
    assert len(convolutions) == 53 + 8 + 10
    for name in convolutions:
        classifier = FixNormConv2d if fixnorm and name == "bbox_head.retina_cls" else WNConv2d
        assert type(model.get_submodule(name)) is classifier, name
        assert model.get_submodule(name).g is not None
    names = {n for n, _ in stock.named_parameters()}
    assert {n for n, _ in model.named_parameters()} == names | {f"{n}.g" for n in convolutions}
    if fixnorm:
        assert model.bbox_head.retina_cls.cap == pytest.approx(0.5 * math.sqrt(9 * 80))

    # What trains is what trains in the stock model, and every weight of it has a gradient.
    trained = {n for n, p in stock.named_parameters() if p.requires_grad}
    trained |= {f"{n}.g" for n in convolutions if f"{n}.weight" in trained}
    params = dict(model.named_parameters())
    assert {n for n, p in params.items() if p.requires_grad} == trained
    assert all(torch.isfinite(p).all() for p in params.values())
    moved = {n for n, p in params.items() if not torch.equal(p, runner.seen.start[n])}
    assert moved <= trained
    assert moved and {f"{n}.weight" for n in convolutions} & trained <= runner.seen.reached
    pretrained = torch.load(resnet50)
    assert all(
        torch.equal(runner.seen.start[f"backbone.{n}"], pretrained[n])
        for n in ("conv1.weight", "layer4.2.conv3.weight")
    )
    assert all(torch.isfinite(value) for value in runner.seen.losses.values())

    # Optimizer: the paper's rate and decay, on every trained parameter.
    groups = runner.optim_wrapper.optimizer.param_groups
    assert {id(p) for g in groups for p in g["params"]} >= {id(params[n]) for n in trained}
    assert {g["initial_lr"] for g in groups} == {0.0145 if fixnorm else 0.01}
    assert {g["weight_decay"] for g in groups} == {0.0 if fixnorm else 1e-4}

    # Norm fixing: the trained convolution weights as one vector keep their norm, and with FixNorm
    # only. The warm-up's steps are too small to tell, hence a last big one with the hooks in place.
    for group in groups:
        group["lr"] = 0.1
        for p in group["params"]:
            p.grad = torch.full_like(p, 0.01) if p.requires_grad else None
    runner.optim_wrapper.optimizer.step()
    weights = [f"{n}.weight" for n in convolutions if f"{n}.weight" in trained]
    before = sum(runner.seen.start[n].double().square().sum() for n in weights).sqrt()
    after = sum(params[n].detach().double().square().sum() for n in weights).sqrt()
    drift = abs(float(after / before) - 1)
    assert drift < 1e-6 if fixnorm else drift > 1e-4
    frozen = [f"{n}.weight" for n in convolutions if f"{n}.weight" not in trained]
    assert frozen and all(torch.equal(params[n], runner.seen.start[n]) for n in frozen)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_schedule_and_losses_are_the_paper_s(config):
    cfg = Config.fromfile(config)
    assert {path.stem for path in CONFIGS} == set(EXPECTED_AP)
    assert (cfg.train_cfg.type, cfg.train_cfg.max_iters) == ("IterBasedTrainLoop", 90000)
    assert cfg.auto_scale_lr.base_batch_size == 16 == 8 * cfg.train_dataloader.batch_size
    head = cfg.model.bbox_head
    assert (head.loss_cls.type, head.loss_cls.alpha, head.loss_cls.gamma) == ("FocalLoss", 0.25, 2)
    assert (head.loss_bbox.type, head.loss_bbox.beta) == ("SmoothL1Loss", 0.1)
    pipeline = {step["type"]: step for step in cfg.train_pipeline}
    assert tuple(pipeline["Resize"]["scale"]) == (1333, 800)
    assert pipeline["RandomFlip"]["prob"] == 0.5 and len(pipeline) == 5  # the only augmentation

    rate = cfg.optim_wrapper.optimizer.lr
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=rate)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        schedulers = [
            PARAM_SCHEDULERS.build(c, default_args=dict(optimizer=optimizer))
            for c in cfg.param_scheduler
        ]
    cosine = "cosine" in config.stem
    for t in range(90000):
        if t % 9973 == 250 or t in (0, 59999, 60001, 79999, 80001, 89999):
            warm = min(1, 0.001 + 0.999 * t / 499)
            steps = 0.1 ** ((t >= 60000) + (t >= 80000))
            shape = (1 + math.cos(math.pi * t / 90000)) / 2 if cosine else steps
            got = optimizer.param_groups[0]["lr"]
            assert got == pytest.approx(rate * warm * shape, rel=1e-3), t
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_header_names_command_result_and_source(config):
    header = config.read_text().split('"""')[1]
    assert f"configs/retinanet/{config.name} 8" in header
    expected = EXPECTED_AP[config.stem]
    assert f"Expected: {expected} box AP" in header and "the paper's figure" in header
    assert "Source: FixNorm" in header and "Run time:" in header
    metafile = (config.parent / "metafile.yml").read_text()
    entry = metafile.split(f"Name: {config.stem}\n")[1].split("- Name:")[0]
    assert f"box AP: {expected}" in entry and "Weights" not in entry
