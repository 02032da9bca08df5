"""The study at one moment: what its trials are, read off the attempts at them in the storage.

A trial may have been attempted several times. The attempt that counts is the one that finished,
else the one that runs, else the one that waits; one that crashed, or whose worker died, is put up
again until there were too many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from normfix_mm.tuning.search import Scores, Trial

MOST_LOST = 10  # workers that a trial may outlive
ENDED = ("finished", "diverged", "crashed")


@dataclass
class Entry:
    """A trial as the study knows it.

    Attributes:
        trial: with its values, also those a sampler has chosen.
        state: 'waiting', 'running', 'finished', 'diverged' or 'crashed' (for good).
        value: of the metric; infinitely bad for a run that diverged; None without one.
        id, number: Optuna's, of the latest attempt.
        attempts: how many there have been, the present one included.
        iterations: done so far.
        facts: what its worker has noted: 'seconds', 'metrics', 'error', 'folder', 'worker'.
        curve: values of the metric by iteration.
    """

    trial: Trial
    state: str
    value: float | None = None
    id: int = -1
    number: int = -1
    attempts: int = 0
    iterations: int = 0
    facts: dict = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass
class Board:
    """The study at one moment: every planned trial, in the order of the plan."""

    entries: list[Entry]
    scores: Scores

    @property
    def is_over(self) -> bool:
        return all(entry.ended for entry in self.entries)

    def of(self, *states: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.state in states]


def to_close(attempts: list, is_dead: Callable[[object], bool]) -> Iterator[tuple[int, str]]:
    """The attempts at one trial that have to be ended, by their index, and as what.

    Args:
        attempts: Optuna's trials, in the order of their numbers.
        is_dead: whether the worker of a running one is gone.
    """
    states = [attempt.state.name for attempt in attempts]
    for i, state in enumerate(states):
        others = {*states[:i], *states[i + 1 :]}
        doubled = {"COMPLETE", "RUNNING"} & others or "WAITING" in states[:i]
        if state == "RUNNING" and is_dead(attempts[i]):
            yield i, "lost"
            states[i] = "FAIL"
        elif state == "WAITING" and doubled:
            yield i, "double"
            states[i] = "FAIL"


def entry_of(trial: Trial, attempts: list, retries: int) -> Entry | None:
    """What the attempts say of the trial; None where it must be put up (again)."""
    outcomes = [attempt.user_attrs.get("outcome", "lost") for attempt in attempts]
    real = [a for a, outcome in zip(attempts, outcomes) if outcome != "double"]
    for state in ("COMPLETE", "RUNNING", "WAITING"):
        for attempt in real:
            if attempt.state.name == state:
                return _described(trial, attempt, len(real))
    if outcomes.count("crashed") > retries or outcomes.count("lost") >= MOST_LOST:
        entry = _described(trial, real[-1], len(real))
        entry.state, entry.value = "crashed", None
        entry.facts.setdefault("error", "every worker that ran it died")
        return entry
    return None


def _described(trial: Trial, attempt, count: int) -> Entry:
    told = attempt.user_attrs
    state = dict(RUNNING="running", WAITING="waiting").get(attempt.state.name)
    # Not the noted outcome: somebody may have noted another, just before it ended.
    state = state or ("diverged" if math.isinf(attempt.value or 0.0) else "finished")
    beat = told.get("beat") or [0, 0]
    if not trial.values and attempt.params:
        trial = replace(trial, values=dict(attempt.params))
    facts = {k: v for k, v in told.items() if k not in ("name", "beat", "outcome", "attempt")}
    facts["began"] = attempt.datetime_start
    return Entry(
        trial,
        state,
        attempt.value if state in ENDED else None,
        attempt._trial_id,
        attempt.number,
        count,
        told.get("iterations", beat[1]),
        facts,
        dict(attempt.intermediate_values),
    )


def score_of(entry: Entry, maximize: bool, floor: float = -math.inf) -> float:
    """The value of a trial that has ended, more being better; -inf where it came to nothing.

    Args:
        floor: the worst value that a metric of which more is better can have.
    """
    silent = entry.state == "finished" and entry.facts.get("metrics") == {}  # evaluators found none
    if entry.value is None or math.isnan(entry.value) or silent:
        return -math.inf
    score = entry.value if maximize else -entry.value
    return score if score > floor else -math.inf
