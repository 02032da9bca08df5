"""Comparing methods on a folder: each with its own rate, chosen by as many trials as the others'.

For each method the learning rate is chosen on images held out of the training set: half, once and
twice a middle one, and as long as some method's best lies at the edge of its grid, one more factor
of two for every method, four at most. The chosen rate is then trained with several seeds on the
whole training set and judged on the validation set, which no choice has seen.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from normfix_mm.errors import BadInput
from normfix_mm.report.run import CLASS, PERCENT, RESULTS
from normfix_mm.tuning.board import Board
from normfix_mm.tuning.search import Scores, Search, Trial
from normfix_mm.tuning.settings import check_kinds

METHODS = {"baseline (decay)": "baseline", "WS + ε-shift": "ws-eps", "FixNorm": "fixnorm"}
FACTORS = (1 / 2, 1, 2)
EXTENSIONS = 4
MARK = r"\|"  # a bar in a cell, of a class's name
JUDGES = ("segm_mAP", "bbox_mAP", "mIoU", "top1")
LABELS = {
    key: label if key in PERCENT or label.startswith("mask") else f"box {label}"
    for label, key in RESULTS
    if not key.endswith(("_s", "_m", "_l"))
}

Runs = dict[str, list[tuple[float, dict]]]  # by method: rates and what was measured, by rate


@dataclass(frozen=True)
class Comparison(Search):
    """The search.

    Args:
        rate: the middle of the grid of trials.
        rates: one for each method, which leaves the trials out.
        seeds: of the final runs.

    Raises:
        BadInput: a rate that is not positive, no seeds, one twice or one out of NumPy's range.
    """

    rate: float = 0.02
    rates: Sequence[float] | None = None
    seeds: Sequence[int] = (1, 2, 3)
    sampled = False

    def __post_init__(self) -> None:
        if not all(0 < rate < math.inf for rate in (self.rate, *(self.rates or ()))):
            raise BadInput("Learning rates must be positive numbers.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise BadInput(f"The seeds {list(self.seeds)} must be different, and at least one.")
        for seed in self.seeds:
            check_kinds({"seed": seed})

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        most = 2.0 ** (EXTENSIONS + 1)
        return {"lr": (self.rate / most, self.rate * most), "seed": (0, max(self.seeds))}

    def plan(self, scores: Scores) -> list[Trial]:
        grids = {method: self._grid(method, scores) for method in METHODS}
        trials = [trial for grid in grids.values() for trial in grid]
        if any(trial.name not in scores for trial in trials):
            return trials
        return trials + [
            self._trial("final", method, self._chosen(method, grid, scores), seed)
            for seed in self.seeds
            for method, grid in grids.items()
        ]

    def trials(self, scores: Scores) -> dict[str, list[Trial]]:
        """The trials of each method, by rate."""
        return {method: self._grid(method, scores) for method in METHODS}

    def finals(self, scores: Scores) -> dict[str, list[Trial]]:
        """The final runs of each method, by seed."""
        last = [trial for trial in self.plan(scores) if trial.phase == "final"]
        return {method: [trial for trial in last if trial.variant == method] for method in METHODS}

    def best(self, scores: Scores) -> Trial | None:
        return None  # it compares

    def leading(self, scores: Scores) -> Trial | None:
        return None

    def failure(self, scores: Scores) -> str | None:
        return None

    def cost(self) -> float:
        return float(len(self.outlook()))

    def outlook(self) -> list[tuple[str, str, float]]:
        trials = [] if self.rates else [(m, self.rate * f) for m in METHODS for f in FACTORS]
        rows = [("trials", f"{method}, lr {rate:g}", 1.0) for method, rate in trials]
        finals = [(method, seed) for seed in self.seeds for method in METHODS]
        return rows + [("final", f"{method}, seed {seed}", 1.0) for method, seed in finals]

    def _grid(self, method: str, scores: Scores) -> list[Trial]:
        """The trials of a method, by rate: as many as the method with the farthest best needs."""
        if self.rates:
            return []
        rates = {m: [self.rate * factor for factor in FACTORS] for m in METHODS}
        for _ in range(EXTENSIONS):
            grids = {m: [self._trial("trial", m, rate, 0) for rate in rates[m]] for m in METHODS}
            if any(trial.name not in scores for grid in grids.values() for trial in grid):
                break
            if not any(at_edge(grid, scores) for grid in grids.values()):
                break
            for m, grid in grids.items():
                rates[m] = sorted([*rates[m], next_rate(grid, scores)])
        return [self._trial("trial", method, rate, 0) for rate in rates[method]]

    def _chosen(self, method: str, grid: list[Trial], scores: Scores) -> float:
        if self.rates:
            return self.rates[list(METHODS).index(method)]
        return max(grid, key=lambda trial: scores[trial.name]).values["lr"]

    @staticmethod
    def _trial(phase: str, method: str, rate: float, seed: int) -> Trial:
        name = f"{phase}_{list(METHODS).index(method)}_lr{rate:g}"
        name += f"_seed{seed}" if phase == "final" else ""
        return Trial(name, {"lr": rate, "seed": seed}, 1.0, phase, method)


def at_edge(grid: list[Trial], scores: Scores) -> bool:
    """Whether the best of these trials, sorted by rate, is the first or the last."""
    best = max(grid, key=lambda trial: scores[trial.name])
    return best in (grid[0], grid[-1])


def next_rate(grid: list[Trial], scores: Scores) -> float:
    """One more factor of two, on the side where the better trials are."""
    first, last = grid[0], grid[-1]
    up = scores[last.name] > scores[first.name]
    return last.values["lr"] * 2 if up else first.values["lr"] / 2


def judge(asked: Sequence[str]) -> str:
    """The metric that the choice of a rate goes by, of those that the runs report."""
    return next(metric for metric in JUDGES if metric in asked)


def table(search: Comparison, board: Board, metric: str) -> str:
    """Markdown: trials by rate if there were any, the final runs' mean ± spread, classes."""
    metric = metric.rpartition("/")[2]
    measured = {e.trial.name: _bare(e.facts.get("metrics", {}), metric) for e in board.entries}

    def runs(of: Mapping[str, list[Trial]]) -> Runs:
        return {m: [(t.values["lr"], measured[t.name]) for t in trials] for m, trials in of.items()}

    trials = {} if search.rates else runs(search.trials(board.scores))
    return report(trials, runs(search.finals(board.scores)), metric)


def report(trials: Runs, finals: Runs, metric: str) -> str:
    """The tables of these runs."""
    lines = [f"| method | trials: lr → {LABELS[metric]} held out |", "|---|---|"] if trials else []
    for method, runs in trials.items():
        cells = [f"{rate:g} → {shown([found], metric)}" for rate, found in runs]
        best = max(runs, key=lambda run: run[1].get(metric, 0.0))
        cells += ["best at the edge of the grid"] if best in (runs[0], runs[-1]) else []
        lines.append(f"| {method} | {', '.join(cells)} |")
    every = [found for runs in finals.values() for _, found in runs]
    columns = [key for key in LABELS if any(key in found for found in every)] or [metric]
    lines += row("method", "lr", *(LABELS[key] for key in columns), "seeds", head=True)
    for method, runs in finals.items():
        cells = [shown([found for _, found in runs], key) for key in columns]
        lines += row(method, f"{runs[0][0]:g}", *cells, len(runs))
    classes = dict.fromkeys(key for found in every for key in found if key.startswith(CLASS))
    if classes:
        lines += row(next(iter(classes)).partition("/")[0], *finals, head=True)
    for key in classes:
        cells = [shown([found for _, found in runs], key) for runs in finals.values()]
        lines += row(key.partition("/")[2], *cells)
    return "\n".join(lines)


def row(*cells: object, head: bool = False) -> list[str]:
    """One line of a table, or its first two."""
    line = f"| {' | '.join(str(cell).replace('|', MARK) for cell in cells)} |"
    return ["", line, "|" + "---|" * len(cells)] if head else [line]


def shown(runs: list[dict], key: str) -> str:
    """Mean ± standard deviation; AP with three digits, percents with one."""
    values = [run[key] for run in runs if key in run]
    digits = 1 if key in PERCENT or key.startswith(CLASS) else 3
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}" if values else "–"


def _bare(metrics: Mapping[str, float], metric: str) -> dict[str, float]:
    """Without the evaluator's prefix. A run that has detected nothing reports nothing: zeros."""
    found = {
        key if key.startswith(CLASS) else key.rpartition("/")[2]: value
        for key, value in metrics.items()
    }
    zeros = [key for key in LABELS if key.startswith(metric.partition("_")[0])] if not found else []
    return dict.fromkeys(zeros or [metric], 0.0) | found
