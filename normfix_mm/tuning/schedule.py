"""A config's training made shorter, with the shape of its schedule.

Everything that counts iterations or epochs scales: the length, warm-up, milestones, the length of a
cosine or a polynomial, the intervals of validation and checkpoints. A fifth of eight epochs is no
whole number of them: such a run counts iterations instead. If hooks of the config count epochs
(switching off augmentations in the last ones, say), the run keeps its epochs, and their number is
rounded. Schedulers count iterations in any case: a rate that falls once an epoch falls smoothly.
So where a config counts epochs, the iterations of one must be known.
"""

from __future__ import annotations

import copy
import math

from mmengine.config import Config

from normfix_mm.datasets.config import type_name
from normfix_mm.errors import BadInput

FOREVER = 10**9  # mmengine's end of a schedule that has none
LOGGED = 20  # log lines that even a short run should leave
COUNTS = ("begin", "end", "T_max", "total_steps", "step_size")  # of schedulers
SHORTEST = 2  # iterations of a scheduler
LISTS = ("milestones", "periods")


def by_epoch(cfg: Config) -> bool:
    """Whether training is counted in epochs.

    Raises:
        BadInput: the config has no training loop with a length.
    """
    loop = cfg.get("train_cfg") or {}
    if "max_epochs" in loop:
        return True
    if "max_iters" in loop:
        return False
    raise BadInput("The config's train_cfg has neither max_epochs nor max_iters; give it a length.")


def iterations(cfg: Config, epoch_length: int | None) -> int:
    """The length of training in iterations, with `epoch_length` iterations an epoch."""
    if not by_epoch(cfg):
        return cfg.train_cfg.max_iters
    if epoch_length is None:
        raise BadInput(
            "The config counts epochs, and its --command did not tell how long one is; count "
            "iterations instead, by train_cfg.max_iters."
        )
    return cfg.train_cfg.max_epochs * epoch_length


def warm_up(cfg: Config, epoch_length: int | None) -> int:
    """Iterations until the config's rate has risen to its whole; 0 without a warm-up."""
    ends = [0]
    for scheduler in _schedulers(cfg):
        first = scheduler.get("start_factor", scheduler.get("factor", 1 / 3))
        kind = type_name(scheduler)
        rises = kind.startswith(("LinearLR", "ConstantLR")) and first < 1
        end = scheduler.get("end", scheduler.get("total_iters", FOREVER))
        if scheduler.get("begin", 0) or not (rises or "Warmup" in kind) or end >= FOREVER:
            continue
        ends.append(end * (epoch_length or 0) if scheduler.get("by_epoch", True) else end)
    return max(ends)


def shortened(cfg: Config, share: float, epoch_length: int | None = None) -> Config:
    """A copy of the config that trains for `share` of its length.

    Args:
        cfg: with a training loop of iterations or epochs.
        share: in (0, 1].
        epoch_length: iterations of an epoch; of use only where the config counts epochs.

    Raises:
        BadInput: a schedule that depends on the course of training, or nothing left to train.
    """
    cfg = copy.deepcopy(cfg)
    if share == 1:
        return cfg
    if not by_epoch(cfg):
        _scale(cfg, share, epochs=False)
        return cfg
    epochs = share * cfg.train_cfg.max_epochs
    whole = abs(epochs - round(epochs)) < 1e-9 and epochs > 0.5
    if not whole and _may_count_iterations(cfg):
        _count_iterations(cfg, iterations(cfg, epoch_length) // cfg.train_cfg.max_epochs)
        _scale(cfg, share, epochs=False)
        return cfg
    share = max(1, round(epochs)) / cfg.train_cfg.max_epochs
    _schedulers_in_iterations(cfg, iterations(cfg, epoch_length) // cfg.train_cfg.max_epochs)
    _scale(cfg, share, epochs=True)
    return cfg


def _scale(cfg: Config, share: float, epochs: bool) -> None:
    """Multiply all counts by the share, in whatever unit each of them is."""
    loop, total = cfg.train_cfg, "max_epochs" if epochs else "max_iters"
    length = round(loop[total] * share)
    if length < 1:
        raise BadInput(
            f"A budget of {share:g} leaves nothing of {loop[total]} iterations to train."
        )
    loop[total] = length
    for key in ("val_interval", "val_begin"):
        if key in loop:
            loop[key] = _up(loop[key] * share)
    if loop.get("dynamic_intervals"):
        loop.dynamic_intervals = [
            (_up(a * share), _up(b * share)) for a, b in loop.dynamic_intervals
        ]
    for scheduler in _schedulers(cfg):
        _scale_scheduler(scheduler, share)
    hooks = cfg.get("default_hooks") or {}
    checkpoint = hooks.get("checkpoint")
    if checkpoint:
        for key in ("interval", "save_begin"):
            if checkpoint.get(key, 0) > 0:
                checkpoint[key] = _up(checkpoint[key] * share)
    logger = hooks.get("logger")
    if logger and not epochs:
        logger.interval = max(1, min(logger.get("interval", 10), length // LOGGED))
    for hook in cfg.get("custom_hooks") or []:
        for key, value in _epoch_counts(hook).items():
            hook[key] = _up(value * share)


def _scale_scheduler(scheduler: dict, share: float) -> None:
    kind = type_name(scheduler)
    if kind.startswith("ReduceOnPlateau"):
        raise BadInput(
            f"{kind} follows the course of training, so a shorter one has another shape; use a "
            "schedule with a fixed length, or budgets of 1."
        )
    for key in COUNTS:
        value = scheduler.get(key)
        if value is not None and value < FOREVER:
            scheduler[key] = _up(value * share) if value else value
    if scheduler.get("end") is not None:
        # mmengine's warm-up of one iteration never ends: it scales the rate and does not undo it.
        scheduler["end"] = max(scheduler["end"], scheduler.get("begin", 0) + SHORTEST)
    for key in LISTS:
        if key in scheduler:
            scheduler[key] = [_up(value * share) for value in scheduler[key]]
    if kind.startswith("Exponential"):
        scheduler["gamma"] = scheduler["gamma"] ** (1 / share)


def _count_iterations(cfg: Config, epoch_length: int) -> None:
    """The same training, counted in iterations."""
    loop = cfg.train_cfg
    loop.max_iters = loop.pop("max_epochs") * epoch_length
    loop.pop("by_epoch", None)
    loop.type = "IterBasedTrainLoop"
    loop.val_interval = loop.get("val_interval", 1) * epoch_length
    if "val_begin" in loop:
        loop.val_begin = loop.val_begin * epoch_length
    if loop.get("dynamic_intervals"):
        loop.dynamic_intervals = [
            (a * epoch_length, b * epoch_length) for a, b in loop.dynamic_intervals
        ]
    _schedulers_in_iterations(cfg, epoch_length)
    hooks = cfg.setdefault("default_hooks", {})
    checkpoint = hooks.get("checkpoint")
    if checkpoint and checkpoint.get("by_epoch", True):
        for key in ("interval", "save_begin"):
            if checkpoint.get(key, 0) > 0:
                checkpoint[key] = checkpoint[key] * epoch_length
        checkpoint.by_epoch = False
    if hooks.get("logger"):
        hooks.logger.log_metric_by_epoch = False
    cfg.log_processor = dict(cfg.get("log_processor") or {}, by_epoch=False)


def _schedulers_in_iterations(cfg: Config, epoch_length: int) -> None:
    for scheduler in _schedulers(cfg):
        if not scheduler.get("by_epoch", True):
            continue
        for key in COUNTS:
            value = scheduler.get(key)
            if value is not None and value < FOREVER:
                scheduler[key] = value * epoch_length
        for key in LISTS:
            if key in scheduler:
                scheduler[key] = [value * epoch_length for value in scheduler[key]]
        if type_name(scheduler).startswith("Exponential"):
            scheduler["gamma"] = scheduler["gamma"] ** (1 / epoch_length)
        scheduler.pop("convert_to_iter_based", None)
        scheduler["by_epoch"] = False


def _schedulers(cfg: Config) -> list[dict]:
    """Of one optimizer, or of several by name."""
    found = cfg.get("param_scheduler") or []
    if isinstance(found, dict) and "type" not in found:
        return [each for part in found.values() for each in _listed(part)]
    return _listed(found)


def _listed(found) -> list[dict]:
    return [found] if isinstance(found, dict) else list(found)


def _may_count_iterations(cfg: Config) -> bool:
    loop = type_name(cfg.train_cfg) if "type" in cfg.train_cfg else "EpochBasedTrainLoop"
    counting = any(_epoch_counts(hook) for hook in cfg.get("custom_hooks") or [])
    return loop == "EpochBasedTrainLoop" and not counting


def _epoch_counts(hook) -> dict[str, int]:
    """Options of a hook that are numbers of epochs."""
    return {
        key: value
        for key, value in hook.items()
        if "epoch" in key and isinstance(value, int) and not isinstance(value, bool) and value > 0
    }


def _up(value: float) -> int:
    """The next whole number, at least 1; what is whole but for rounding stays."""
    return max(1, math.ceil(value - 1e-6))
