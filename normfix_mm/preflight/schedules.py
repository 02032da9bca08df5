"""Do schedules and training have the same length, and have epochs an end?

A schedule that does not fit is no error for mmengine: milestones behind the end are never reached,
a cosine is cut off or climbs again, a warm-up goes on until the end. Only what surely does nothing
is refused here; of the rest a line is said.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence

from normfix_mm.datasets.config import LOADERS, type_name
from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import warn

_ENDLESS = ("InfiniteSampler", "MultiSourceSampler", "GroupMultiSourceSampler")
_SLACK = 0.02  # of the training's length
_WARM_UPS = ("LinearLR", "ConstantLR")
_DECAYS = ("CosineAnnealingLR", "PolyLR", "LinearLR", "OneCycleLR", "CosineRestartLR")


def check_schedules(cfg, length_of: Callable) -> None:
    """Compare each parameter schedule, and validation, with the training's length.

    Args:
        length_of: gives the number of pictures of a dataset of the config, or None.

    Raises:
        BadInput: An epoch without an iteration, or a schedule by epochs in a loop without them.
    """
    loop = cfg.get("train_cfg") or {}
    by_epoch = loop.get("by_epoch", "Iter" not in type_name(loop))
    length = loop.get("max_epochs" if by_epoch else "max_iters")
    _check_numbers(cfg, loop)
    if not isinstance(length, int):
        return
    an_epoch = _iterations(cfg.get("train_dataloader") or {}, length_of) if by_epoch else None
    if an_epoch == 0:
        raise BadInput(
            "An epoch would have no iteration: the training set has fewer pictures than a batch, "
            "and drop_last is set; lower train_dataloader.batch_size."
        )
    last = 0
    decays = False
    for place, schedule in _schedules(cfg):
        kind = type_name(schedule)
        _check_options(f"{place} ({kind})", schedule)
        epochs = schedule.get("by_epoch", True)
        if epochs and not by_epoch and not schedule.get("convert_to_iter_based"):
            raise BadInput(
                f"{place} ({kind}) goes by epochs, and a loop of {length} iterations has none, so "
                "that it would do nothing; set its by_epoch=False and count in iterations."
            )
        unit = "epochs" if epochs else "iterations"
        total = length if epochs == by_epoch else an_epoch and length * an_epoch
        if total is None:
            decays = True  # of unknown length
            continue
        _check_milestones(place, kind, schedule, total, unit)
        end = _end(schedule, kind)
        rising = kind in _WARM_UPS and schedule.get("start_factor", 1 / 3) < schedule.get(
            "end_factor", 1.0
        )
        if (rising or kind == "ConstantLR") and end >= total:
            warn(
                f"{place} ({kind}) warms up for {end:g} {unit}, but training has {total}: the full "
                "rate is never reached."
            )
        elif kind in _DECAYS and not rising and end < math.inf:
            decays = True
            last = max(last, end / total)
        elif kind in ("MultiStepLR", "StepLR", "ExponentialLR"):
            decays, last = True, max(last, 1)
        span = end - schedule.get("begin", 0)
        period = schedule.get("T_max")
        if kind == "CosineAnnealingLR" and period and end < math.inf and period != span:
            warn(
                f"{place} (CosineAnnealingLR) has T_max={period}, but lasts {span:g} {unit}: the "
                f"rate {'climbs again after it' if period < span else 'does not come down'}."
            )
    if decays and last and abs(last - 1) > _SLACK:
        what = (
            "the rate does not come down to its end"
            if last > 1
            else "the rest is trained with the last rate"
        )
        warn(
            f"param_scheduler ends after {last:.2g} times the training's {length} "
            f"{'epochs' if by_epoch else 'iterations'}: {what}; set its `end` (and T_max) to the "
            "training's length."
        )
    if cfg.get("val_dataloader") is not None:
        _check_validation(loop, length)


def check_samplers(cfg, phases: Sequence[str]) -> None:
    """Refuse samplers without an end where an epoch or an evaluation waits for it.

    Raises:
        BadInput: The first of them.
    """
    loop = cfg.get("train_cfg") or {}
    for phase in phases:
        name, _ = LOADERS[phase]
        loader = cfg.get(name) or {}
        kind = type_name(loader.get("sampler") or {})
        if kind not in _ENDLESS or loader.get("num_batch_per_epoch"):
            continue
        if phase != "train" or loop.get("by_epoch", "Iter" not in type_name(loop)):
            what = "An epoch of train_cfg" if phase == "train" else "The evaluation"
            raise BadInput(
                f"{what} would never end: {name}.sampler is {kind}, which goes on without an end; "
                f"take DefaultSampler{', or an IterBasedTrainLoop' if phase == 'train' else ''}."
            )


def _check_options(where: str, schedule: dict) -> None:
    """Refuse what mmengine would stop at in its first step, or later, and what is no number."""
    for name in ("begin", "end", "T_max", "total_iters", "total_steps", "step_size", "milestones"):
        value = schedule.get(name)
        for each in value if name == "milestones" and value is not None else [value]:
            if each is not None and (isinstance(each, bool) or not isinstance(each, (int, float))):
                raise BadInput(f"{where} has {name}={value!r}; give numbers, as 12 and not '12'.")
    if schedule.get("start_factor") == 0:
        raise BadInput(
            f"{where} has start_factor=0, from which no factor leads up; give a small one, such as "
            "0.001."
        )


def _check_validation(loop: dict, length: int) -> None:
    interval, begin = loop.get("val_interval", 1), loop.get("val_begin", 1)
    if isinstance(begin, int) and begin > length:
        warn(f"train_cfg.val_begin is {begin}, training ends at {length}: never validated.")
    elif isinstance(interval, int) and interval > length:  # mmengine validates at the end, too
        warn(
            f"train_cfg.val_interval is {interval}, training ends at {length}: not validated "
            "before its end."
        )


def _check_numbers(cfg, loop: dict) -> None:
    """Refuse numbers with which mmengine would stop, some of them after training."""
    for name, least in (("max_epochs", 1), ("max_iters", 1), ("val_interval", 1)):
        _need_number(f"train_cfg.{name}", loop.get(name, least), least)
    for name in ("train_dataloader", "val_dataloader"):
        loader = cfg.get(name) or {}
        _need_number(f"{name}.batch_size", loader.get("batch_size", 1), 1)
        _need_number(f"{name}.num_workers", loader.get("num_workers", 0), 0)


def _need_number(name: str, value, least: int) -> None:
    if type(value) is not int or value < least:
        raise BadInput(f"{name} is {value!r}; give a whole number, {least} or more.")


def _schedules(cfg) -> Iterator[tuple[str, dict]]:
    """Those of the learning rate."""
    named = cfg.get("param_scheduler") or ()
    if isinstance(named, dict) and "type" not in named:  # of several optimizers
        named = [
            each for part in named.values() for each in (part if isinstance(part, list) else [part])
        ]
    for k, each in enumerate([named] if isinstance(named, dict) else named):
        if isinstance(each, dict):
            yield f"param_scheduler[{k}]", each


def _end(schedule: dict, kind: str) -> float:
    """The step at which a schedule has done its work."""
    end = schedule.get("end", math.inf)
    end = math.inf if end >= 1_000_000_000 else end  # mmengine's INF
    if end == math.inf:
        own = {
            "CosineAnnealingLR": schedule.get("T_max"),
            "OneCycleLR": schedule.get("total_steps"),
            "LinearLR": schedule.get("total_iters"),
            "PolyLR": schedule.get("total_iters"),
            "CosineRestartLR": sum(schedule.get("periods") or ()) or None,
        }.get(kind)
        end = schedule.get("begin", 0) + own if own else end
    return end


def _check_milestones(place: str, kind: str, schedule: dict, total: int, unit: str) -> None:
    begin = schedule.get("begin", 0)
    if kind == "MultiStepLR":
        stones = list(schedule.get("milestones") or ())
        late = [stone for stone in stones if begin + stone >= total]
        if late:
            warn(
                f"{place} (MultiStepLR) lowers the rate at {late}, but training has {total} "
                f"{unit}: {'none' if late == stones else 'not all'} of its milestones is reached."
            )
    elif kind == "StepLR" and begin + schedule.get("step_size", 0) >= total:
        warn(
            f"{place} (StepLR) lowers the rate after {schedule['step_size']} {unit}, but training "
            f"has {total}."
        )


def _iterations(loader: dict, length_of: Callable) -> int | None:
    """Of an epoch, in this run of so many processes; None if not known."""
    pictures = length_of(loader["dataset"]) if loader.get("dataset") is not None else None
    batch = loader.get("batch_size")
    if pictures is None or not batch:
        return None
    batch *= int(os.environ.get("WORLD_SIZE", 1))
    sampler = loader.get("batch_sampler") or {}
    drop = loader.get("drop_last") or sampler.get("drop_last")
    count = pictures // batch if drop else math.ceil(pictures / batch)
    return min(count, loader.get("num_batch_per_epoch") or count)
