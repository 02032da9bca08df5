"""The table of treatments: once, before training, of the weights that training starts from."""

from pathlib import Path

import pytest
import torch
from engine.toy_run import toy_config
from mmengine.hooks import Hook
from mmengine.runner import Runner

pytestmark = pytest.mark.slow

FIX, TABLE = dict(type="NormFixHook"), dict(type="WeightTableHook")
SHIFT = {
    "optim_wrapper.constructor": "EpsShiftOptimWrapperConstructor",
    "optim_wrapper.optimizer.weight_decay": 1e-4,
}


class Look(Hook):
    """The state that training starts from."""

    priority = "LOWEST"

    def before_train(self, runner):
        self.state = {k: v.detach().clone() for k, v in runner.model.state_dict().items()}


def start(config):
    """Train; the start and, row by row, every table in the log."""
    runner, look = Runner.from_cfg(config), Look()
    runner.register_hook(look)
    runner.train()
    (log,) = Path(runner.work_dir).glob("*/*.log")
    text = log.read_text(encoding="utf-8")
    tables = [
        part.split(" - mmengine - ")[0] for part in text.split("Treatment of every param")[1:]
    ]
    return look.state, [[line.split() for line in table.splitlines()] for table in tables]


@pytest.mark.parametrize("hooks", [[FIX, TABLE], [TABLE, FIX]])
def test_norm_fixing_is_in_the_one_table(toy_data, tmp_path, hooks):
    state, (rows,) = start(toy_config(toy_data, tmp_path, length=1, custom_hooks=hooks))
    assert ["norm", "fixing", "conv", "WN"] in [row[:4] for row in rows]
    (row,) = (row for row in rows if row[:4] == ["norm", "fixing", "conv", "FixNorm"])
    # The norm of the weights as initialized, after the model was built.
    norm = float(state["bbox_head.retina_cls.weight"].norm())
    assert float(row[6]) == pytest.approx(norm, rel=1e-3)


def test_the_shift_alone_and_gains_without_norm_fixing(toy_data, tmp_path):
    config = toy_config(toy_data, tmp_path, length=1, custom_hooks=[TABLE], **SHIFT)
    state, (rows,) = start(config)
    assert ["ε-shift", "conv", "WN"] in [row[:3] for row in rows]
    assert ["decay", "0.0001", "conv", "FixNorm"] in [row[:4] for row in rows]
    gain, weight = (state[f"neck.fpn_convs.0.conv.{name}"] for name in ("g", "weight"))
    torch.testing.assert_close(gain, weight.flatten(1).norm(dim=1))


def test_without_the_hook_there_is_none(toy_data, tmp_path):
    assert start(toy_config(toy_data, tmp_path, length=1, **SHIFT))[1] == []
