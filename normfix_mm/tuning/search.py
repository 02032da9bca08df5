"""What every search is made of: trials, and a plan that follows from what is known so far.

A search is a pure function. Given the scores of the trials that have ended it says which trials
there are to run; when all of them have a score and it names no more, the search is over. Who runs
them, where and in which order does not matter to it, so any number of processes that look at the
same scores agree on what comes next, and a search that was interrupted needs no state of its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

# By name of the trial; more is better, -inf is a run that diverged, failed or found nothing.
Scores = Mapping[str, float]


@dataclass(frozen=True)
class Trial:
    """One training.

    Attributes:
        name: says what is trained; two trials of one name are the same trial.
        values: what is written into the config: 'lr', 'alpha', 'lam', 'eps', 'seed', or the dotted
            name of any setting.
        share: length in units of the config's own, Tmax.
        phase: the part of the search that asks for it.
        variant: which of several configs, where a search compares some.
    """

    name: str
    values: Mapping[str, float] = field(default_factory=dict, hash=False)
    share: float = 1.0
    phase: str = ""
    variant: str = ""


class Search(Protocol):
    """What runs on a study: a plan, and what is to be said of its result."""

    #: The range of each value that trials differ in.
    ranges: Mapping[str, tuple[float, float]]
    #: Whether a sampler chooses the values when a trial starts; the ranges are then searched on a
    #: logarithmic scale. Otherwise the plan has them.
    sampled: bool
    #: The option that makes trials longer, where they are shorter than the config.
    length_option: str = ""

    def plan(self, scores: Scores) -> list[Trial]:
        """Every trial that is known to be needed, in the order in which to run them."""

    def best(self, scores: Scores) -> Trial | None:
        """The winner: the best of the longest trainings; None if none of them has a score yet.

        Scores of trainings of different length are never compared.
        """
        longest = max(share for _, _, share in self.outlook())
        return best_of([t for t in self.plan(scores) if t.share == longest], scores)

    def leading(self, scores: Scores) -> Trial | None:
        """The best of the longest trainings that have a score so far."""
        scored = [t for t in self.plan(scores) if scores.get(t.name, -math.inf) > -math.inf]
        longest = max((trial.share for trial in scored), default=0.0)
        return best_of([trial for trial in scored if trial.share == longest], scores)

    def remarks(self, scores: Scores) -> list[str]:
        """Sentences on what to know about the result."""
        return []

    def failure(self, scores: Scores) -> str | None:
        """Why a search that is over has not come to its end, if it has not."""
        if self.best(scores) is not None:
            return None
        longer = self.longer(max(share for _, _, share in self.outlook()))
        return (
            "No trial came to anything: each diverged, failed or found nothing; lower the rates or "
            f"{longer}."
        )

    def longer(self, share: float) -> str:
        """What to do where trials of this share are too short."""
        return f"raise {self.length_option}" if share < 1 else "lengthen the config"

    def cost(self) -> float:
        """What the whole search trains, in units of Tmax, if no trial ends early."""

    def outlook(self) -> list[tuple[str, str, float]]:
        """Phase, description and share of every trial, those included that depend on others."""


def best_of(trials: list[Trial], scores: Scores) -> Trial | None:
    """The trial with the best score, the first of equals; None if none has one worth having."""
    scored = [trial for trial in trials if scores.get(trial.name, -math.inf) > -math.inf]
    return max(scored, key=lambda trial: scores[trial.name], default=None)


def rounded(value: float) -> float:
    """Six digits: what a config shows is what was trained."""
    return float(f"{value:.6g}")


def in_full(value: float) -> str:
    """A value in full: two seeds that are dates differ in their last digit."""
    return str(int(value)) if value == int(value) else repr(float(value))


def name_of(values: Mapping[str, float], share: float = 1.0) -> str:
    """The name of the trial of these values: 'lr0.0145_alpha0.5_t0.2'."""
    parts = [f"{key}{in_full(value)}" for key, value in values.items()]
    return "_".join(parts + ([f"t{share:g}"] if share != 1 else [])).replace("/", "-")
