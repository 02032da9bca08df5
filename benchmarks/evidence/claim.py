"""A claim: the runs that it needs, the paper's figures beside ours, and what ours say."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from benchmarks.evidence.training import Settings

SEEDS = (0, 1, 2)
ERROR = 0.9  # standard error of an accuracy on 3000 images, in points

Found = dict[str, list[dict]]  # label to results, one for each seed


@dataclass(frozen=True)
class Claim:
    """A claim of a paper.

    Attributes:
        title: where it stands and what it says.
        runs: label to settings, one for each seed.
        paper: label to the paper's figure, as it is printed.
        says: what our results say, in a sentence that begins with 'Holds', 'Does not hold' or
            'Not seen'.
        shown: what of a run stands in the table.
    """

    name: str
    title: str
    runs: dict[str, Sequence[Settings]]
    paper: dict[str, str]
    says: Callable[[Found], str]
    shown: Callable[[list[dict]], str]

    @property
    def settings(self) -> list[Settings]:
        return [each for runs in self.runs.values() for each in runs]


def seeded(settings: Settings) -> list[Settings]:
    return [replace(settings, seed=seed) for seed in SEEDS]


def mean(runs: list[dict]) -> float:
    return statistics.mean(run["accuracy"] for run in runs)


def last(runs: list[dict], name: str) -> float:
    """Mean over the runs of the last value that was logged."""
    return statistics.mean(run["log"][name][-1] for run in runs)


def accuracies(runs: list[dict]) -> str:
    """Mean ± deviation, or at which step a run died."""
    dead = [run["stopped"] for run in runs if not run["alive"]]
    if dead:
        return f"dead at step {min(dead)}"
    values = [run["accuracy"] for run in runs]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"
