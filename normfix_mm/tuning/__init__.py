"""Tuning: FixNorm's Algorithm 4, its rivals, and comparing methods on data of one's own.

from normfix_mm.tuning import tune
result = tune("config.py", jobs=2)      # tools/tune.py is its command line

search, algorithm4, bayes, grid, comparison    what to train next: pure functions of scores
knobs, schedule, job                           what a trial's config is
training, measure                              a trial as a process
storage, lease, study, worker                  many processes on one study
settings, forecast, tuner                      the whole search
progress, results, plots, page                 what is seen of it
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normfix_mm.tuning.tuner import tune

__all__ = ["tune"]


def __getattr__(name: str):
    if name == "tune":  # with mmengine and torch, only when it is used
        from normfix_mm.tuning.tuner import tune

        return tune
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
