"""How a trial ended, as far as what its training has logged and said tells."""

from __future__ import annotations

import errno
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from normfix_mm.errors import BadInput, listing
from normfix_mm.report.run import RISK

EXPLODED = 10  # times the first logged loss, three log lines in a row
NOT_METRICS = ("step", "time", "data_time", "epoch", "iter", "memory")
# The last words of a training that stopped itself; NormFix's are among them.
DIVERGED = re.compile(r"\bnan\b|(not|non-?) ?finite in training|diverged|exploded", re.IGNORECASE)
FULL = re.compile(rf"{os.strerror(errno.ENOSPC)}|the disk is full", re.IGNORECASE)


@dataclass
class Outcome:
    """How a trial ended.

    Attributes:
        state: 'finished', 'diverged', 'crashed', or 'stopped' from outside.
        value: of the metric in the last evaluation; infinitely bad if the run diverged.
        metrics: all that the last evaluation reported.
        iterations: trained in all.
        seconds: that this attempt took.
        error: the last words of a run that crashed.
    """

    state: str
    value: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    iterations: int = 0
    seconds: float = 0.0
    error: str = ""


def diverges(train: dict[int, dict]) -> bool:
    """Whether the logged loss is no number, or has exploded."""
    losses = [entry["loss"] for entry in train.values()]
    if not losses:
        return False
    if not math.isfinite(losses[-1]):
        return True
    bound = EXPLODED * max(abs(losses[0]), 1e-6)
    return len(losses) > 3 and all(abs(loss) > bound for loss in losses[-3:])


def metrics_of(entry: dict) -> dict[str, float]:
    """What evaluators have reported; the cross-boundary risk is a hook's, and judges nothing."""
    return {
        key: value
        for key, value in entry.items()
        if key not in NOT_METRICS and not key.startswith(RISK) and isinstance(value, (int, float))
    }


def found(metrics: dict[str, float], name: str) -> float | None:
    """The metric of this name, with or without the evaluator's prefix."""
    if name in metrics:
        return metrics[name]
    bare = name.rpartition("/")[2]
    same = [value for key, value in metrics.items() if key.rpartition("/")[2] == bare]
    return same[0] if same else None


def value_of(metrics: dict[str, float], name: str, maximize: bool) -> float:
    """What a finished run is judged by.

    An evaluator that finds nothing to evaluate, no box at all say, reports nothing: the worst.
    """
    value = found(metrics, name)
    if value is None and metrics:
        raise BadInput(
            f"The runs are judged by {name!r}, but report {listing(metrics)}; name one of them "
            "with --metric, and the search anew with --study: what is trained counts for it."
        )
    if value is None or math.isnan(value):
        return 0.0 if maximize else math.inf
    return value


def last_words(log: Path) -> str:
    """The last line of a log, of a training that failed: the exception or the error."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - 20000))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    telling = [line for line in lines if re.match(r"(\w+\.)*\w*(Error|Exception)\b|error:", line)]
    return next(iter((telling or [line for line in lines if line])[-1:]), "")[:300]
