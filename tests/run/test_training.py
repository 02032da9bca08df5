"""What training by a command adds to a run."""

from types import SimpleNamespace

import pytest
import torch
from helpers import tool
from helpers.small_command import write_config
from mmengine.config import Config

from normfix_mm.engine import (
    AsTrainedHook,
    ClassRecordHook,
    FiniteWeightsHook,
    FreshScoresHook,
    RunRecordHook,
)
from normfix_mm.run import training
from normfix_mm.run.ending import COMMAND


@pytest.mark.parametrize(
    "there", [[], [RunRecordHook()]], ids=["another config", "a config of ours"]
)
def test_every_training_stops_where_it_diverges_and_is_recorded(monkeypatch, tmp_path, there):
    hooks = list(there)
    runner = SimpleNamespace(hooks=hooks, register_hook=hooks.append, train=lambda: None)
    monkeypatch.setattr(training, "build_runner", lambda cfg: runner)
    monkeypatch.setattr(training.preflight, "check", lambda *arguments: None)
    monkeypatch.setenv(COMMAND, "bash tools/dist_train.sh my.py 2")
    training.train(SimpleNamespace(work_dir=str(tmp_path)))
    kinds = {AsTrainedHook, FiniteWeightsHook, FreshScoresHook, ClassRecordHook, RunRecordHook}
    assert {type(hook) for hook in hooks} == kinds and len(hooks) == 5
    (record,) = (hook for hook in hooks if isinstance(hook, RunRecordHook))
    assert record.command == "bash tools/dist_train.sh my.py 2"  # what was typed, not torchrun's


@pytest.mark.slow
def test_a_run_goes_on_where_the_file_it_started_from_is_gone(toy, tmp_path):
    """In init_cfg; the rest of the run is the one that was never interrupted, to the bit."""
    start = tmp_path / "start.pth"
    tool.call("train.py", write_config(tmp_path / "before.py", toy), "--work-dir", tmp_path)
    (tmp_path / "iter_2.pth").rename(start)
    given = dict(type="Pretrained", checkpoint=str(start), prefix="backbone.")
    config = tmp_path / "small.py"
    cfg = Config.fromfile(tmp_path / "before.py")
    cfg.model.backbone.init_cfg = given
    cfg.dump(config)

    def train(name: str, iterations: int, *options: str) -> None:
        length = [f"train_cfg.max_iters={iterations}", "train_cfg.val_interval=4"]
        length.append("randomness.seed=0")
        work_dir = tmp_path / name
        tool.call("train.py", config, "--work-dir", work_dir, *options, "--cfg-options", *length)

    train("whole", 4)
    train("parts", 2)
    start.unlink()
    train("parts", 4, "--resume")
    states = [
        torch.load(tmp_path / name / "iter_4.pth", weights_only=False)["state_dict"]
        for name in ("whole", "parts")
    ]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
