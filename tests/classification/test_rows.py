"""Every row of the papers' tables: its figures, its full model under its method, two iterations.

The figures are typed from the papers, not read from our files.
"""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import pytest
import torch
from helpers.small_folders import some_classes
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, MODELS, PARAM_SCHEDULERS, DefaultScope
from torch import nn

import normfix_mm.classification  # noqa: F401  registers everything
from normfix_mm.optim.claims import claims
from normfix_mm.optim.weights import weights_of
from normfix_mm.run.rows import choose_row

CONFIGS = Path(__file__).parents[2] / "configs/classification"
TABLES = {
    path.stem: Config.fromfile(path)
    for path in sorted(CONFIGS.glob("*.py"))
    if "rows =" in path.read_text() or "rows/" in path.read_text()
}
EPS, CIFAR, FIX = (
    "eps-shift_8xb32_imagenet",
    "eps-shift_1xb64-300e_cifar100",
    "fixnorm_16xb64_imagenet",
)
ROWS = [(table, row) for table, config in TABLES.items() for row in config.rows]
every_row = pytest.mark.parametrize(("table", "name"), ROWS, ids=[row for _, row in ROWS])

# Table V: baseline, WS, WS + ε.
FIGURES = {
    "r50": (76.54, 76.74, 76.86),
    "r101": (78.17, 78.07, 78.29),
    "x50": (77.64, 77.76, 77.88),
    "x101": (78.71, 78.68, 78.80),
    "ser101": (78.43, 78.65, 78.75),
    "densenet201": (77.54, 77.56, 77.59),
    "shufflenetv1": (67.62, 67.84, 68.09),
    "shufflenetv2": (69.64, 69.66, 69.70),
    "mobilenetv1": (73.55, 73.56, 73.60),
    "mobilenetv2": (73.14, 73.17, 73.22),
}
# Tables II and III: λ 1e-2, 1e-3, 1e-4, 1e-5, 0; None is a dash.
LAMBDAS = ("1e-2", "1e-3", "1e-4", "1e-5", "0")
GRID = {
    ("baseline", "sgd"): (47.67, 74.12, 76.54, 74.80, 72.65),
    ("baseline", "adam"): (19.42, 35.68, 52.97, 63.46, 72.50),
    ("wn", "sgd"): (None, None, 76.44, 74.65, 72.86),
    ("wn", "adam"): (None, None, None, None, 72.34),
    ("ws", "sgd"): (None, None, 76.74, 74.70, 72.92),
    ("ws", "adam"): (None, None, None, None, 72.85),
    ("wn-eps", "sgd"): (71.86, 75.31, 76.52, 74.63),
    ("wn-eps", "adam"): (64.31, 64.47, 65.92, 68.23),
    ("ws-eps", "sgd"): (72.15, 75.68, 76.86, 74.99),
    ("ws-eps", "adam"): (64.56, 64.71, 66.17, 68.45),
}
# FixNorm, Tables 1 and 2: epochs, rate, α, top-1; the reference's top-1 or None.
TUNED = {
    "r50d": ((120, 1.4, 0.5, 78.62, 78.37), (350, 1.1, 0.5, 79.29, 79.04)),
    "r50d-tricks": ((350, 1.1, 1.0, 81.27, 80.80),),
    "mobilenetv2": ((150, 0.5, 16.0, 73.20, 72.04), (350, 0.35, 8.0, 73.97, 73.38)),
    "efficientnet-b0": ((350, 0.5, 4.0, 77.72, None),),
    "efficientnet-b1": ((350, 0.8, 8.0, 79.52, None),),
    "mobilenetv2x1.12-tricks": ((350, 0.5, 8.0, 77.40, 76.72),),
    "mobilenetv2x1.54-tricks": ((350, 0.65, 4.0, 79.18, 78.75),),
}


def config_of(table: str, name: str) -> Config:
    config = copy.deepcopy(TABLES[table])
    choose_row(config, name)
    return config


@functools.lru_cache(maxsize=2)
def model_of(text: str) -> nn.Module:
    """The full model of a config, built once for neighbouring rows that share it."""
    model = Config.fromstring(text, ".py").model
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return MODELS.build(model)


def expected_figures() -> dict[tuple[str, str], float | None]:
    figures = {}
    for network, values in FIGURES.items():
        for method, value in zip(("baseline", "ws", "ws-eps"), values):
            figures[EPS, f"{network}_{method}"] = value
    for (method, optimizer), values in GRID.items():
        for lam, value in zip(LAMBDAS, values):
            name = f"r50_{method}_{optimizer}_lam{lam}"
            same = optimizer == "sgd" and lam == "1e-4" and "wn" not in method
            figures[EPS, f"r50_{method}" if same else name] = value
    figures[EPS, "r50_baseline_warmup"] = 76.81
    for eps, value in {"1e-2": 76.60, "1e-4": 76.84, "1e-5": 76.71}.items():
        figures[EPS, f"r50_ws-eps_eps{eps}"] = value
    figures[EPS, "shufflenetv2_ws_depthwise"] = 63.79
    figures[EPS, "mobilenetv2_ws_depthwise"] = 69.74
    for network, settings in TUNED.items():
        for epochs, _, _, value, reference in settings:
            figures[FIX, f"{network}_fixnorm-{epochs}e"] = value
            if reference:
                figures[FIX, f"{network}_reference-{epochs}e"] = reference
    figures[FIX, "r50d_bo-120e"], figures[FIX, "mobilenetv2_bo-150e"] = 78.53, 72.84
    return figures


def test_the_rows_are_those_of_the_tables_with_the_papers_figures():
    there = {(t, n): TABLES[t].rows[n].get("top1") for t, n in ROWS if t != CIFAR}
    assert there == expected_figures()
    methods = ("baseline", "ws", "ws-eps")
    cifar = {f"{network}_{method}" for network in ("x29", "se-x29") for method in methods}
    assert set(TABLES[CIFAR].rows) == cifar  # Table VI's figures are not at hand


@every_row
def test_settings_are_the_paper_s(table, name):
    config = config_of(table, name)
    optimizer = config.optim_wrapper.optimizer
    lam, eps = optimizer.weight_decay, None
    shift = config.optim_wrapper.get("paramwise_cfg", {}).get("eps_shift")
    if shift:
        assert shift.lam == lam
        eps = shift.eps
    network, _, rest = name.partition("_")
    if table == FIX:
        method, _, epochs = rest.rpartition("-")
        epochs = int(epochs.removesuffix("e"))
        assert config.train_cfg.max_epochs == epochs == config.param_scheduler[1].end
        assert optimizer.nesterov and optimizer.momentum == 0.9
        if method == "fixnorm":
            (rate, alpha) = next(s[1:3] for s in TUNED[network] if s[0] == epochs)
            assert (optimizer.lr, config.model.head.alpha, lam) == (rate, alpha, 0)
        elif method == "reference":
            assert (optimizer.lr, lam) == ((0.4, 1e-4) if "r50" in network else (0.2, 4e-5))
        else:
            assert (optimizer.lr, lam) == ((0.53, 8.6e-5) if "r50" in network else (0.64, 2.2e-5))
        assert ("AutoAugment" in str(config.train_dataloader)) == (
            "tricks" in network or "efficient" in network
        )
        return
    assert (shift is not None) == ("-eps" in name)
    if table == CIFAR:
        assert (optimizer.lr, lam, config.train_cfg.max_epochs) == (0.05, 5e-4, 300)
        assert eps in (None, 1e-2) and config.param_scheduler[0].milestones == [150, 225]
        assert "Cutout" in str(config.train_dataloader) and "Mixup" in str(config.model)
        return
    small = "net" in network and network != "densenet201"
    if small:
        assert (optimizer.lr, lam, config.train_cfg.max_epochs) == (0.4, 4e-5, 300)
        assert config.train_dataloader.batch_size == 128
        assert config.model.head.loss.type == "LabelSmoothLoss"
        return
    given = next((part for part in rest.split("_") if part.startswith("lam")), "lam1e-4")
    assert lam == float(given.removeprefix("lam"))
    assert (optimizer.type, optimizer.lr) == (("Adam", 1e-3) if "adam" in rest else ("SGD", 0.1))
    assert config.train_cfg.max_epochs == 100
    if "_eps" in rest:
        assert eps == float(rest.rpartition("_eps")[2])


@pytest.mark.slow
@every_row
def test_every_weight_of_the_full_model_gets_its_one_treatment(table, name):
    config = config_of(table, name)
    model = model_of(f"model = {config.model.to_dict()!r}")
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
        for hook in config.get("custom_hooks", []):
            if hook.type == "NormFixHook":
                HOOKS.build(copy.deepcopy(hook)).attach(model, wrapper.optimizer)
    groups = wrapper.optimizer.param_groups
    decay = {p: group["weight_decay"] for group in groups for p in group["params"]}
    claimed = claims(wrapper.optimizer)
    lam = config.optim_wrapper.optimizer.weight_decay
    small = config.train_cfg.max_epochs == 300 and table == EPS
    normalized = 0
    for w in weights_of(model):
        depthwise = w.kind == "conv" and w.module.groups == w.module.in_channels > 1
        inside = w.module_name.split(".")
        squeeze = "se_layer" in inside or "se" in inside
        treatment = claimed.get(w.param), decay[w.param]
        if table == FIX and "fixnorm" in name:
            fixed = w.kind in ("conv", "linear")
            assert treatment == ("norm fixing" if fixed else None, 0), w.name
            assert (w.form is not None) == ((squeeze and fixed) or w.name == "head.fc.weight")
            continue
        shifted = "-eps" in name and w.form is not None
        normalized += w.form is not None
        spared = w.name.endswith("bias") or ((small or table == FIX) and w.kind == "norm")
        spared |= small and depthwise
        assert treatment == ("ε-shift" if shifted else None, 0 if shifted or spared else lam), (
            w.name
        )
        if w.kind == "conv":
            pointwise = w.module.groups > 1 and w.module.kernel_size == (1, 1)
            plain = squeeze or pointwise or (depthwise and "depthwise" not in name)
            method = {"baseline": None, "bo": None, "reference": None}
            form = method.get(name.split("_")[1].partition("-")[0], name.split("_")[1][:2].upper())
            assert w.form == (None if plain else form), w.name
        else:
            assert w.form is None
    assert (normalized > 0) == any(m in name for m in ("_ws", "_wn"))


@pytest.fixture(scope="module")
def images(real_data, tmp_path_factory) -> list[dict]:
    """Six real images, with their classes."""
    folder = some_classes(
        real_data / "cifar10", tmp_path_factory.mktemp("images"), train=3, val=1, classes=2
    )
    pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        load = Compose(pipeline)
    paths = sorted((folder / "train").rglob("*.jpg"))
    return [load(dict(img_path=str(path), gt_label=int(i > 2))) for i, path in enumerate(paths)]


def reduced(model: Config) -> Config:
    """The same kind of network, thin and shallow, with all its kinds of layers."""
    backbone = model.backbone
    stock = backbone.type.removeprefix("Normalized")
    if stock in ("ResNet", "ResNetV1d", "ResNeXt", "SEResNet", "SEResNetD"):
        # ResNeXt's filters keep their 36 weights.
        backbone.update(depth=50, stem_channels=16, base_channels=16)
        model.head.in_channels = 512
        if stock == "ResNeXt":
            backbone.update(groups=4, width_per_group=4)
    elif stock == "DenseNet":
        backbone.arch = dict(growth_rate=8, depths=[2, 2, 2, 2], init_channels=16)
        model.head.in_channels = 32
    elif "CIFAR" in stock:
        backbone.update(groups=4, width_per_group=4, base_channels=16, stem_channels=16)
        model.head.in_channels = 256
    elif stock in ("MobileNetV1", "MobileNetV2"):
        backbone.widen_factor = 0.25
        model.head.in_channels = 256 if stock == "MobileNetV1" else 1280
    elif stock == "SEMobileNetV2":
        backbone.widen_factor = 0.25
        model.head.in_channels = 1280
    elif stock == "ShuffleNetV2":
        backbone.widen_factor = 0.5
    return model


@pytest.mark.slow
@every_row
def test_two_iterations_on_real_images(table, name, images):
    config = config_of(table, name)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        model = MODELS.build(reduced(config.model))
        model.init_weights()
        wrapper = build_optim_wrapper(model, copy.deepcopy(config.optim_wrapper))
        schedules = [
            PARAM_SCHEDULERS.build(
                s if not s.get("convert_to_iter_based") else dict(s, epoch_length=1000),
                default_args=dict(optimizer=wrapper.optimizer),
            )
            for s in copy.deepcopy(config.param_scheduler)
        ]
    fixing = None
    for hook in config.get("custom_hooks", []):
        if hook.type == "NormFixHook":
            fixing = HOOKS.build(copy.deepcopy(hook)).attach(model, wrapper.optimizer)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.train()
    losses = []
    for _ in range(2):
        batch = dict(
            inputs=[image["inputs"] for image in images],
            data_samples=[copy.deepcopy(image["data_samples"]) for image in images],
        )
        losses.append(float(model.train_step(batch, wrapper)["loss"].detach()))
        for schedule in schedules:
            if not schedule.by_epoch:
                schedule.step()
    assert all(torch.isfinite(torch.tensor(losses)))
    after = dict(model.named_parameters())
    assert all(torch.isfinite(p).all() for p in after.values())
    if wrapper.optimizer.param_groups[0]["lr"] > 0:
        still = [n for n, p in before.items() if p.dim() > 1 and torch.equal(p, after[n])]
        assert not still, still[:3]
    if fixing is not None:
        square = sum(before[w.name].double().square().sum() for w in fixing.infos)
        assert fixing.joint_norm() == pytest.approx(float(square.sqrt()), rel=1e-6)
