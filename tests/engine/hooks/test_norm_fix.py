"""NormFixHook in real runs of a small RetinaNet: targets, refusals, logs, what it leaves alone."""

import json
from types import SimpleNamespace

import pytest
import torch
from engine.toy_run import toy_config, train
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner

from normfix_mm import WNConv2d
from normfix_mm.engine.hooks.invariance_check import check_scale_invariance
from normfix_mm.engine.hooks.norm_fix import NormFixHook
from normfix_mm.engine.hooks.norm_monitor import NormMonitorHook

pytestmark = pytest.mark.slow

FIX = dict(type="NormFixHook")


class Watch(Hook):
    """The joint norm, weight by weight in float64, when the hooks after each iteration run."""

    priority = "NORMAL"  # as EMAHook

    def __init__(self):
        self.norms, self.state = [], None

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.norms.append(joint_norm(runner.model))


def joint_norm(model) -> float:
    """By name, not by the package's own selection: this model has no other 4-d parameters."""
    weights = [p for p in model.parameters() if p.dim() == 4]
    return sum(p.detach().double().pow(2).sum().item() for p in weights) ** 0.5


def run(config):
    runner = Runner.from_cfg(config)
    watch = Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def log_of(work_dir) -> str:
    return "".join(path.read_text() for path in work_dir.glob("*/*.log"))


def test_the_norm_is_held_after_initialization_and_every_step(toy_data, tmp_path):
    hooks = [FIX, dict(type="EMAHook", momentum=0.5)]
    runner, watch = run(
        toy_config(
            toy_data,
            tmp_path,
            length=1,
            custom_hooks=hooks,
            **{"optim_wrapper.accumulative_counts": 2},
        )
    )
    fixing = next(h for h in runner.hooks if type(h).__name__ == "NormFixHook").norm_fix
    target = float(fixing.target)
    assert len(watch.norms) == 6 and watch.norms == pytest.approx([target] * 6, rel=1e-6)
    # Initialization came after the optimizer was built: the target is not the constructor's norm.
    built = joint_norm(Runner.from_cfg(toy_config(toy_data, tmp_path / "x", length=1)).model)
    assert abs(built / target - 1) > 0.01
    ema = next(h for h in runner.hooks if type(h).__name__ == "EMAHook").ema_model.module
    logged = {k: v.current() for k, v in runner.message_hub.log_scalars.items()}
    assert logged["train/joint_norm"] == pytest.approx(target, rel=1e-6)
    assert logged["train/ema_joint_norm"] == pytest.approx(joint_norm(ema), rel=1e-9)
    assert logged["train/ema_joint_norm"] < target * (1 - 1e-6)  # inside the sphere
    assert logged["train/effective_lr"] == pytest.approx(0.02 / target**2, rel=1e-5)
    layer = runner.model.bbox_head.retina_cls
    assert logged["train/gain/bbox_head.retina_cls"] == pytest.approx(layer.g.item())
    assert logged["train/cap/bbox_head.retina_cls"] == 18**0.5


def test_scalars_reach_the_log_file_at_its_interval(toy_data, tmp_path):
    runner = train(toy_config(toy_data, tmp_path, length=1, custom_hooks=[FIX]))
    (log,) = tmp_path.glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in log.open()]
    names = {"joint_norm", "effective_lr", "gain/bbox_head.retina_cls", "cap/bbox_head.retina_cls"}
    assert len(rows) == 3 and all(names <= set(row) for row in rows)
    history, _ = runner.message_hub.get_scalar("train/joint_norm").data
    assert len(history) == 3  # not at every step: reading a norm waits for the device


def test_a_gain_that_never_left_its_cap_is_said_at_the_end(toy_data, tmp_path):
    small = {"model.bbox_head.alpha": 0.01}
    hooks = [FIX | dict(interval=1)]
    train(toy_config(toy_data, tmp_path, length=2, custom_hooks=hooks, **small))
    said = log_of(tmp_path)
    assert "bbox_head.retina_cls: g was at its cap, 0.0424, from the first iteration" in said


@pytest.mark.parametrize("mode", ["joint", "layer"])
def test_weights_that_something_else_writes_after_the_step_are_said_once(toy_data, tmp_path, mode):
    class Shrinks(Hook):
        priority = "VERY_HIGH"

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            with torch.no_grad():
                runner.model.backbone.conv1.weight.mul_(0.9)

    runner = Runner.from_cfg(
        toy_config(toy_data, tmp_path, length=1, custom_hooks=[FIX | dict(mode=mode)])
    )
    runner.register_hook(Shrinks())
    runner.train()
    assert log_of(tmp_path).count("something else writes the weights afterwards") == 1
    train(toy_config(toy_data, tmp_path / "b", length=1, custom_hooks=[FIX | dict(mode=mode)]))
    assert "something else" not in log_of(tmp_path / "b")


def test_mode_layer_holds_each_norm(toy_data, tmp_path):
    hooks = [FIX | dict(mode="layer")]
    runner, _ = run(toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks))
    fixing = next(h for h in runner.hooks if type(h).__name__ == "NormFixHook").norm_fix
    norms = [info.param.double().norm().item() for info in fixing.infos]
    assert norms == pytest.approx(fixing.target.tolist(), rel=1e-6) and len(norms) == 32


def test_load_from_takes_new_targets_and_resume_keeps_the_old(toy_data, tmp_path):
    train(toy_config(toy_data, tmp_path / "a", length=1, custom_hooks=[FIX]))
    checkpoint = tmp_path / "a" / "epoch_1.pth"
    saved = torch.load(checkpoint, weights_only=False)
    target = float(saved["norm_fix"]["target"])
    # A checkpoint whose weights are off the sphere tells "anew" from "kept".
    saved["state_dict"]["backbone.conv1.weight"] *= 3
    torch.save(saved, tmp_path / "off.pth")
    options = dict(custom_hooks=[FIX], load_from=str(tmp_path / "off.pth"), length=2)
    _, loaded = run(toy_config(toy_data, tmp_path / "b", **options))
    _, resumed = run(toy_config(toy_data, tmp_path / "c", resume=True, **options))
    assert resumed.norms == pytest.approx([target] * 6, rel=1e-6)
    assert len(loaded.norms) == 12 and min(loaded.norms) > target * 1.01


def test_mode_layer_resumes_beside_frozen_stages_and_sees_a_changed_layer(toy_data, tmp_path):
    options = {"custom_hooks": [FIX | dict(mode="layer")], "model.backbone.frozen_stages": 4}
    train(toy_config(toy_data, tmp_path / "a", length=1, **options))
    checkpoint = tmp_path / "a" / "epoch_1.pth"
    options |= dict(resume=True, load_from=str(checkpoint), length=2)
    _, resumed = run(toy_config(toy_data, tmp_path / "b", **options))
    assert len(resumed.norms) == 6
    saved = torch.load(checkpoint, weights_only=False)
    saved["state_dict"]["neck.fpn_convs.2.conv.weight"] *= 2
    torch.save(saved, checkpoint)
    with pytest.raises(ValueError, match=r"the norm of neck\.fpn_convs\.2\.conv\.weight .* is"):
        train(toy_config(toy_data, tmp_path / "c", **options))


def test_two_hooks_each_go_on_with_their_own_target(toy_data, tmp_path):
    parts = [dict(include="^backbone"), dict(include="^(neck|bbox_head)", mode="layer")]
    hooks = [FIX | part for part in parts]
    targets = []
    for folder, options in (("a", {}), ("b", dict(resume=True))):
        if options:
            options["load_from"] = str(tmp_path / "a" / "epoch_1.pth")
        length = 2 if options else 1
        config = toy_config(toy_data, tmp_path / folder, length=length, custom_hooks=hooks)
        config.merge_from_dict(options)
        fixings = [hook.norm_fix for hook in train(config).hooks if hasattr(hook, "norm_fix")]
        targets.append([fixing.target for fixing in fixings])
    assert len(targets[0]) == 2
    assert all(torch.equal(*pair) for pair in zip(*targets, strict=True))


def test_resuming_a_run_without_targets_is_refused(toy_data, tmp_path):
    train(toy_config(toy_data, tmp_path / "a", length=1))
    options = dict(resume=True, load_from=str(tmp_path / "a" / "epoch_1.pth"), length=2)
    with pytest.raises(ValueError, match=r"no target norm.*load_from"):
        train(toy_config(toy_data, tmp_path / "b", custom_hooks=[FIX], **options))


def test_gains_are_set_where_a_stock_checkpoint_has_none(toy_data, tmp_path):
    plain = {"model.bbox_head.type": "RetinaHead", "model.neck.conv_cfg": None}
    stock = train(toy_config(toy_data, tmp_path / "a", length=1, **plain))
    options = dict(load_from=str(tmp_path / "a" / "epoch_1.pth"), custom_hooks=[FIX], length=1)
    runner = Runner.from_cfg(toy_config(toy_data, tmp_path / "b", **options))
    gains = []

    class Look(Hook):
        priority = "LOWEST"

        def before_train(self, runner):
            gains.append(runner.model.bbox_head.retina_reg.g.detach().clone())

    runner.register_hook(Look())
    runner.train()
    weight = stock.model.bbox_head.retina_reg.weight.detach()
    torch.testing.assert_close(gains[0], weight.flatten(1).norm(dim=1))


PLAIN = {"model.bbox_head.type": "RetinaHead", "model.neck.conv_cfg": None}


def test_scale_variant_weights_are_refused_with_their_names(toy_data, tmp_path):
    with pytest.raises(ValueError, match="not scale-invariant") as error:
        train(toy_config(toy_data, tmp_path, custom_hooks=[FIX], **PLAIN))
    for name in ("bbox_head.retina_cls.weight", "conv_cfg=dict(type='WNConv2d'", "check='warn'"):
        assert name in str(error.value)
    assert "backbone" not in str(error.value)  # BN in training mode behind each


def test_norm_eval_makes_the_backbone_an_offender(toy_data, tmp_path):
    with pytest.raises(ValueError, match=r"20 of 32 weights.*backbone\..*norm_eval=False"):
        train(
            toy_config(toy_data, tmp_path, custom_hooks=[FIX], **{"model.backbone.norm_eval": True})
        )


def test_only_a_warning_if_the_user_says_so(toy_data, tmp_path):
    hooks = [FIX | dict(check="warn")]
    train(toy_config(toy_data, tmp_path / "a", length=1, custom_hooks=hooks, **PLAIN))
    assert "not scale-invariant" in log_of(tmp_path / "a")
    hooks = [FIX | dict(check=False)]
    train(toy_config(toy_data, tmp_path / "b", length=1, custom_hooks=hooks, **PLAIN))
    assert "scale-invariant" not in log_of(tmp_path / "b")


def test_the_check_changes_nothing(toy_data, tmp_path):
    """The same run with and without it: weights, BN statistics and data, bit for bit."""
    states = []
    for check in (True, False):
        runner = train(
            toy_config(
                toy_data, tmp_path / str(check), length=1, custom_hooks=[FIX | dict(check=check)]
            )
        )
        states.append(runner.model.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name


def test_decay_on_a_fixed_weight_is_refused(toy_data, tmp_path):
    decay = {"optim_wrapper.optimizer.weight_decay": 1e-4}
    with pytest.raises(ValueError, match=r"decays 32 of the 32 weights.*weight_decay=0\."):
        train(toy_config(toy_data, tmp_path / "a", custom_hooks=[FIX], **decay))
    # The remedy it names, for the variant that decays the classifier.
    keys = {"": dict(decay_mult=0.0), "retina_cls": dict(decay_mult=1.0)}
    train(
        toy_config(
            toy_data,
            tmp_path / "b",
            length=1,
            custom_hooks=[FIX | dict(weights="conv")],
            **decay,
            **{"optim_wrapper.paramwise_cfg": dict(custom_keys=keys)},
        )
    )


def test_two_treatments_on_one_weight_are_refused(toy_data, tmp_path):
    shift = {"optim_wrapper.constructor": "EpsShiftOptimWrapperConstructor"}
    with pytest.raises(ValueError, match=r"already under ε-shift.*exclude="):
        train(toy_config(toy_data, tmp_path / "a", custom_hooks=[FIX], **shift))
    apart = FIX | dict(exclude="neck|bbox_head")
    train(toy_config(toy_data, tmp_path / "b", length=1, custom_hooks=[apart], **shift))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(check="never"), "check='never'"),
        (dict(interval=0), "interval=0"),
        (dict(mode="both"), "mode"),
        (dict(weights="all"), "weights='all'"),
        (dict(include="nowhere"), "'nowhere' matches no weight"),
    ],
)
def test_bad_options_are_refused_before_training(toy_data, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        train(toy_config(toy_data, tmp_path, custom_hooks=[FIX | options]))


def test_several_optimizers_are_refused():
    model = torch.nn.Conv2d(3, 4, 1)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    runner = SimpleNamespace(model=model, optim_wrapper=OptimWrapperDict(only=wrapper))
    with pytest.raises(ValueError, match="belongs to one optimizer"):
        NormFixHook().before_train(runner)


@pytest.mark.parametrize("several", [False, True])
def test_the_monitor_says_before_training_that_it_has_nothing_to_log(several):
    model = torch.nn.Linear(3, 4)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    if several:
        wrapper = OptimWrapperDict(only=wrapper)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, cfg={})
    said = "NormMonitorHook: the joint norm belongs to one" if several else "no weight that trains"
    with pytest.raises(ValueError, match=said):
        NormMonitorHook().before_train(runner)


class WritesIntoItsBatch(torch.nn.Module):
    """A model of mmengine's kind whose preprocessor, as mmdet's does, changes the samples."""

    def __init__(self):
        super().__init__()
        self.conv = WNConv2d(2, 3, 1)

    def data_preprocessor(self, data, training):
        data["x"] /= 255
        return data

    def forward(self, x, mode):
        return dict(loss=self.conv(x).square().mean())


def test_the_batch_is_measured_on_a_copy():
    batch = dict(x=torch.rand(2, 2, 4, 4))
    before = batch["x"].clone()
    assert check_scale_invariance(WritesIntoItsBatch(), batch, ["conv.weight"]) == {}
    assert torch.equal(batch["x"], before)


class At(Hook):
    """Does something to the model before an iteration."""

    def __init__(self, iteration, what):
        self.iteration, self.what = iteration, what

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.iteration:
            self.what(runner.model)


def run_with(config, *hooks):
    runner = Runner.from_cfg(config)
    for hook in hooks:
        runner.register_hook(hook, priority="VERY_HIGH")
    runner.train()
    return runner


def test_a_norm_that_stops_using_its_batch_in_mid_run_is_noticed(toy_data, tmp_path):
    def switch(model):
        model.backbone.layer1[0].bn2.train(False)  # adds to a shortcut

    with pytest.raises(ValueError, match="backbone.layer1.0.conv2.weight"):
        run_with(toy_config(toy_data, tmp_path, custom_hooks=[FIX]), At(3, switch))


def test_a_stage_frozen_in_mid_run_keeps_its_bits_and_the_others_their_norm(toy_data, tmp_path):
    kept = {}

    def freeze(model):
        for name in ("conv1", "bn1", "layer1"):
            part = getattr(model.backbone, name)
            part.eval().requires_grad_(False)
            kept[name] = [p.detach().clone() for p in part.parameters()]

    runner = run_with(toy_config(toy_data, tmp_path, custom_hooks=[FIX]), At(3, freeze))
    for name, values in kept.items():
        for p, value in zip(getattr(runner.model.backbone, name).parameters(), values, strict=True):
            assert torch.equal(p, value)
    fixing = next(h for h in runner.hooks if type(h).__name__ == "NormFixHook").norm_fix
    assert not [n for n in fixing.names if "layer1" in n] and len(fixing.names) > 10
    assert float(fixing.joint_norm()) == pytest.approx(float(fixing.target), rel=1e-6)
    # ... and a run resumed from it, frozen only later, goes on.
    again = toy_config(toy_data, tmp_path, custom_hooks=[FIX], length=3, resume=True)
    run_with(again)


def test_activation_checkpointing_of_the_runner(toy_data, tmp_path):
    """Reentrant checkpoints work inside backward() alone."""
    parts = ["backbone.layer2", "backbone.layer3"]
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[FIX])
    config.activation_checkpointing = parts
    train(config)
    assert "weights are scale-invariant" in log_of(tmp_path)


def test_a_weight_that_only_the_eps_of_its_norm_makes_variant_is_a_warning(toy_data, tmp_path):
    def shrink(model):
        model.backbone.layer1[0].conv2.weight.data.mul_(1e-3)

    class BeforeTraining(Hook):
        def before_train(self, runner):
            shrink(runner.model)

    run_with(toy_config(toy_data, tmp_path, length=1, custom_hooks=[FIX]), BeforeTraining())
    log = log_of(tmp_path)
    assert "eps of the norm behind them (1e-05)" in log and "backbone.layer1.0.conv2.weight" in log


def test_a_config_with_none_of_our_hooks_has_the_right_gains(toy_data, tmp_path):
    """Layers through conv_cfg, initialized by MMDetection after they were made."""
    seen = []

    class Look(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            if runner.iter == 0:
                conv = runner.model.neck.lateral_convs[0].conv
                seen.append((conv.g.detach().clone(), conv.weight.detach().flatten(1).norm(dim=1)))

    config = toy_config(toy_data, tmp_path, length=1, **{"optim_wrapper.optimizer.lr": 1e-9})
    run_with(config, Look())
    torch.testing.assert_close(*seen[0])
