"""One trial as a process: how it ends, what it goes on from, what it is not told."""

import math
import sys
import time

import pytest
from tuning.processes import alive, until
from tuning.toy_search import COMMAND, toy_config

from normfix_mm.errors import BadInput
from normfix_mm.tuning.knobs import set_values
from normfix_mm.tuning.search import Trial
from normfix_mm.tuning.training import Trainer

TRIAL = Trial("lr0.02", {"lr": 0.02})

pytestmark = pytest.mark.slow


def trainer(folder, config=None, command=COMMAND, metric="coco/bbox_mAP", **options) -> Trainer:
    config = config or toy_config(power=0)
    build = lambda trial: set_values(config, trial.values)  # noqa: E731
    return Trainer(folder, build, metric, command=command, **options)


def ended(training, seconds: float = 30):
    return until(training.poll, seconds)


def script(folder, text: str) -> list[str]:
    """A training command of these lines; it is given CONFIG --work-dir DIR --resume."""
    path = folder / "own.py"
    path.write_text(
        "import json, os, sys, time, pathlib\n"
        "folder = pathlib.Path(sys.argv[sys.argv.index('--work-dir') + 1])\n"
        "def log(**entry):\n"
        "    path = folder / 'one/vis_data'; path.mkdir(parents=True, exist_ok=True)\n"
        "    print(json.dumps(entry), file=open(path / 'scalars.json', 'a'), flush=True)\n" + text
    )
    return [sys.executable, str(path)]


def test_the_last_evaluation_is_the_score_and_the_result_is_kept(tmp_path):
    training = trainer(tmp_path).start(TRIAL)
    outcome = ended(training)
    assert outcome.state == "finished" and outcome.iterations == 100
    assert outcome.value == outcome.metrics["coco/bbox_mAP"] == pytest.approx(0.79, abs=0.01)
    assert training.curve == {100: outcome.value}
    again = trainer(tmp_path, command=["false"]).start(TRIAL)  # not run
    assert again.poll() == outcome


@pytest.mark.parametrize("maximize", [True, False])
def test_a_run_whose_loss_explodes_is_stopped_and_the_worst(tmp_path, maximize):
    training = trainer(tmp_path, toy_config(diverges=0.01), maximize=maximize).start(TRIAL)
    until(training.watch, 10)  # the landscape would go on for a minute
    outcome = training.poll()
    assert outcome.state == "diverged" and outcome.value == (-math.inf if maximize else math.inf)
    assert 0 < outcome.iterations <= 100 and not alive(training.process.pid)


@pytest.mark.parametrize("losses", [[2, 3, 1000, 1000, 1000], [2, float("nan")]])
def test_explosion_and_nan_are_seen_in_the_log(tmp_path, losses):
    lines = "".join(f"log(loss={x!r}, step={i})\n" for i, x in enumerate(losses, 1))
    command = script(tmp_path, "nan = float('nan')\n" + lines + "time.sleep(60)\n")
    training = trainer(tmp_path / "t", command=command).start(TRIAL)
    until(training.watch, 10)
    assert training.poll().state == "diverged"


def test_one_high_loss_is_no_explosion(tmp_path):
    lines = "".join(f"log(loss={x}, step={i})\n" for i, x in enumerate([2, 1000, 2, 3], 1))
    command = script(tmp_path, lines + "log(step=4, **{'coco/bbox_mAP': 0.5})\n")
    assert ended(trainer(tmp_path / "t", command=command).start(TRIAL)).value == 0.5


def test_a_run_that_dies_of_a_norm_that_is_no_number_has_diverged(tmp_path):
    said = "error: NormFix: the joint norm became zero or not finite in training: go on …"
    text = f"log(loss=1.0, step=1)\nsys.exit({said!r})\n"
    command = script(tmp_path, text)
    assert ended(trainer(tmp_path / "t", command=command).start(TRIAL)).state == "diverged"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("sys.exit('error: no such file')", "status 1: error: no such file"),
        ("raise RuntimeError('CUDA out of memory')", "status 1: RuntimeError: CUDA out of memory"),
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("log(loss=1.0, step=1)", "it ended without an evaluation"),
    ],
)
def test_a_run_that_crashes_leaves_its_last_words_and_no_result(tmp_path, text, error):
    training = trainer(tmp_path / "t", command=script(tmp_path, text)).start(TRIAL)
    outcome = ended(training)
    assert (outcome.state, outcome.value, outcome.error) == ("crashed", None, error)
    assert not (training.folder / "result.json").exists()


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"state": "finished", "outcome": {"x": 1}}'])
def test_a_result_that_cannot_be_read_is_none(tmp_path, text):
    """Half written by another program, or of another version: the trial is trained again."""
    command = script(tmp_path, "log(loss=1.0, step=1)\nlog(step=1, **{'coco/bbox_mAP': 0.5})\n")
    first = trainer(tmp_path / "t", command=command).start(TRIAL)
    assert ended(first).value == 0.5
    (first.folder / "result.json").write_text(text)
    again = trainer(tmp_path / "t", command=command).start(TRIAL)
    assert again.process is not None and ended(again).value == 0.5


def test_a_training_is_told_to_resume_where_there_is_a_checkpoint_and_only_there(tmp_path):
    """A first start with --resume would forget the config's load_from under many commands."""
    text = (
        "print(*sys.argv[1:], file=open(folder / 'told.txt', 'a'))\n"
        "(folder / 'last_checkpoint').write_text('epoch_1.pth')\n"
        "sys.exit('error: stopped')\n"
    )
    command = script(tmp_path, text)
    for _ in range(2):
        training = trainer(tmp_path / "t", command=command).start(TRIAL)
        assert ended(training).state == "crashed"
    first, second = (training.folder / "told.txt").read_text().splitlines()
    assert "--resume" not in first and second == f"{first} --resume"


def test_a_full_disk_ends_the_search_with_one_sentence(tmp_path):
    for i, text in enumerate(
        (
            "raise OSError(28, 'No space left on device')",
            "sys.exit('error: A checkpoint could not be written whole; the disk is full: …')",
        )
    ):
        training = trainer(tmp_path / f"{i}", command=script(tmp_path, text)).start(TRIAL)
        with pytest.raises(BadInput, match="found the disk full; free some space"):
            ended(training)


def test_nothing_detected_is_the_worst_score_and_no_crash(tmp_path):
    command = script(tmp_path, "log(loss=1.0, step=5)\nlog(data_time=0.1, time=0.2, step=5)")
    outcome = ended(trainer(tmp_path / "t", command=command).start(TRIAL))
    assert (outcome.state, outcome.value, outcome.metrics) == ("finished", 0.0, {})


def test_a_metric_that_is_not_reported_is_refused_with_those_that_are(tmp_path):
    command = script(tmp_path, "log(loss=1.0, step=5)\nlog(step=5, **{'own/PQ': .1, 'own/SQ': .2})")
    training = trainer(tmp_path / "t", command=command).start(TRIAL)
    with pytest.raises(BadInput, match="'coco/bbox_mAP', but report own/PQ, own/SQ; .*--metric"):
        ended(training)


def test_a_metric_is_found_without_its_prefix(tmp_path):
    command = script(tmp_path, "log(loss=1.0, step=5)\nlog(step=5, **{'own/PQ': .1})")
    assert ended(trainer(tmp_path / "t", command=command, metric="PQ").start(TRIAL)).value == 0.1


def test_a_folder_of_another_config_is_put_aside(tmp_path):
    """Neither its result nor its checkpoints belong to this trial."""
    first = ended(trainer(tmp_path).start(TRIAL))
    other = toy_config(power=0, alpha=4.0)
    second = ended(trainer(tmp_path, other).start(TRIAL))
    assert second.value < first.value
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lr0.02", "lr0.02.old"]


def test_an_attempt_takes_over_what_the_one_before_has_left(tmp_path):
    """By renaming it: a process that lives on after all writes into the void."""
    text = (
        "mark = folder / 'checkpoint'\n"
        "if mark.exists():\n"
        "    log(loss=1.0, step=2); log(step=2, **{'coco/bbox_mAP': 0.5})\n"
        "else:\n"
        "    mark.write_text('1'); time.sleep(60)\n"
    )
    command = script(tmp_path, text)
    made = trainer(tmp_path / "t", command=command)
    first = made.start(TRIAL, attempt=1)
    until((first.folder / "checkpoint").exists)
    second = made.start(TRIAL, attempt=4)
    assert ended(second).value == 0.5 and second.folder.name == "lr0.02.try4"
    assert not first.folder.exists()
    first.stop()
    assert not alive(first.process.pid)


def test_stopping_ends_what_a_training_has_started(tmp_path):
    text = (
        "import subprocess, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # stubborn
        "child = subprocess.Popen(['sleep', '60'])\n"
        "(folder / 'pids').write_text(f'{os.getpid()} {child.pid}'); time.sleep(60)\n"
    )
    training = trainer(tmp_path / "t", command=script(tmp_path, text)).start(TRIAL)
    note = training.folder / "pids"
    until(lambda: note.exists() and note.read_text())
    pids = [int(pid) for pid in note.read_text().split()]
    began = time.monotonic()
    training.stop()
    until(lambda: not any(map(alive, pids)), 5)
    assert time.monotonic() - began < 20


def test_a_storage_with_its_password_is_not_told_to_trainings(tmp_path, monkeypatch):
    monkeypatch.setenv("NORMFIX_STORAGE", "postgresql://me:s3cret@host/db")
    command = script(tmp_path, "(folder / 'env').write_text(str(os.environ))")
    training = trainer(tmp_path / "t", command=command, threads=3).start(TRIAL)
    ended(training)
    told = (training.folder / "env").read_text()
    assert "s3cret" not in told and "'OMP_NUM_THREADS': '3'" in told


def test_trials_at_a_time_have_gpus_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    text = "(folder / 'gpus').write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    found = []
    for gpus, place in ((None, 0), (None, 3), (2, 0), (2, 1)):
        made = trainer(tmp_path / f"{gpus}{place}", command=script(tmp_path, text), gpus=gpus)
        training = made.start(TRIAL, place=place)
        ended(training)
        found.append((training.folder / "gpus").read_text())
    assert found == ["4", "7", "4,5", "6,7"]


def test_a_command_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match=r"lr0\.02 cannot be started: .*/none"):
        trainer(tmp_path, command=["/none"]).start(TRIAL)
