"""What training by a command adds to a run."""

from types import SimpleNamespace

from normfix_mm.engine import FiniteWeightsHook
from normfix_mm.run import training


def test_every_training_stops_where_it_diverges(monkeypatch, tmp_path):
    hooks = []
    runner = SimpleNamespace(register_hook=hooks.append, train=lambda: None)
    monkeypatch.setattr(training, "build_runner", lambda cfg: runner)
    monkeypatch.setattr(training.preflight, "check", lambda *arguments: None)
    training.train(SimpleNamespace(work_dir=str(tmp_path)))
    assert [type(hook) for hook in hooks] == [FiniteWeightsHook]
