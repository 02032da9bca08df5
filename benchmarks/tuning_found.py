"""What the searches of tuning_evidence.py have found: their rows, as a table and as a picture."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.tuning.results import Result


@dataclass
class Found:
    """What a search has found, from its table of trials.

    Attributes:
        best: the best values by name.
        value: what they reach.
        trials: values, score and cost in whole trainings of each trial, in the order of the search.
    """

    best: dict[str, float]
    value: float
    trials: list[tuple[dict[str, float], float, float]]

    @classmethod
    def read(cls, path: Path) -> Found:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        names = [key for key in rows[0] if key not in ("share of Tmax", "score", "cost in Tmax")]
        trials = [
            ({n: float(r[n]) for n in names if r[n]}, float(r["score"]), float(r["cost in Tmax"]))
            for r in rows
        ]
        whole = [t for t, r in zip(trials, rows) if float(r["share of Tmax"]) == 1]
        best = max(whole, key=lambda trial: trial[1])
        return cls(best[0], best[1], trials)

    @property
    def scores(self) -> list[float]:
        return [score for _, score, _ in self.trials]


def write_rows(path: Path, result: Result) -> None:
    """The trials of a search, a line each; one that diverged has the score 0."""
    entries = result.board.entries
    names = list(dict.fromkeys(key for e in entries for key in e.trial.values))
    with replacing(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "share of Tmax", "score", "cost in Tmax"])
        for e in entries:
            score = e.value if e.value is not None and math.isfinite(e.value) else 0.0
            cost = round(e.iterations / result.tmax, 4)
            values = [e.trial.values.get(name, "") for name in names]
            writer.writerow([*values, f"{e.trial.share:g}", score, cost])


def table(found: dict[str, Found]) -> str:
    """Markdown: what was found, how wide it is, how it ends."""
    lines = [
        "| search | best | held out | cost | within 1 % of the best |",
        "|---|---|---|---|---|",
    ]
    for name, each in found.items():
        if name.startswith("final"):
            continue
        values = ", ".join(f"{key} {value:.3g}" for key, value in each.best.items())
        cost = sum(cost for _, _, cost in each.trials)
        good = [v["lr"] for v, score, _ in each.trials if score >= 0.99 * each.value]
        wide = f"{min(good):g} to {max(good):g}" if name.startswith("rates") else ""
        lines.append(f"| {name} | {values} | {each.value:.3f} | {cost:.3g} | {wide} |")
    lines += ["", "| final setting | validation, three seeds |", "|---|---|"]
    for name, each in found.items():
        if name.startswith("final"):
            spread = f"{statistics.mean(each.scores):.3f} ± {statistics.stdev(each.scores):.3f}"
            lines.append(f"| {name.removeprefix('final ')} | {spread} |")
    if {"grid", "rates fixnorm"} <= set(found):
        scores = by_alpha(found)
        rates = sorted(set.intersection(*(set(row) for row in scores.values())))
        lines += ["", f"| α | {' | '.join(f'lr {rate:g}' for rate in rates)} |"]
        lines.append("|---" * (len(rates) + 1) + "|")
        for alpha, row in scores.items():
            best = max(rates, key=row.get)
            told = [f"**{row[r]:.3f}**" if r == best else f"{row[r]:.3f}" for r in rates]
            lines.append(f"| {alpha:g} | {' | '.join(told)} |")
    return "\n".join(lines)


def by_alpha(found: dict[str, Found]) -> dict[float, dict[float, float]]:
    """Scores of FixNorm by α and rate: of the grid, and of the rates at the α that was found."""
    scores: dict[float, dict[float, float]] = {}
    for name in ("rates fixnorm", "grid"):
        for values, score, _ in found[name].trials:
            scores.setdefault(values["alpha"], {})[values["lr"]] = score
    return dict(sorted(scores.items()))


def picture(found: dict[str, Found], path: Path) -> None:
    """The best score so far over what had been trained (FixNorm, Figure 5, left), and by rate."""
    figure, (axes, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for name, label in (("fixnorm", "FixNorm, Algorithm 4"), ("bo-wd", "decay, BO + WD")):
        if name in found:
            costs = list(accumulate(cost for _, _, cost in found[name].trials))
            best = list(accumulate(found[name].scores, max))
            (line,) = axes.step(costs, best, where="post", label=label)
            axes.plot(costs, found[name].scores, "o", ms=3, color=line.get_color())
    axes.set(xlabel="whole trainings", ylabel="score on held-out images")
    axes.legend()
    labels = {"rates fixnorm": "FixNorm, α {alpha:g}", "rates decay": "decay, λ {lam:.2g}"}
    for name in [name for name in labels if name in found]:
        points = sorted((values["lr"], score) for values, score, _ in found[name].trials)
        right.plot(*zip(*points), "o-", label=labels[name].format(**found[name].best))
        right.set(xlabel="learning rate", xscale="log")
        right.set_xticks([lr for lr, _ in points], [f"{lr:g}" for lr, _ in points], minor=False)
        right.minorticks_off()
    if {"grid", "rates fixnorm"} <= set(found):
        for alpha, row in by_alpha(found).items():
            if alpha != found["rates fixnorm"].best["alpha"]:
                right.plot(*zip(*sorted(row.items())), "--", label=f"FixNorm, α {alpha:g}")
    right.set_visible(bool(right.lines))
    if right.lines:
        right.legend()
    figure.savefig(path, dpi=150)
