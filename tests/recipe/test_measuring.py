"""Measuring takes little of the time allowed, begins with the smallest size, and leaves nothing."""

import argparse
import json
import math
import sys
import time
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from normfix_mm.datasets.contents import Contents
from normfix_mm.errors import BadInput
from normfix_mm.recipe import measuring, training
from normfix_mm.recipe.config import Choices
from normfix_mm.run.ending import Interrupted
from normfix_mm.tuning.measure import Cost

CONTENTS = Contents(("detect",), 296, 960, 540, (0.2, 0.25, 0.3))
WANTED, SMALLEST = (512, 288), (256, 160)
LENGTH = 37  # iterations of an epoch


@pytest.fixture
def timed(monkeypatch):
    """Size and epochs for a machine that needs `pace` seconds for an iteration of WANTED."""

    def choose(hours, pace, start=5.0, size=None, fails=()):
        now, tried = [0.0], []

        def measured(cfg, work_dir, size, allowed):
            tried.append(size)
            if size in fails:
                raise measuring.TooSlow("too slow")
            iteration = pace * math.prod(size) / math.prod(WANTED)
            now[0] += start + min(8, max(2, measuring.BRIEF * allowed // iteration)) * iteration
            return Cost(LENGTH, iteration, 5 * iteration, start)

        monkeypatch.setattr(measuring, "measured", measured)
        monkeypatch.setattr(training, "time", SimpleNamespace(monotonic=lambda: now[0]))
        monkeypatch.setattr(training, "_write", lambda *_: None)
        choices = Choices("detect", "decay", size or WANTED, 1, LENGTH, 0.02, True)
        args = argparse.Namespace(size=size)
        try:
            made, _ = training._timed(Config(dict(work_dir="x")), choices, CONTENTS, hours, 0, args)
        except BadInput as error:
            return tried, now[0], str(error)
        return tried, now[0], made

    return choose


def test_with_time_enough_the_wanted_size_is_trained(timed):
    tried, spent, made = timed(hours=1, pace=1.0)
    assert tried == [SMALLEST, WANTED] and made.size == WANTED and made.epochs > 30
    assert spent < 0.05 * 3600


def test_where_the_second_measurement_does_not_end_the_first_one_counts(timed):
    tried, _, made = timed(hours=1, pace=1.0, fails=[WANTED])
    assert tried == [SMALLEST, WANTED] and made.size == WANTED and made.epochs > 30


def test_with_less_a_size_between_is_chosen(timed):
    tried, _, made = timed(hours=1, pace=4.0)
    assert tried[0] == SMALLEST and SMALLEST[0] < made.size[0] < WANTED[0]


def test_on_a_busy_machine_a_few_minutes_train_the_smallest_size(timed):
    tried, spent, made = timed(hours=0.1, pace=8.0, start=30.0)
    assert tried == [SMALLEST] and made.size == SMALLEST and made.epochs >= 1
    assert spent < 0.2 * 360


def test_what_does_not_suffice_for_the_smallest_is_refused_after_one_measurement(timed):
    tried, spent, said = timed(hours=0.1, pace=60.0, start=30.0)
    assert tried == [SMALLEST] and spent < 0.3 * 360
    assert "too short for one epoch of pictures of 256×160" in said


def test_a_size_that_was_given_is_kept(timed):
    tried, _, made = timed(hours=0.5, pace=1.0, size=(640, 360))
    assert tried == [(640, 360)] and made.size == (640, 360)


def test_a_probe_is_content_with_two_iterations_once_its_time_is_used_up(tmp_path):
    def done(until):
        loop = SimpleNamespace(stop_training=False)
        runner = SimpleNamespace(train_loop=loop, work_dir=tmp_path)
        hook, stopped = measuring.BriefHook(until), []
        for index in range(3):
            hook.before_train_iter(runner, index)
            hook.after_train_iter(runner, index)
            stopped.append(loop.stop_training)
        return stopped

    assert done(time.time() - 1) == [False, True, True]
    assert done(time.time() + 60) == [False] * 3
    assert json.loads((tmp_path / measuring._START).read_text()) >= 0


PROBE = """
import json, pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("--work-dir") + 1])
if {waits}:
    time.sleep(600)
log = folder / "1/vis_data/scalars.json"
log.parent.mkdir(parents=True)
entries = [dict(loss=1.0, step=k, time=t, data_time=0.5) for k, t in enumerate((3, 1, 1), 1)]
log.write_text("".join(json.dumps(entry) + "\\n" for entry in entries))
(folder / "probe.json").write_text(json.dumps(dict(epoch_length=7, validation=4.0)))
(folder / "start.json").write_text("0.25")
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Measure with a process that only waits, or that writes what a probe leaves."""

    def measure(waits: bool, allowed: float = 600.0):
        script = tmp_path / "probe.py"
        script.write_text(PROBE.format(waits=waits))
        command = "normfix_mm.tuning.training.default_command"
        monkeypatch.setattr(command, lambda gpus: [sys.executable, str(script)])
        return measuring.measured(Config(dict()), tmp_path / "run", (64, 32), allowed)

    return measure


def test_the_cost_is_of_the_later_iterations_and_nothing_is_left(probe, tmp_path, capsys):
    leftover = tmp_path / "run/recipe/measured/probe/1/vis_data/scalars.json"
    leftover.parent.mkdir(parents=True)  # of one that was killed
    leftover.write_text('{"loss": 1.0, "step": 9, "time": 99.0}\n')
    cost = probe(waits=False)
    assert (cost.epoch_length, cost.iteration, cost.validation) == (7, 1, 4)
    assert 0 < cost.start <= 0.25 + (3 - 0.5 - 1)  # the first one's surplus belongs to the start
    assert not (tmp_path / "run/recipe/measured").exists()
    first, last = capsys.readouterr().out.splitlines()
    assert first == "Measuring iterations at 64×32 …"
    assert last.startswith("Measuring iterations at 64×32: 1 s each, a validation 4 s; took ")


@pytest.fixture
def ended(monkeypatch):
    """Ids of the probes' processes that were ended."""
    seen, end = [], measuring._end

    def noted(training):
        end(training)
        seen.append(training.process.poll())

    monkeypatch.setattr(measuring, "_end", noted)
    return seen


def test_an_interruption_is_one_sentence_and_leaves_nothing(probe, ended, tmp_path, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(measuring.time, "sleep", interrupt)
    with pytest.raises(Interrupted, match="^nothing is trained yet: start the same command again$"):
        probe(waits=True)
    assert ended == [-9] and not (tmp_path / "run").exists()


def test_a_machine_that_does_not_get_through_two_iterations_is_not_waited_for(
    probe, ended, tmp_path
):
    with pytest.raises(BadInput, match="is too short: in a third of it this machine did not get"):
        probe(waits=True, allowed=3.0)
    assert ended == [-9] and not (tmp_path / "run").exists()


def test_on_a_terminal_it_is_one_line(probe, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    probe(waits=False)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "\rMeasuring iterations at 64×32: starting" in said
