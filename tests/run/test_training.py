"""What training by a command adds to a run."""

from types import SimpleNamespace

import pytest

from normfix_mm.engine import ClassRecordHook, FiniteWeightsHook, RunRecordHook
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
    kinds = {FiniteWeightsHook, ClassRecordHook, RunRecordHook}
    assert {type(hook) for hook in hooks} == kinds and len(hooks) == 3
    (record,) = (hook for hook in hooks if isinstance(hook, RunRecordHook))
    assert record.command == "bash tools/dist_train.sh my.py 2"  # what was typed, not torchrun's
