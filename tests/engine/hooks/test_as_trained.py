"""What hooks see before training is what is trained: gains, frozen stages, a teacher's copy."""

import copy

import pytest
import torch
from engine.toy_run import toy_config, train
from mmengine.hooks import Hook
from mmengine.runner import Runner

from normfix_mm.layers.gain import gained_layers
from normfix_mm.optim.weights import norm_fix_weights

pytestmark = pytest.mark.slow

FIX, TABLE = dict(type="NormFixHook"), dict(type="WeightTableHook")
MOBILE = dict(type="MobileNetV2", widen_factor=0.25, out_indices=(1, 2, 4, 6), frozen_stages=4)


class Look(Hook):
    """Twin parameters of student and teacher before the first iteration."""

    priority = "LOWEST"

    def before_train(self, runner):
        student, teacher = runner.model.student, runner.model.teacher
        others = dict(teacher.named_parameters())
        self.twins = [(n, p.clone(), others[n].clone()) for n, p in student.named_parameters()]
        self.gains = len(gained_layers(student))


@pytest.mark.parametrize("hooks", [[FIX], [TABLE], [dict(type="NormMonitorHook")]])
def test_a_mean_teacher_starts_as_its_student(toy_data, tmp_path, hooks):
    cfg = toy_config(toy_data, tmp_path, by_epoch=False, length=1)
    detector = copy.deepcopy(cfg.model)
    branches = dict(
        type="MultiBranchDataPreprocessor", data_preprocessor=detector.data_preprocessor
    )
    cfg.model = dict(
        type="SemiBaseDetector",
        detector=detector,
        data_preprocessor=branches,
        semi_train_cfg=dict(freeze_teacher=True),
        semi_test_cfg=dict(predict_on="teacher"),
    )
    cfg.custom_hooks = [dict(type="MeanTeacherHook"), *hooks]
    runner, look = Runner.from_cfg(cfg), Look()
    runner.register_hook(look)
    with pytest.raises(Exception, match="multi_batch|inputs|dict|list"):  # no unlabelled pictures
        runner.train()
    assert look.gains == 12
    assert all(torch.equal(ours, theirs) for _, ours, theirs in look.twins)


def test_stages_that_freeze_when_training_begins_are_in_no_table(toy_data, tmp_path):
    changes = {
        "model.backbone": MOBILE | dict(_delete_=True, norm_cfg=dict(type="BN")),
        "model.neck.in_channels": [8, 8, 24, 80],
    }
    options = dict(by_epoch=False, length=2, custom_hooks=[FIX, TABLE])
    runner = train(toy_config(toy_data, tmp_path, **options, **changes))
    held = [w for w in norm_fix_weights(runner.model) if w.name.startswith("backbone")]
    (log,) = tmp_path.glob("*/*.log")
    text = log.read_text()
    rows = [line.split() for line in text.splitlines()]
    (row,) = (row for row in rows if row[:3] == ["backbone", "conv", "plain"])
    assert 0 < len(held) < 40 and row[3] == str(len(held))
    assert ["frozen", "conv", "-"] in [row[:3] for row in rows]


def test_two_norm_fixing_hooks_log_a_norm_each(toy_data, tmp_path):
    hooks = [FIX | dict(include="backbone"), FIX | dict(include=["neck", "bbox"])]
    hooks = [hook | dict(interval=1) for hook in hooks]
    runner = train(toy_config(toy_data, tmp_path, by_epoch=False, length=3, custom_hooks=hooks))
    logged, infos = runner.message_hub.log_scalars, norm_fix_weights(runner.model)
    for key, parts in (("joint_norm", ("backbone",)), ("joint_norm_1", ("neck", "bbox"))):
        params = [w.param.detach().double() for w in infos if w.name.startswith(parts)]
        norm = float(sum(p.square().sum() for p in params) ** 0.5)
        assert logged[f"train/{key}"].data[0].tolist() == pytest.approx([norm] * 3)


def test_deformable_convolutions_are_convolutions(toy_data, tmp_path):
    """Their norm is held, and the check knows that one with a BN behind it may be."""
    dcn = dict(type="DCNv2", deform_groups=1, fallback_on_stride=False)
    changes = {
        "model.backbone.dcn": dcn,
        "model.backbone.stage_with_dcn": (False, False, False, True),
        "model.backbone.depth": 50,
        "model.neck.in_channels": [64, 128, 256, 512],
        "model.backbone.base_channels": 16,
    }
    hooks = [FIX | dict(exclude="conv_offset")]
    cfg = toy_config(toy_data, tmp_path, by_epoch=False, length=2, custom_hooks=hooks, **changes)
    runner = train(cfg)
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == "NormFixHook")
    deformable = [f"backbone.layer4.{k}.conv2.weight" for k in range(3)]
    assert set(deformable) < set(hook.norm_fix.names)
    norm = sum(i.param.detach().double().square().sum() for i in hook.norm_fix.infos) ** 0.5
    assert float(norm) == pytest.approx(float(hook.norm_fix.target), rel=1e-6)
