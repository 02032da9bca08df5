"""A process that works on a study: it takes trials that wait, runs them, and says how they ended.

Killed at any moment, it loses the trials it was running and nothing else; they go on elsewhere from
their last checkpoints. Stopped by Ctrl-C or SIGTERM, it hands them back at once.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from normfix_mm.errors import BadInput
from normfix_mm.tuning.board import Board
from normfix_mm.tuning.outcome import Outcome
from normfix_mm.tuning.search import Search
from normfix_mm.tuning.storage import Taken
from normfix_mm.tuning.study import Claim, Study
from normfix_mm.tuning.training import Trainer, Training

TICK = 0.2  # seconds between looks at one's own processes
WATCH = 2.0  # seconds between looks at their logs


@dataclass
class Job:
    """A trial that this process runs."""

    claim: Claim
    training: Training
    reported: set[int] = field(default_factory=set)


@dataclass
class Worker:
    """Works until the search is over.

    Args:
        study, search, trainer: what is worked on, and how.
        jobs: trials at a time; 0 only watches.
        pace: seconds between looks at the study.
        strict: end with a sentence as soon as a trial has failed for good.
        show: told of the board now and then.
        say: told of events, one line each.
    """

    study: Study
    search: Search
    trainer: Trainer
    jobs: int = 1
    pace: float = 5.0
    strict: bool = False
    show: Callable[[Board], None] = lambda board: None
    say: Callable[[str], None] = print

    def run(self) -> Board:
        """Work, and return the study as it is at the end.

        Raises:
            BadInput: the storage, the disk or the metric is not what it should be; in strict mode,
                a trial that has failed.
            KeyboardInterrupt: on Ctrl-C and SIGTERM, after trials have been handed back.
        """
        running: dict[int, Job] = {}
        with _terminated_as_interrupted():
            try:
                return self._work(running)
            except BaseException:
                self._hand_back(running)
                raise

    def _work(self, running: dict[int, Job]) -> Board:
        look = beat = watch = 0.0
        while True:
            now = time.monotonic()
            if now >= watch:
                watch = now + WATCH
                self._watch(running)
            if now >= beat:
                beat = now + self.study.lease / 4
                self._beat(running)
            if self._end(running) or now >= look:
                board = self.study.look(self.search)
                if self.strict:
                    self._refuse_failure(board)
                if self._fill(running, board):
                    board = self.study.look(self.search)
                self.show(board)
                if board.is_over and not running:
                    return board
                look = time.monotonic() + self.pace * random.uniform(0.7, 1.3)
            time.sleep(TICK)

    def _fill(self, running: dict[int, Job], board: Board) -> bool:
        """Take trials for the places that are free; whether any was taken."""
        taken = False
        waiting = board.of("waiting")
        for place in range(self.jobs):
            while place not in running and waiting:
                claim = self.study.claim(waiting.pop(0), self.search)
                if claim is None:
                    continue
                taken = True
                # First, so that it is handed back should it not start.
                job = running[place] = Job(claim, None)
                job.training = self.trainer.start(claim.trial, claim.attempt, place)
                again = f" (attempt {claim.attempt})" if claim.attempt > 1 else ""
                self.say(f"{claim.trial.name}: started{again}")
        return taken

    def _watch(self, running: dict[int, Job]) -> None:
        for job in running.values():
            job.training.watch()

    def _beat(self, running: dict[int, Job]) -> None:
        for place, job in list(running.items()):
            try:
                self.study.beat(job.claim, job.training.iterations)
                self._report(job)
            except Taken:
                self._drop(running, place)

    def _report(self, job: Job) -> None:
        for iteration, value in job.training.curve.items():
            if iteration not in job.reported:
                job.reported.add(iteration)
                self.study.report(job.claim, iteration, value)

    def _end(self, running: dict[int, Job]) -> bool:
        """Tell the study of trials that have ended; whether any has."""
        ended = [place for place, job in running.items() if job.training.poll() is not None]
        for place in ended:
            job = running[place]
            outcome = job.training.poll()
            try:
                self._report(job)
                self.study.finish(
                    job.claim,
                    outcome.state,
                    outcome.value,
                    iterations=outcome.iterations,
                    seconds=round(outcome.seconds, 1),
                    metrics=outcome.metrics,
                    error=outcome.error,
                    folder=job.training.folder.name,
                )
            except Taken:
                self.say(f"{job.claim.trial.name}: another worker has taken it over")
            else:
                self.say(f"{job.claim.trial.name}: {_told(outcome)}")
            del running[place]
        return bool(ended)

    def _drop(self, running: dict[int, Job], place: int) -> None:
        job = running.pop(place)
        job.training.stop()
        self.say(f"{job.claim.trial.name}: another worker has taken it over; stopped here")

    def _hand_back(self, running: dict[int, Job]) -> None:
        for job in running.values():
            if job.training is not None:
                job.training.stop()
        for job in running.values():
            with contextlib.suppress(Taken, BadInput):
                self.study.finish(job.claim, "stopped", None)

    def _refuse_failure(self, board: Board) -> None:
        for entry in board.of("crashed"):
            folder = self.trainer.folder / entry.facts.get("folder", entry.trial.name)
            raise BadInput(
                f"{entry.trial.name} did not finish ({entry.facts.get('error')}); its log is "
                f"{folder / 'log.txt'}"
            )


def _told(outcome: Outcome) -> str:
    if outcome.state == "finished":
        return f"{outcome.value:.4g}"
    if outcome.state == "diverged":
        return f"diverged after {outcome.iterations} iterations"
    return f"crashed ({outcome.error})"


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does; only the main thread can.

    Our commands see to it themselves, and note it: mmengine turns a KeyboardInterrupt within the
    printing of a config into an error of its own.
    """
    handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    if handled or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, frame) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
