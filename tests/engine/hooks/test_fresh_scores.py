"""An evaluation that came to nothing is logged as that."""

import pytest
from engine.toy_run import evaluation, toy_config, train
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.report.run import scalars
from normfix_mm.tuning import outcome


@HOOKS.register_module(force=True)
class Demanding(Hook):
    """From the second evaluation on nothing is detected."""

    def before_val_epoch(self, runner):
        runner.model.bbox_head.test_cfg.score_thr = 0.0 if runner.epoch == 1 else 1.1


@pytest.mark.slow
def test_an_evaluation_without_a_detection_does_not_log_the_one_before_again(toy_data, tmp_path):
    hooks = [dict(type=name) for name in ("FreshScoresHook", "CrossBoundaryRiskHook", "Demanding")]
    train(toy_config(toy_data, tmp_path, length=2, custom_hooks=hooks, **evaluation(toy_data)))
    _, found = scalars(tmp_path)
    first, second = found.values()
    assert "coco/bbox_mAP" in first and "coco/bbox_mAP" not in second
    assert any(key.startswith("mcbr/") for key in second)
    # So the run is the worst there is, whatever else was logged.
    assert outcome.value_of(outcome.metrics_of(second), "coco/bbox_mAP", maximize=True) == 0.0
