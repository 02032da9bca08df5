"""Training on a folder of one's own without a config: choose, measure, say, train, conclude.

What was chosen stands in the work dir, in `recipe/`: the whole config and the choices. A run that
goes on takes both from there, and measures nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from normfix_mm import preflight
from normfix_mm.datasets.config import drop_workers_options
from normfix_mm.datasets.contents import CLASSIFY, Contents, contents_of, folder_for
from normfix_mm.datasets.contents import TASKS as KINDS
from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import note, warn
from normfix_mm.recipe import rules
from normfix_mm.recipe.config import Choices, config_path, write_length, write_size
from normfix_mm.recipe.rules import METHODS, TASKS, spoken
from normfix_mm.recipe.store import (
    METHOD,
    RecipeRun,
    clear_measured,
    default_work_dir,
    refuse_overwriting,
    store,
    stored,
)
from normfix_mm.recipe.words import conclude, say, settings
from normfix_mm.run.command_line import read_config
from normfix_mm.run.training import train
from normfix_mm.run.weights import provide_weights

if TYPE_CHECKING:
    from normfix_mm.tuning.measure import Cost

_RECIPE = ("task", "method", "hours", "size", "epochs", "lr", "no_flip")
_DATA = ("classes", "train_list", "val_list", "val_split")
_MEASURING = 10.0  # seconds that starting and a few iterations take at least
_CLASSIFIED = 64  # pixels of a side; on fewer BN would see one value of a batch of one picture
_AGAIN = 0.05  # of the time may go into a second measurement, of a smaller size


def add_options(parser: argparse.ArgumentParser) -> None:
    """What chooses the recipe, and what overrides it."""
    group = parser.add_argument_group("without a CONFIG, the recipe")
    group.add_argument("--hours", type=float, help="the time allowed; 1 by default")
    group.add_argument("--task", choices=KINDS, help="by default what the folder has labels for")
    group.add_argument("--method", choices=METHODS, help="decay by default")
    group.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of the pictures")
    group.add_argument("--epochs", type=int, help="the length; nothing is measured then")
    group.add_argument("--lr", type=float, help="the highest learning rate")
    group.add_argument("--no-flip", action="store_true", help="do not mirror pictures")


def refuse_beside_config(args: argparse.Namespace) -> None:
    """Options of the recipe have no place where a config says it all.

    Raises:
        BadInput: The first that was given.
    """
    options = [name for name in _RECIPE if getattr(args, name)]
    if options:
        raise BadInput(
            f"--{options[0].replace('_', '-')} is for a training without a CONFIG, which has its "
            "own length, size and rate: leave CONFIG out, or change it by --cfg-options."
        )


def train_by_recipe(args: argparse.Namespace) -> None:
    """All of it, from the command's arguments.

    Raises:
        BadInput: What is wrong with folder, options or time.
        Interrupted: With what was saved.
    """
    began = time.monotonic()
    given = given_of(args)
    if args.launcher != "none":
        raise BadInput(
            "Without a CONFIG one process chooses and trains; start it without --launcher, and "
            "several with the config that it leaves in the work dir."
        )
    if args.amp or args.auto_scale_lr:
        raise BadInput(
            f"--{'amp' if args.amp else 'auto-scale-lr'} is for a training with a CONFIG: give the "
            "one that a recipe leaves in its work dir."
        )
    if args.row:
        raise BadInput(
            f"--row {args.row} chooses from a CONFIG that is a table; name that CONFIG, or leave "
            "--row out."
        )
    folder = Path(args.folder).expanduser()
    found = stored(args, folder, given) if args.resume else None
    if found is None:
        run = begin(args, folder, given, began)
    else:
        run = found
        note("Going on with what was chosen when the run began:")
    say(run)
    train(
        run.cfg, resume=found is not None, contents=not args.skip_data_check and found is not None
    )
    conclude(run, args)


def given_of(args: argparse.Namespace) -> dict:
    """The options that were given, as they are kept and compared.

    Raises:
        BadInput: A number that is none of a length, rate or size.
    """
    given = {name: getattr(args, name) for name in (*_RECIPE, *_DATA) if getattr(args, name)}
    for name in ("train_list", "val_list"):
        if name in given:
            given[name] = str(Path(given[name]).resolve())
    for name in ("hours", "lr", "epochs"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BadInput(f"--{name} is {value}; give a number above 0.")
    if args.size and min(args.size) < rules.STEP:
        raise BadInput(f"--size is {args.size[0]} {args.size[1]}; give {rules.STEP} or more.")
    return given


def begin(args: argparse.Namespace, folder: Path, given: dict, began: float) -> RecipeRun:
    """Choose, and write down what was chosen.

    Args:
        given: what `given_of` finds in the arguments.
        began: when, by the monotonic clock.
    """
    contents = contents_of(folder, args.task, args.train_list, args.classes)
    task, method = args.task or contents.tasks[0], args.method or METHOD
    if args.size and task == CLASSIFY and min(args.size) < _CLASSIFIED:
        raise BadInput(
            f"--size is {args.size[0]} {args.size[1]}; give {_CLASSIFIED} or more to a classifier, "
            "whose last map is 32 times smaller."
        )
    cfg = read_config(str(config_path(task, method)), args.cfg_options)
    cfg.launcher = "none"
    cfg.work_dir = args.work_dir or str(default_work_dir(folder, task, method))
    refuse_overwriting(cfg.work_dir)
    provide_weights(cfg)
    drop_workers_options(cfg)
    lists = args.train_list, args.val_list, args.val_split or "val"
    folder_for(task, folder).use(cfg, args.classes, *lists, say=note)
    classes = cfg.train_dataloader.dataset.metainfo["classes"]
    numbered = task == rules.SEGMENT and not args.classes
    unsafe = rules.unsafe_to_flip(classes, numbered)
    flip = not args.no_flip and not unsafe
    size = tuple(args.size) if args.size else rules.wanted_size(contents, task)
    epoch_length = math.ceil(contents.pictures / cfg.train_dataloader.batch_size)
    epochs = args.epochs or rules.enough_epochs(epoch_length)
    choices = Choices(task, method, size, epochs, epoch_length, args.lr or TASKS[task].lr, flip)
    _write(cfg, choices, args)
    preflight.check(cfg, ("train", "val"), contents=not args.skip_data_check)
    # The dataset itself drops some of what the folder holds.
    pictures, epoch_length = _trained_on(cfg)
    contents = replace(contents, pictures=pictures)
    choices = replace(choices, epoch_length=epoch_length)
    hours = args.hours or 1.0
    cost = None
    clear_measured(Path(cfg.work_dir))
    if not args.epochs:
        choices, cost = _timed(cfg, choices, contents, hours, began, args)
    _write(cfg, choices, args)
    told = dict(version=1, given=given, choices=asdict(choices), hours=hours, unsafe=unsafe[:3])
    told |= dict(folder=str(folder.resolve()), pictures=pictures)
    told |= dict(settings=settings(args.cfg_options))
    told |= dict(batch=cfg.train_dataloader.batch_size)
    if cost is not None:
        length = choices.epochs, choices.epoch_length
        took = rules.seconds_for(*length, *_costs(cost)) * (1 - rules.MARGIN)
        told |= dict(seconds=took, iteration=cost.iteration)
    return RecipeRun(store(cfg, told, TASKS[task].model, method), choices, told)


def _trained_on(cfg: Config) -> tuple[int, int]:
    """How many pictures and iterations an epoch has."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        loader = Runner.build_dataloader(copy.deepcopy(cfg.train_dataloader))
    pictures, iterations = len(loader.dataset), len(loader)
    if not iterations:
        raise BadInput(
            f"{pictures} pictures to train on are no batch of {cfg.train_dataloader.batch_size}; "
            "lower train_dataloader.batch_size."
        )
    return pictures, iterations


def _write(cfg: Config, choices: Choices, args: argparse.Namespace) -> None:
    """Choices into the config; what --cfg-options says counts last."""
    write_size(cfg, choices.task, choices.size, choices.flip)
    write_length(cfg, choices)
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)


def _timed(
    cfg: Config,
    choices: Choices,
    contents: Contents,
    hours: float,
    began: float,
    args: argparse.Namespace,
) -> tuple[Choices, Cost]:
    """Size and epochs for the time that is left, measured from the smallest size on.

    Raises:
        BadInput: There is none for a single epoch.
    """
    # Only here: what trials are made of takes a second to import.
    from normfix_mm.recipe.measuring import TooSlow, measured

    allowed = hours * 3600
    enough, wanted = rules.enough_epochs(choices.epoch_length), choices.size

    def spent() -> float:
        return time.monotonic() - began

    def possible(cost: Cost) -> int:
        return rules.possible_epochs(allowed - spent(), cost.epoch_length, *_costs(cost))

    def at(size: tuple[int, int]) -> Cost:
        _write(cfg, replace(choices, size=size), args)
        return measured(cfg, Path(cfg.work_dir), size, allowed)

    def affordable() -> tuple[int, int]:
        epochs = possible(_scaled(cost, size, wanted))
        return rules.affordable_size(wanted, contents, choices.task, epochs, enough)

    if allowed - spent() < _MEASURING:
        raise BadInput(
            f"--hours {hours:g}, {spoken(allowed)}, is too short for measuring a few iterations; "
            "give --hours 0.05 or more, or the length by --epochs."
        )
    size = wanted
    if not args.size:
        size = rules.affordable_size(wanted, contents, choices.task, 0, enough)
    before = spent()
    cost = at(size)
    if size != wanted and (better := affordable()) != size:
        if spent() - before < _AGAIN * allowed:
            with contextlib.suppress(TooSlow):
                size, cost = better, at(better)
            if size == better and possible(cost) < enough:
                better = affordable()
        size, cost = better, _scaled(cost, size, better)
    epochs = possible(cost)
    one = rules.seconds_for(1, cost.epoch_length, *_costs(cost))
    rules.check_time(epochs, hours, size, spent() + one)
    epochs = min(epochs, rules.most_epochs(cost.epoch_length))
    if epochs < enough / 4:
        more = (spent() + rules.seconds_for(enough, cost.epoch_length, *_costs(cost))) / 3600
        warn(
            f"{epochs} epochs are few for {contents.pictures} pictures; --hours {more:.2g} would "
            f"allow {enough}."
        )
    return replace(choices, size=size, epochs=epochs, epoch_length=cost.epoch_length), cost


def _scaled(cost: Cost, size: tuple[int, int], other: tuple[int, int]) -> Cost:
    """The cost at another size: time goes with the number of pixels."""
    pixels = math.prod(other) / math.prod(size)
    return replace(cost, iteration=cost.iteration * pixels, validation=cost.validation * pixels)


def _costs(cost: Cost) -> tuple[float, float, float]:
    return cost.iteration, cost.validation, cost.start
