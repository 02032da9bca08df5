"""The pictures of a search. Each function draws on matplotlib's axes and returns whether it could.

They are drawn as the report's, for a light and for a dark page.
"""

from __future__ import annotations

import math

from normfix_mm.report.plots import COLOURS
from normfix_mm.tuning.algorithm4 import Algorithm4
from normfix_mm.tuning.board import Entry
from normfix_mm.tuning.progress import SYMBOLS, spent
from normfix_mm.tuning.results import Result

Results = dict[str, Result]  # by name; the first is what the page is about


def progress(axes, results: Results) -> bool:
    """The best score so far over what had been trained, for each search (Figure 5, left).

    Longer trainings begin anew: their scores are not compared with those of shorter ones.
    """
    drawn = False
    for (name, result), colour in zip(results.items(), COLOURS):
        ended = [e for e in result.board.entries if e.ended]
        cost, best, xs, ys, points = 0.0, None, [], [], []
        for entry in ended:
            cost += spent(entry, result.tmax)
            if not _has_value(entry):
                continue
            points.append((cost, entry.value))
            ahead = _sign(result) * (entry.value - (best.value if best else 0.0))
            longer = entry.trial.share - (best.trial.share if best else 0.0)
            if longer > 0 or (longer == 0 and ahead > 0):
                best = entry
            xs.append(cost)
            ys.append(best.value)
        if xs:
            axes.step([*xs, cost], [*ys, ys[-1]], where="post", color=colour, label=name)
            axes.plot(*zip(*points), "o", ms=3.5, color=colour, alpha=0.5)
            drawn = True
    metric = next(iter(results.values())).metric
    axes.set(title=f"Best {metric} so far", xlabel="cost in trainings (Tmax)")
    return drawn


def rounds(axes, results: Results) -> bool:
    """The score over the rate in each round, and the range that each round was left (Figure 5)."""
    result = next(iter(results.values()))
    if not isinstance(result.search, Algorithm4):
        return False
    by_name = {entry.trial.name: entry for entry in result.board.entries}
    found = result.search.rounds(result.board.scores)
    drawn = False
    for each, colour in zip(found, COLOURS):
        points = [
            (entry.trial.values["lr"], entry.value)
            for trial in each.trials
            if _has_value(entry := by_name[trial.name])
        ]
        label = f"round {each.number}, {each.trials[0].share:g} Tmax"
        if points:
            axes.plot(*zip(*points), "o-", ms=4, color=colour, label=label)
            drawn = True
        height = -0.05 * each.number
        axes.plot(
            each.lr_range,
            [height, height],
            "|-",
            color=colour,
            lw=2,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    axes.tick_params(axis="x", pad=6 + 9 * len(found))
    axes.set(title=f"{result.metric} over lr; below, each round's range", xlabel="learning rate")
    return drawn


def over(key: str):
    """A function that draws the score over the value `key` (Figure 4)."""

    def draw(axes, results: Results) -> bool:
        result = next(iter(results.values()))
        groups: dict[str, list[tuple[float, float]]] = {}
        for entry in result.board.entries:
            values = entry.trial.values
            if key not in values or not _has_value(entry):
                continue
            other = [
                f"{SYMBOLS.get(k, k)} {v:g}" for k, v in values.items() if k not in (key, "seed")
            ]
            share = [f"{entry.trial.share:g} Tmax"] if entry.trial.share != 1 else []
            where = "" if result.search.sampled else ", ".join([*other, *share])
            groups.setdefault(where, []).append((values[key], entry.value))
        most = max((len({x for x, _ in points}) for points in groups.values()), default=0)
        if most < 2:
            return False
        shown = [(w, p) for w, p in groups.items() if len(p) > 1 or len(groups) <= len(COLOURS)]
        style = "o" if result.search.sampled else "o-"
        for (where, points), colour in zip(shown, COLOURS * 8):
            axes.plot(*zip(*sorted(points)), style, ms=4, color=colour, label=where or None)
        if "." not in key:
            from matplotlib.ticker import LogFormatter

            base = 2 if key == "alpha" else 10
            tried = {x for points in groups.values() for x, _ in points}
            if 0 in tried:  # λ or ε
                axes.set_xscale("symlog", linthresh=min(tried - {0}), base=base)
            else:
                axes.set_xscale("log", base=base)
            axes.xaxis.set_major_formatter(LogFormatter(base))  # the default's are formulas
            axes.xaxis.set_minor_formatter(LogFormatter(base))
        if key == "alpha":
            ticks = sorted({x for points in groups.values() for x, _ in points})
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        symbol = SYMBOLS.get(key, key)
        axes.set(title=f"{result.metric} over {symbol}", xlabel=symbol)
        return True

    return draw


def curves(axes, results: Results) -> bool:
    """The metric of each trial on its way."""
    result = next(iter(results.values()))
    shown = [e for e in result.board.entries if e.curve]
    for entry, colour in zip(shown, COLOURS * 8):
        steps, values = zip(*sorted(entry.curve.items()))
        label = entry.trial.name if len(shown) <= 2 * len(COLOURS) else None
        axes.plot(steps, values, marker="o", ms=2.5, lw=1, color=colour, label=label)
    axes.set(title=f"{result.metric} of each trial")
    return bool(shown)


def drawings(result: Result) -> list[tuple]:
    """The plots of a search's page, each with its caption."""
    keys = dict.fromkeys(key for e in result.board.entries for key in e.trial.values)
    shown_above = "lr" if isinstance(result.search, Algorithm4) else None
    return [
        (
            progress,
            "Points are trials, in the order of the search; the line is the best so far, anew for "
            "each length of trials.",
        ),
        (
            rounds,
            "Each round tries its range of rates; the best of one is the upper end of the next.",
        ),
        *(
            (over(key), "Trials that differ in nothing else are joined.")
            for key in keys
            if key not in ("seed", shown_above)
        ),
        (curves, "Validations along the way, and the last one, which counts."),
    ]


def _has_value(entry: Entry) -> bool:
    return entry.value is not None and math.isfinite(entry.value)


def _sign(result: Result) -> int:
    """1 if more is better, else -1."""
    scores = result.board.scores
    told = [(scores.get(e.trial.name, -math.inf), e.value) for e in result.board.entries]
    return next((-1 if s != value else 1 for s, value in told if value and math.isfinite(s)), 1)
