"""The page of a search: what it found, its pictures, its trials."""

from __future__ import annotations

from normfix_mm.report import markup
from normfix_mm.tuning import plots
from normfix_mm.tuning.progress import described, spent
from normfix_mm.tuning.results import Result


def build(results: dict[str, Result], title: str, command: str) -> str:
    """The page.

    Args:
        results: searches by name; the page is about the first, and draws the progress of the
            others beside it.
        command: what made it, without a password.
    """
    result = next(iter(results.values()))
    parts = [
        f"<h1>{markup.text(title)}</h1>",
        f"<p>Made by <code>{markup.text(command)}</code></p>",
        "<h2>Result</h2>",
        markup.table(
            "figures",
            ["search", "best", result.metric, "cost in Tmax", "trials"],
            [_row(name, each) for name, each in results.items()],
        ),
        *(f"<p>{markup.text(said)}</p>" for said in (*result.remarks, *result.failures)),
        "<h2>Pictures</h2>",
        markup.figures(plots.drawings(result), results),
        "<h2>Trials</h2>",
        _trials(result),
    ]
    return markup.document(title, parts)


def _row(name: str, result: Result) -> list[str]:
    best = result.best
    found = [described(best.trial), f"{best.value:.4g}"] if best else ["–", "–"]
    return [name, *found, f"{result.cost:.3g}", str(len(result.board.entries))]


def _trials(result: Result) -> str:
    head = ["trial", "phase", "share of Tmax", "iterations", "cost in Tmax", result.metric, "state"]
    rows = [
        [
            described(entry.trial) or entry.trial.name,
            entry.trial.phase,
            f"{entry.trial.share:g}",
            str(entry.iterations),
            f"{spent(entry, result.tmax):.3g}",
            "–" if entry.value is None else f"{entry.value:.4g}",
            entry.state + (f", attempt {entry.attempts}" if entry.attempts > 1 else ""),
        ]
        for entry in result.board.entries
    ]
    return markup.table("figures", head, rows)
