"""NormMonitorHook in real runs of a small RetinaNet: what it logs is so, and it changes nothing."""

import json
import math
import re

import pytest
import torch
from engine.test_amp import CpuScalerWrapper
from engine.toy_run import toy_config, train
from mmengine.hooks import Hook
from mmengine.registry import OPTIM_WRAPPERS
from mmengine.runner import Runner

from normfix_mm.analysis import steps
from normfix_mm.engine.hooks.norm_monitor import NormMonitorHook
from normfix_mm.optim.weights import norm_fix_weights
from normfix_mm.report.run import scalars

pytestmark = pytest.mark.slow

MONITOR = dict(type="NormMonitorHook", interval=1, each_layer=1)
SHIFT = {
    "optim_wrapper.constructor": "EpsShiftOptimWrapperConstructor",
    "optim_wrapper.paramwise_cfg": dict(eps_shift=dict(lam=0.1, eps=1e-3)),
}


class Steps(Hook):
    """The weights around each iteration, and the loss's gradients, kept by simpler means."""

    priority = "VERY_LOW"

    def __init__(self):
        self.weights, self.gradients = [], []

    def before_train(self, runner):
        self.infos = norm_fix_weights(runner.model)
        self.weights.append([i.param.detach().clone() for i in self.infos])
        wrapper, update = runner.optim_wrapper, runner.optim_wrapper.step

        def step(**kwargs):
            self.gradients.append([i.param.grad.clone() for i in self.infos])
            update(**kwargs)

        wrapper.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.weights.append([i.param.detach().clone() for i in self.infos])


def logged(work_dir) -> dict[int, dict]:
    """What the hook has given to the visualizer, by step."""
    (path,) = work_dir.glob("*/vis_data/scalars.json")
    entries = map(json.loads, path.read_text().splitlines())
    return {e["step"]: e for e in entries if any(k.startswith("leaning/") for k in e)}


def log_of(work_dir) -> str:
    return "".join(path.read_text() for path in work_dir.glob("*/*.log"))


def watched(config) -> Steps:
    # No clipping: gradients are looked at before the whole step of the wrapper, clipping and all.
    config.optim_wrapper.pop("clip_grad")
    runner, watch = Runner.from_cfg(config), Steps()
    runner.register_hook(watch)
    runner.train()
    return watch


@pytest.mark.parametrize("treated", [False, True])
def test_what_is_logged_of_each_layer_is_so(toy_data, tmp_path, treated):
    changes = SHIFT if treated else {"optim_wrapper.optimizer.weight_decay": 0.1}
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR], **changes)
    watch = watched(config)
    entries = logged(tmp_path)
    assert sorted(entries) == [1, 2, 3, 4, 5, 6]
    for step, entry in entries.items():
        for k, info in enumerate(watch.infos):
            old, new = (watch.weights[step - j][k].double().flatten() for j in (1, 0))
            gradient = watch.gradients[step - 1][k].double().flatten()
            cosine = torch.nn.functional.cosine_similarity
            wanted = {
                "norm": new.norm(),
                "update": (new - old).norm() / old.norm(),
                "turn": 2 * ((old / old.norm() - new / new.norm()).norm() / 2).asin(),
                "layer_lr": 0.02 / new.norm() ** 2,
            }
            for name, value in wanted.items():
                close = pytest.approx(value.item(), rel=2e-3, abs=1e-7)
                assert entry[f"{name}/{info.name}"] == close, (name, step)
            leaning = cosine(gradient, old, dim=0).item()
            assert entry[f"leaning/{info.name}"] == pytest.approx(leaning, abs=1e-5)
            # The ε-shift takes per-filter weights alone; a FixNorm layer decays as ever.
            lam = 0.1 if not treated or (info.form and info.per_filter) else 0.0
            settled = (2 * 0.02 * lam / 1.9) ** 0.5
            assert entry.get(f"settled_turn/{info.name}", 0) == pytest.approx(settled)
    smallest = {k for k in entries[1] if k.startswith("smallest_filter/")}
    assert smallest == {f"smallest_filter/{i.name}" for i in watch.infos if i.form == "WN"}


def test_watching_changes_no_bit(toy_data, tmp_path):
    finals = []
    for name, hooks in (("plain", []), ("watched", [MONITOR])):
        config = toy_config(toy_data, tmp_path / name, length=1, custom_hooks=hooks, **SHIFT)
        finals.append(train(config).model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(finals[0].values(), finals[1].values()))


def test_evaluations_are_still_told_from_layers(toy_data, tmp_path):
    train(toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR]))
    steps, evaluations = scalars(tmp_path)
    assert evaluations == {}
    assert steps and all("joint_norm" in entry for entry in steps.values())


def test_an_accumulated_step_is_measured_when_it_is_made(toy_data, tmp_path):
    monitor = dict(MONITOR, each_layer=3)
    changes = {"optim_wrapper.accumulative_counts": 2}
    train(toy_config(toy_data, tmp_path, length=1, custom_hooks=[monitor], **changes))
    assert sorted(logged(tmp_path)) == [2, 4]  # due at the first and fourth iteration


def test_beside_norm_fixing_nothing_is_logged_twice(toy_data, tmp_path):
    """With a gain above its cap, which one hook would log as it is and the other as it acts."""
    names = ["bbox_head.retina_cls", "bbox_head.retina_reg"]
    hooks = [dict(type="NormFixHook", interval=1), dict(MONITOR, layers=names)]
    changes = {"model.bbox_head.alpha": 0.1}
    runner = train(toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks, **changes))
    logged = runner.message_hub.log_scalars
    for name in ("joint_norm", *(f"gain/{name}" for name in names)):
        assert len(logged[f"train/{name}"].data[0]) == 6, name
    layer = runner.model.bbox_head.retina_cls
    gains, _ = logged[f"train/gain/{names[0]}"].data
    assert gains[-1] == pytest.approx(float(layer.g)) and gains[-1] > layer.cap
    assert "its norm is fixed, but the gradient" not in log_of(tmp_path)


def test_weights_that_rest_or_freeze_late_are_in_no_norm(toy_data, tmp_path):
    """MobileNetV2 freezes its stages in train(), which mmengine calls after before_train."""
    options = dict(widen_factor=0.25, out_indices=(1, 2, 4, 6), norm_cfg=dict(type="BN"))
    late = {
        "model.backbone": dict(_delete_=True, type="MobileNetV2", frozen_stages=4, **options),
        "model.neck.in_channels": [8, 8, 24, 80],
    }
    keys = dict(custom_keys={"backbone": dict(lr_mult=0.0)})
    for place, changes in (("late", late), ("rest", {"optim_wrapper.paramwise_cfg": keys})):
        config = toy_config(toy_data, tmp_path / place, length=1, custom_hooks=[MONITOR], **changes)
        runner = train(config)
        groups = {p: g["lr"] for g in runner.optim_wrapper.param_groups for p in g["params"]}
        moved = [w.param for w in norm_fix_weights(runner.model) if groups[w.param]]
        norm = sum(float(p.detach().double().square().sum()) for p in moved) ** 0.5
        logged = runner.message_hub.log_scalars
        assert logged["train/joint_norm"].current() == pytest.approx(norm)
        rate = runner.optim_wrapper.param_groups[-1]["lr"]
        assert logged["train/effective_lr"].current() == pytest.approx(rate / norm**2)


def test_a_weight_that_was_zero_leaves_only_numbers(toy_data, tmp_path):
    zero = dict(type="Constant", layer="Conv2d", val=0.0)
    changes = {"model.neck.init_cfg": zero, "model.neck.conv_cfg": None}
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR], **changes)
    train(config)
    (path,) = tmp_path.glob("*/vis_data/scalars.json")
    text = path.read_text()
    assert "norm/neck.fpn_convs.0.conv.weight" in text
    assert "NaN" not in text and "Infinity" not in text


def test_a_fixed_norm_that_matters_is_said(toy_data, tmp_path):
    hooks = [dict(type="NormFixHook", check=False), MONITOR]
    plain = {"model.bbox_head.type": "RetinaHead"}  # towers and predictors without a norm
    train(toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks, **plain))
    assert "bbox_head.retina_cls.weight: its norm is fixed, but the gradient" in log_of(tmp_path)


def test_decay_without_time_is_said_before_training(toy_data, tmp_path):
    changes = {"optim_wrapper.optimizer.weight_decay": 1e-4}
    train(toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR], **changes))
    acts = 0.02 * 1e-4 * 6 / 0.1
    assert f"ηλT/(1 − m) is {acts:.2g}" in log_of(tmp_path)


def test_tensorboard_gets_the_layers(toy_data, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    visualizer = dict(type="Visualizer", vis_backends=[dict(type="TensorboardVisBackend")])
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR], visualizer=visualizer)
    train(config)
    (folder,) = tmp_path.glob("*/vis_data")
    found = events.EventAccumulator(str(folder))
    found.Reload()
    turns = [tag for tag in found.Tags()["scalars"] if tag.startswith("turn/")]
    assert len(turns) > 20
    assert [event.step for event in found.Scalars(turns[0])] == [1, 2, 3, 4, 5, 6]


def test_an_interval_below_one_is_refused():
    with pytest.raises(ValueError, match="each_layer=0"):
        NormMonitorHook(each_layer=0)


@OPTIM_WRAPPERS.register_module(force=True)
class OverflowingWrapper(CpuScalerWrapper):
    """Every gradient of the steps `overflow_at` is infinite, as of a loss scaled too far."""

    def step(self, **kwargs):
        overflows, self.overflow_at = self.overflow_at, ()
        if self.calls in overflows:
            for group in self.optimizer.param_groups:
                for param in group["params"]:
                    if param.grad is not None:
                        param.grad.fill_(float("inf"))
        super().step(**kwargs)
        self.overflow_at = overflows


def test_a_step_that_a_fused_optimizer_skips_is_no_reading(toy_data, tmp_path):
    wrapper = {"optim_wrapper.type": "OverflowingWrapper", "optim_wrapper.overflow_at": (0,)}
    wrapper |= {"optim_wrapper.optimizer.fused": True, "optim_wrapper.optimizer.momentum": 0.0}
    hooks = [dict(type="NormFixHook"), MONITOR]
    cfg = toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks, **wrapper)
    cfg.optim_wrapper.pop("clip_grad")
    runner = train(cfg)
    entries = logged(tmp_path)
    assert entries and 1 not in entries  # the first step is the one that was skipped
    assert len(entries) == runner.max_iters - 1
    assert "its norm is fixed, but the gradient wants to change it" not in log_of(tmp_path)


@pytest.mark.parametrize(
    ("kind", "told"), [("SGD", True), ("AdamW", True), ("Adam", False), ("RMSprop", False)]
)
def test_what_decay_does_is_said_of_optimizers_of_which_it_is_known(kind, told):
    """Of 600 steps with decay the length is what ηλT/(1 − m) says, or nothing is said."""
    torch.manual_seed(0)
    lengths, x = {}, torch.randn(16, 8)
    for lam in (0.0, 1e-2):
        weight = torch.nn.Parameter(torch.ones(4, 8))
        optimizer = getattr(torch.optim, kind)([weight], lr=1e-3, weight_decay=lam)
        for _ in range(600):
            optimizer.zero_grad()
            torch.nn.functional.layer_norm(x @ weight.T, (4,)).square()[:, 0].sum().backward()
            optimizer.step()
        lengths[lam] = float(weight.detach().norm())
    acts = steps.time_to_act(1e-3, 1e-2, 600, 0.0)
    as_said = abs(lengths[1e-2] / lengths[0.0] - math.exp(-acts)) < 0.01
    assert steps.shrinks_as_said(optimizer, optimizer.param_groups[0]) == as_said == told


def test_an_adam_s_decay_is_not_said_to_have_no_time(toy_data, tmp_path):
    adam = dict(_delete_=True, type="Adam", lr=1e-4, weight_decay=1e-4)
    changes = {"optim_wrapper.optimizer": adam}
    train(toy_config(toy_data, tmp_path, length=1, custom_hooks=[MONITOR], **changes))
    assert "ηλT/(1 − m)" not in log_of(tmp_path)


def test_the_time_that_decay_has_counts_steps_and_the_highest_rate(toy_data, tmp_path):
    def said(name: str, **options) -> str:
        train(toy_config(toy_data, tmp_path / name, length=1, custom_hooks=[MONITOR], **options))
        found = re.search(r"ηλT/\(1 − m\) is (\S+),", log_of(tmp_path / name))
        return found[1] if found else ""

    decay = {"optim_wrapper.optimizer.weight_decay": 1e-2}
    once = float(said("once", **decay))
    thrice = float(said("thrice", **decay, **{"optim_wrapper.accumulative_counts": 3}))
    assert thrice == pytest.approx(once / 3, rel=0.1)
    cycle = [dict(type="OneCycleLR", eta_max=0.02, total_steps=6, by_epoch=False)]
    decay = {"optim_wrapper.optimizer.weight_decay": 1.0}  # ηλT/(1 − m) is up to .4 and more
    assert not said("cycle", **decay, param_scheduler=cycle)
