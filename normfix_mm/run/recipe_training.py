"""Training on a folder of one's own without a config: choose, measure, say, train, conclude.

What was chosen stands in the work dir, in `recipe/`: the whole config and the choices. A run that
goes on takes both from there, and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmengine.config import Config

from normfix_mm import preflight
from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.config import drop_workers_options
from normfix_mm.datasets.contents import TASKS as KINDS
from normfix_mm.datasets.contents import Contents, contents_of, folder_for
from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import note, warn
from normfix_mm.run import recipe
from normfix_mm.run.command_line import read_config
from normfix_mm.run.recipe import METHODS, TASKS, spoken
from normfix_mm.run.recipe_config import Choices, config_path, write_length, write_size
from normfix_mm.run.resuming import latest_complete
from normfix_mm.run.training import train
from normfix_mm.run.weights import provide_weights

if TYPE_CHECKING:
    from normfix_mm.tuning.measure import Cost

GIVEN = ("task", "method", "hours", "size", "epochs", "lr", "no_flip", "classes")
_CHOICES = "choices.json"
_MEASURING = 10.0  # seconds that starting and a few iterations take at least
_AGAIN = 0.05  # of the time may go into a second measurement, of a smaller size


def add_options(parser: argparse.ArgumentParser) -> None:
    """What chooses the recipe, and what overrides it."""
    group = parser.add_argument_group("without a CONFIG, the recipe")
    group.add_argument("--hours", type=float, help="the time allowed; 1 by default")
    group.add_argument("--task", choices=KINDS, help="by default what the folder has labels for")
    group.add_argument("--method", choices=METHODS, help="fixnorm by default")
    group.add_argument("--size", type=int, nargs=2, metavar=("W", "H"), help="of the pictures")
    group.add_argument("--epochs", type=int, help="the length; nothing is measured then")
    group.add_argument("--lr", type=float, help="the highest learning rate")
    group.add_argument("--no-flip", action="store_true", help="do not mirror pictures")


def refuse_beside_config(args: argparse.Namespace) -> None:
    """Options of the recipe have no place where a config says it all.

    Raises:
        BadInput: The first that was given.
    """
    options = [name for name in GIVEN if name != "classes" and getattr(args, name)]
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
    given = _given(args)
    if args.launcher != "none":
        raise BadInput(
            "Without a CONFIG one process chooses and trains; start it without --launcher, and "
            "several with the config that it leaves in the work dir."
        )
    folder = Path(args.folder).expanduser()
    stored = _stored(args, folder, given)
    if stored is None:
        run = _begin(args, folder, given, began)
    else:
        run = stored
        note("Going on with what was chosen when the run began:")
    _say(run)
    train(run.cfg, resume=stored is not None, contents=not args.skip_data_check and bool(stored))
    _conclude(run, args)


@dataclass
class _Run:
    """A run that is ready to be trained."""

    cfg: Config
    choices: Choices
    told: dict  # what stands in choices.json

    @property
    def work_dir(self) -> Path:
        return Path(self.cfg.work_dir)


def _given(args: argparse.Namespace) -> dict:
    given = {name: getattr(args, name) for name in GIVEN if getattr(args, name)}
    for name in ("hours", "lr", "epochs"):
        value = getattr(args, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BadInput(f"--{name} is {value}; give a number above 0.")
    if args.size and min(args.size) < recipe.STEP:
        raise BadInput(f"--size is {args.size[0]} {args.size[1]}; give {recipe.STEP} or more.")
    return given


def _stored(args: argparse.Namespace, folder: Path, given: dict) -> _Run | None:
    """The run that a work dir holds, to go on with; None if it is to begin.

    Raises:
        BadInput: There is one that would be written over, or that was begun with other options.
    """
    places = [_work_dir(args, folder)] if _work_dir(args, folder) else _default_dirs(args, folder)
    found = next((path for path in places if (path / "recipe" / _CHOICES).is_file()), None)
    if found is None or (not args.resume and latest_complete(str(found)) is None):
        if args.resume:
            note("There is no run to go on with: it begins anew.")
        return None
    if not args.resume:
        raise BadInput(
            f"{str(found)!r} holds a run of this folder; go on with it by --resume, or name "
            "another --work-dir."
        )
    told = json.loads((found / "recipe" / _CHOICES).read_text(encoding="utf-8"))
    changed = [name for name in given if given[name] != told["given"].get(name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise BadInput(
            f"--{option} is {given[changed[0]]}, but the run in {str(found)!r} was begun with "
            f"{told['given'].get(changed[0], 'its own choice')}, and keeps it: leave the option "
            "out, or begin anew with another --work-dir."
        )
    (config,) = (found / "recipe").glob("*.py")
    cfg = Config.fromfile(str(config))
    cfg.work_dir, cfg.launcher = str(found), "none"
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    choices = told["choices"]
    return _Run(cfg, Choices(**dict(choices, size=tuple(choices["size"]))), told)


def _work_dir(args: argparse.Namespace, folder: Path) -> Path | None:
    return Path(args.work_dir) if args.work_dir else None


def _default_dirs(args: argparse.Namespace, folder: Path) -> list[Path]:
    tasks = [args.task] if args.task else KINDS
    name = folder.resolve().name
    return [Path("work_dirs") / f"{name}_{task}_{args.method or 'fixnorm'}" for task in tasks]


def _begin(args: argparse.Namespace, folder: Path, given: dict, began: float) -> _Run:
    """Choose, and write down what was chosen."""
    contents = contents_of(folder, args.task, args.train_list)
    task, method = args.task or contents.tasks[0], args.method or "fixnorm"
    cfg = read_config(str(config_path(task, method)), args.cfg_options)
    cfg.launcher = "none"
    default = Path("work_dirs") / f"{folder.resolve().name}_{task}_{method}"
    cfg.work_dir = str(_work_dir(args, folder) or default)
    provide_weights(cfg)
    drop_workers_options(cfg)
    folder_for(task, folder).use(cfg, args.classes, args.train_list, args.val_list, args.val_split)
    classes = cfg.train_dataloader.dataset.metainfo["classes"]
    numbered = task == recipe.SEGMENT and not args.classes
    unsafe = recipe.unsafe_to_flip(classes, numbered)
    flip = not args.no_flip and not unsafe
    size = tuple(args.size) if args.size else recipe.wanted_size(contents, task)
    epoch_length = math.ceil(contents.pictures / cfg.train_dataloader.batch_size)
    epochs = args.epochs or recipe.enough_epochs(epoch_length)
    choices = Choices(task, method, size, epochs, epoch_length, args.lr or TASKS[task].lr, flip)
    _write(cfg, choices, args)
    preflight.check(cfg, ("train", "val"), contents=not args.skip_data_check)
    hours = args.hours or 1.0
    cost = None
    if not args.epochs:
        choices, cost = _timed(cfg, choices, contents, hours, began, args)
        _write(cfg, choices, args)
    told = dict(version=1, given=given, choices=asdict(choices), hours=hours, unsafe=unsafe[:3])
    told |= dict(folder=str(folder.resolve()), pictures=contents.pictures)
    told |= dict(batch=cfg.train_dataloader.batch_size)
    if cost is not None:
        length = choices.epochs, choices.epoch_length
        took = recipe.seconds_for(*length, *_costs(cost)) * (1 - recipe.MARGIN)
        told |= dict(seconds=took, iteration=cost.iteration)
    return _Run(_store(cfg, told, TASKS[task].model, method), choices, told)


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
    """Size and epochs for the time that is left, measured.

    Raises:
        BadInput: There is none for a single epoch.
    """
    allowed = hours * 3600

    def possible() -> int:
        rest = allowed - (time.monotonic() - began)
        return recipe.possible_epochs(rest, cost.epoch_length, *_costs(cost))

    before = time.monotonic()
    if allowed - (before - began) < _MEASURING:
        raise BadInput(
            f"--hours {hours:g}, {spoken(allowed)}, is too short for measuring a few iterations; "
            "give --hours 0.05 or more, or the length by --epochs."
        )
    cost = _measure(cfg)
    took = time.monotonic() - before
    enough, epochs = recipe.enough_epochs(cost.epoch_length), possible()
    size = choices.size
    if not args.size and epochs < enough:
        size = recipe.affordable_size(size, contents, choices.task, epochs or 0.25, enough)
    if size != choices.size:
        pixels = math.prod(size) / math.prod(choices.size)
        cost = replace(cost, iteration=cost.iteration * pixels, validation=cost.validation * pixels)
        choices = replace(choices, size=size)
        if took < _AGAIN * allowed:
            _write(cfg, choices, args)
            cost = _measure(cfg)
        epochs = possible()
    spent = time.monotonic() - began
    one = recipe.seconds_for(1, cost.epoch_length, *_costs(cost))
    recipe.check_time(epochs, hours, size, spent + one)
    epochs = min(epochs, recipe.most_epochs(cost.epoch_length))
    if epochs < enough / 4:
        more = (spent + recipe.seconds_for(enough, cost.epoch_length, *_costs(cost))) / 3600
        warn(
            f"{epochs} epochs are few for {contents.pictures} pictures; --hours {more:.2g} would "
            f"allow {enough}."
        )
    return replace(choices, epochs=epochs, epoch_length=cost.epoch_length), cost


def _measure(cfg: Config) -> Cost:
    import torch

    from normfix_mm.tuning.measure import measure

    note("Measuring a few iterations …")
    folder = Path(cfg.work_dir) / "recipe/measured"
    try:
        return measure(cfg, folder, threads=torch.get_num_threads())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _costs(cost: Cost) -> tuple[float, float, float]:
    return cost.iteration, cost.validation, cost.start


def _store(cfg: Config, told: dict, model: str, method: str) -> Config:
    """The config as it is read again from the work dir."""
    folder = Path(cfg.work_dir) / "recipe"
    path = folder / f"{model}_{METHODS[method]}.py"
    with replacing(path) as part:
        part.write_text(cfg.pretty_text, encoding="utf-8")
    with replacing(folder / _CHOICES) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    again = Config.fromfile(str(path))
    again.work_dir, again.launcher = cfg.work_dir, "none"
    return again


def _say(run: _Run) -> None:
    """What was chosen, and what changes it."""
    made, told = run.choices, run.told
    iterations = made.epochs * made.epoch_length
    took = (
        f", some {spoken(told['seconds'])} of {spoken(3600 * told['hours'])}"
        if "seconds" in told
        else ""
    )
    names = told.get("unsafe")
    mirrored = "mirrored at random (--no-flip)"
    if not made.flip:
        mirrored = (
            f"not mirrored, as {names[0]!r} would become another thing"
            if names
            else ("not mirrored")
        )
    lines = {
        "task": f"{made.task}, {TASKS[made.task].model} from ImageNet (--task)",
        "method": f"{made.method} (--method {', '.join(METHODS)})",
        "pictures": f"{told['pictures']} of {made.size[0]}×{made.size[1]} (--size W H), {mirrored}",
        "length": f"{made.epochs} epochs, {iterations} iterations of {told['batch']}{took} "
        "(--hours, --epochs)",
        "rate": f"up to {made.lr:g}, one cycle (--lr)",
    }
    note("\n".join(f"{key:<10}{value}" for key, value in lines.items()))


def _conclude(run: _Run, args: argparse.Namespace) -> None:
    """The result, the page, and how to go on."""
    from normfix_mm.report.run import Run

    task, work_dir = TASKS[run.choices.task], run.work_dir
    done = Run.load(work_dir)
    steps, values = done.val_curve(task.metric.rpartition("/")[2])
    best = max(work_dir.glob("best_*.pth"), key=os.path.getmtime, default=None)
    config = next(iter(sorted(work_dir.glob("*.py"), key=os.path.getmtime, reverse=True)))
    if values:
        where = max(zip(values, steps))
        note(f"{task.word} {where[0]:.3f}, the best of {len(values)}, at iteration {where[1]}")
    page = _page(done, work_dir, run)
    lines = [f"page      {page}"] if page else []
    if best is not None:
        names = shlex.quote(str(config)), shlex.quote(str(best))
        lines += [
            f"test      python tools/test.py {names[0]} {names[1]}",
            f"deploy    python tools/fold.py {names[0]} {names[1]} deployed",
        ]
    longer = shlex.quote(f"{work_dir}_longer")
    folder = shlex.quote(str(args.folder))
    lines.append(
        f"longer    python tools/train_folder.py {folder} --hours {2 * run.told['hours']:g} "
        f"--work-dir {longer}"
    )
    note("\n".join(lines))


def _page(done, work_dir: Path, run: _Run) -> Path | None:
    try:
        from normfix_mm.report import page
    except ImportError as error:
        warn(f"There is no page ({error}); pip install 'normfix-mm[report]' for it.")
        return None
    path = work_dir / "index.html"
    command = f"python -m normfix_mm.report {shlex.quote(str(work_dir))}"
    title = f"{Path(run.told['folder']).name}: {run.choices.task}, {run.choices.method}"
    page.write(path, page.build([done], title, command))
    return path
