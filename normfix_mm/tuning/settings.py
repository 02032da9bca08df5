"""What decides a search: given, else the config's `tune_cfg`, else the papers'."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

from mmengine.config import Config

from normfix_mm.errors import BadInput, listing
from normfix_mm.tuning import algorithm4, bayes, knobs
from normfix_mm.tuning.grid import Grid
from normfix_mm.tuning.lease import LEASE
from normfix_mm.tuning.search import Search

METHODS = ("fixnorm", "bo-wd", "grid")
# What each method is decided by, beside the config and the data.
SETTINGS = {
    "fixnorm": ("lr_range", "budgets", "splits", "alphas"),
    "bo-wd": ("lr_range", "lam_range", "trials"),
    "grid": ("grid", "share"),
}
COMMON = ("metric", "direction", "seed", "lease")
WHOLE = ("rounds", "splits", "trials")
LISTS = {"lr_range": 2, "lam_range": 2, "budgets": None, "alphas": None}  # with their lengths
LAST_SEED = 2**32 - 1  # NumPy's


def checked(method: str, rounds: int | None, settings: dict) -> dict:
    """The settings that were given, checked for those that are of no use to the method."""
    given = {key: value for key, value in settings.items() if value is not None}
    useless = [key for key in given if key not in (*SETTINGS[method], *COMMON)]
    if useless:
        raise BadInput(f"--method {method} has no use for {', '.join(useless)}.")
    if rounds is None:
        return given
    if method != "fixnorm":
        raise BadInput(f"--method {method} has no use for rounds.")
    return given | dict(budgets=_budgets(rounds, given.get("budgets")))


def _budgets(rounds: int, given: list[float] | None = None) -> list[float]:
    """The budgets that were given, or the papers', for so many rounds."""
    check_kinds(dict(rounds=rounds) | ({} if given is None else dict(budgets=given)))
    check_counts(1, rounds=rounds)
    if given is not None:
        if len(given) != rounds:
            raise BadInput(f"{rounds} rounds, but {len(given)} budgets; give one for each round.")
        return given
    if rounds == 1:
        return [1.0]
    first, last = algorithm4.BUDGETS
    return [round(first + i * (last - first) / (rounds - 1), 6) for i in range(rounds)]


def complete(method: str, cfg: Config, given: Mapping) -> dict:
    """All settings of the search."""
    told = cfg.get("tune_cfg") or {}
    if not isinstance(told, Mapping):
        raise BadInput(f"tune_cfg is a dict of settings, not {told!r}.")
    told = dict(told)
    check_kinds(told | dict(given))
    if "rounds" in told:
        told["budgets"] = _budgets(told["rounds"], told.get("budgets"))
    metric, direction = _judge(cfg, given, told)
    usual = dict(
        lr_range=knobs.default_lr_range(cfg),
        budgets=algorithm4.BUDGETS,
        splits=algorithm4.SPLITS,
        alphas=algorithm4.ALPHAS,
        lam_range=bayes.LAM_RANGE,
        trials=bayes.TRIALS,
        grid={},
        share=1.0,
        metric=metric,
        direction=direction,
        seed=(cfg.get("randomness") or {}).get("seed") or 0,
        lease=LEASE,
    )
    unknown = set(told) - {*usual, "rounds"}
    if unknown:
        raise BadInput(
            f"tune_cfg has {listing(sorted(unknown))}, which no search has; it takes "
            f"{listing(['rounds', *usual], 20)}."
        )
    usual |= {key: told[key] for key in usual if key in told and key not in ("metric", "direction")}
    usual |= given
    check_kinds(dict(seed=usual["seed"]))
    if usual["direction"] is None:
        raise BadInput(
            f"Whether {metric!r} is the better the larger it is cannot be told by its name; add "
            "--direction maximize or --direction minimize."
        )
    if usual["direction"] not in ("maximize", "minimize"):
        raise BadInput(f"direction is maximize or minimize, not {usual['direction']!r}.")
    return dict(method=method) | {key: usual[key] for key in (*SETTINGS[method], *COMMON)}


def _judge(cfg: Config, given: Mapping, told: Mapping) -> tuple[str, str | None]:
    """The metric, and its direction where it is known; that of `tune_cfg` is of its own metric."""
    metric, direction = given.get("metric") or told.get("metric"), None
    if metric:
        direction = knobs.direction_of(metric, knobs.rule_of(cfg, metric))
    else:
        metric, direction = knobs.metric_of(cfg)
    of_told = given.get("metric") in (None, told.get("metric"))
    return metric, told["direction"] if of_told and "direction" in told else direction


def check_kinds(settings: Mapping[str, Any]) -> None:
    """Whether each setting is a number, a list or a mapping where it has to be one.

    Raises:
        BadInput: one is not, or a seed or a lease is out of its range.
    """
    for key, value in settings.items():
        right, what = True, ""
        if key in WHOLE:
            right, what = _whole(value), "a whole number"
        elif key in LISTS:
            length = LISTS[key]
            right = _numbers(value) and length in (None, len(value))
            what = "two numbers" if length else "a list of numbers"
        elif key == "share":
            right, what = _number(value), "a number"
        elif key == "lease":
            right = _number(value) and 0 < value < math.inf
            what = "a number of seconds above 0"
        elif key == "seed":
            right = _whole(value) and 0 <= value <= LAST_SEED
            what = f"a whole number from 0 to {LAST_SEED}"
        elif key == "grid":
            right = isinstance(value, Mapping) and all(map(_numbers, value.values()))
            what = "a mapping from names to lists of numbers"
        if not right:
            raise BadInput(f"{key} is {what}, not {value!r}.")


def check_counts(least: int, **counts: int | None) -> None:
    """Whether each count, where it is given, is as large as the least that makes sense.

    Raises:
        BadInput: one is smaller.
    """
    for name, count in counts.items():
        if count is not None and count < least:
            raise BadInput(f"{name} is a number of {least} or more, not {count}.")


def _number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _numbers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_number, value))


def search_of(settings: Mapping) -> Search:
    """The search that the settings describe.

    Raises:
        BadInput: they describe none.
    """
    if settings["method"] == "fixnorm":
        return algorithm4.Algorithm4(
            tuple(settings["lr_range"]),
            tuple(settings["budgets"]),
            settings["splits"],
            tuple(settings["alphas"]),
        )
    if settings["method"] == "bo-wd":
        return bayes.BayesianDecay(
            tuple(settings["lr_range"]), tuple(settings["lam_range"]), settings["trials"]
        )
    algorithm4.check_budgets([settings["share"]])
    return Grid({k: tuple(v) for k, v in settings["grid"].items()}, settings["share"])


def check_method(method: str, cfg: Config) -> None:
    if method == "fixnorm":
        knobs.check_fixnorm(cfg)
    elif method == "bo-wd":
        knobs.check_decay(cfg)
