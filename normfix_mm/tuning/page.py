"""The page of a search: what it found, its pictures, its trials, the best of them as runs."""

from __future__ import annotations

from pathlib import Path

from normfix_mm.report import markup
from normfix_mm.report.facts import commands
from normfix_mm.tuning import plots
from normfix_mm.tuning.progress import described, spent, trained
from normfix_mm.tuning.results import Result
from normfix_mm.tuning.side_by_side import side_by_side
from normfix_mm.typed import invocation

MOST_RUNS = 3  # trials that are shown as runs


def build(results: dict[str, Result], title: str, command: str, trials: Path | None = None) -> str:
    """The page.

    Args:
        results: searches by name; the page is about the first, and draws the progress of the
            others beside it.
        command: what made it, without a password.
        trials: the folder of the trials' folders; the best are shown as runs, side by side.
    """
    result = next(iter(results.values()))
    parts = [
        f"<h1>{markup.text(title)}</h1>",
        f"<p>Made by <code>{markup.text(command)}</code></p>",
        "<h2>Result</h2>",
        markup.table(
            "figures",
            ["search", "best", result.metric, "share of Tmax", "cost in Tmax", "trials"],
            [_row(name, each) for name, each in results.items()],
        ),
        *(f"<p>{markup.text(said)}</p>" for said in (*result.remarks, *result.failures)),
        "<h2>Pictures</h2>",
        markup.figures(plots.drawings(result), results),
        "<h2>Trials</h2>",
        _trials(result),
    ]
    if trials is not None and (names := _best(result)):
        heading = "The best trials side by side" if len(names) > 1 else "The best trial"
        parts += side_by_side(trials, names, heading)
    if result.config is not None:
        train = [*invocation("train").split(), str(result.config)]
        parts += ["<h2>What to do next</h2>", commands([("train with the best values", train)])]
    return markup.document(title, parts)


def _best(result: Result) -> dict[str, str]:
    """The best trials of the winner's length, it first, and what distinguishes them."""
    best = result.best
    if best is None:
        return {}
    whole = [e for e in result.board.of("finished") if e.trial.share == best.trial.share]
    scores = result.board.scores  # more is better, whatever the metric is
    whole.sort(key=lambda e: (e is not best, -scores[e.trial.name]))
    return {e.trial.name: described(e.trial) or e.trial.name for e in whole[:MOST_RUNS]}


def _row(name: str, result: Result) -> list[str]:
    best = result.best
    found = ["–"] * 3
    if best:
        found = [described(best.trial), f"{best.value:.4g}", f"{best.trial.share:g}"]
    return [name, *found, f"{result.cost:.3g}", str(len(result.board.entries))]


def _trials(result: Result) -> str:
    head = ["trial", "phase", "share of Tmax", "iterations", "cost in Tmax", result.metric, "best"]
    head += ["state"]
    rows = [
        [
            described(entry.trial) or entry.trial.name,
            entry.trial.phase,
            f"{entry.trial.share:g}",
            str(trained(entry, result.tmax)),
            f"{spent(entry, result.tmax):.3g}",
            "–" if entry.value is None else f"{entry.value:.4g}",
            result.mark(entry),
            entry.state + (f", attempt {entry.attempts}" if entry.attempts > 1 else ""),
        ]
        for entry in result.board.entries
    ]
    return markup.table("figures", head, rows)
