"""What an iteration costs, found out in little of the time that is allowed.

A probe as those of `normfix_mm.tuning`, which trains eight iterations; here it is content with two
once its share of the time is used up, and is ended where even those do not come.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import note
from normfix_mm.recipe.rules import spoken
from normfix_mm.recipe.store import clear_measured
from normfix_mm.report.run import scalars
from normfix_mm.run.ending import going_on
from normfix_mm.tuning.measure import FILE, ITERATIONS, Cost, probe_config
from normfix_mm.tuning.outcome import last_words
from normfix_mm.tuning.search import Trial
from normfix_mm.tuning.training import Trainer, Training

BRIEF = 0.05  # of the time allowed, from which on two iterations are enough
MOST = 1 / 3  # of the time allowed, for all measuring
LEAST = 2  # iterations; the first takes longer than the others
STOPPED = "nothing is trained yet: start the same command again"
_PACE = 0.2  # seconds between two looks
_IMPORTED = time.time()  # in the probe: what a training that has its imports has yet to do
_START = "start.json"


class TooSlow(BadInput):
    """`MOST` of the time was not enough for a measurement."""


@HOOKS.register_module(force=True)
class BriefHook(Hook):
    """Ends a probe early, and notes how long its start took without the imports.

    Args:
        until: the time from which on `LEAST` iterations are enough.
    """

    def __init__(self, until: float) -> None:
        self._until = until

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        if not batch_idx:
            told = json.dumps(time.time() - _IMPORTED)
            (Path(runner.work_dir) / _START).write_text(told)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        if batch_idx + 1 >= LEAST and time.time() > self._until:
            runner.train_loop.stop_training = True


def measured(cfg: Config, work_dir: Path, size: tuple[int, int], allowed: float) -> Cost:
    """The cost of a config's iterations, with one line about it.

    Args:
        size: of the pictures, for the line.
        allowed: seconds, for measuring and training.

    Raises:
        TooSlow: Nothing is left of it.
        BadInput: The config does not train; the log is left.
        Interrupted: Nothing is left of it.
    """
    import torch

    folder = clear_measured(work_dir)
    brief, most = time.time() + BRIEF * allowed, time.monotonic() + MOST * allowed
    trainer = Trainer(
        folder, lambda trial: _brief(cfg, brief), metric="", threads=torch.get_num_threads()
    )
    began = time.monotonic()
    with going_on(STOPPED), _line(f"Measuring iterations at {size[0]}×{size[1]}") as say:
        training = None
        try:
            training = trainer.start(Trial("probe"))
            while training.process.poll() is None:
                if time.monotonic() > most:
                    raise TooSlow(_too_slow(size, allowed))
                done = len(scalars(training.folder)[0])
                say(f"{done} of at most {ITERATIONS}" if done else "starting")
                time.sleep(_PACE)
            cost = _cost(training, time.monotonic() - began)
        except BaseException as error:
            if training is not None:
                _end(training)
            if isinstance(error, TooSlow) or not isinstance(error, BadInput):
                clear_measured(work_dir)
                with contextlib.suppress(OSError):  # what else is in there stays
                    folder.parent.rmdir()
                    work_dir.rmdir()
            raise
        say(
            f"{cost.iteration:.2g} s each, a validation {spoken(cost.validation)}; "
            f"took {spoken(time.monotonic() - began)}"
        )
    clear_measured(work_dir)
    return cost


def _brief(cfg: Config, until: float) -> Config:
    cfg = probe_config(cfg)
    cfg.custom_imports.imports.append(__name__)
    cfg.custom_hooks = [*cfg.custom_hooks, dict(type="BriefHook", until=until)]
    return cfg


def _cost(training: Training, took: float) -> Cost:
    """Of a probe that has ended."""
    train, log = scalars(training.folder)[0], training.folder / "log.txt"
    code = training.process.returncode
    if code or not train:
        said = last_words(log).removeprefix("error: ")
        raise BadInput(
            f"The config does not train: {said or f'status {code}'} (the whole log is {log})"
        )
    times = [entry["time"] for entry in train.values()]
    iteration = statistics.median(times[1:] or times)
    told = json.loads((training.folder / FILE).read_text())
    start = json.loads((training.folder / _START).read_text())
    first = times[0] - train[min(train)].get("data_time", 0.0)
    start = min(took, start + max(0.0, first - iteration))  # it warms up
    return Cost(told["epoch_length"], iteration, told.get("validation", 0.0), start)


def _end(training: Training) -> None:
    """At once: there is nothing to save."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(training.process.pid, signal.SIGKILL)
    training.process.wait()


def _too_slow(size: tuple[int, int], allowed: float) -> str:
    return (
        f"--hours {allowed / 3600:g} is too short: in a third of it this machine did not get "
        f"through {LEAST} iterations and a validation of pictures of {size[0]}×{size[1]}, its "
        f"start included; give --hours {allowed / 1800:.2g} or more, a smaller --size, or the "
        "length by --epochs."
    )


@contextlib.contextmanager
def _line(what: str) -> Iterator:
    """Says how far `what` is: on a terminal in one line, elsewhere at its beginning and end."""
    living, last = sys.stdout.isatty(), ""

    def say(how: str) -> None:
        nonlocal last
        if living and how != last:
            print("\r" + f"{what}: {how}".ljust(len(f"{what}: {last}")), end="", flush=True)
        last = how

    if not living:
        note(f"{what} …")
    try:
        yield say
    except BaseException:
        if living:
            print(flush=True)
        raise
    print() if living else note(f"{what}: {last}")
