"""What a recipe's run leaves in its work dir, so that it goes on with the same choices.

WORK_DIR/recipe/choices.json    what was given and chosen
WORK_DIR/recipe/NAME.py         the whole config
WORK_DIR/recipe/measured/       while iterations are measured, and of a measurement that failed
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.config import drop_workers_options
from normfix_mm.datasets.contents import TASKS as KINDS
from normfix_mm.errors import BadInput, listing
from normfix_mm.preflight.notes import note
from normfix_mm.recipe.config import Choices
from normfix_mm.recipe.rules import METHODS
from normfix_mm.run.command_line import read_config
from normfix_mm.run.resuming import latest_complete
from normfix_mm.run.weights import provide_weights

METHOD = "decay"  # by default: a short training gives the others little to do
_FOLDER, _CHOICES = "recipe", "choices.json"


@dataclass
class RecipeRun:
    """A run that is ready to be trained."""

    cfg: Config
    choices: Choices
    told: dict  # what stands in choices.json

    @property
    def work_dir(self) -> Path:
        return Path(self.cfg.work_dir)


def stored(args: argparse.Namespace, folder: Path, given: dict) -> RecipeRun | None:
    """The run to go on with; None if there is none.

    Raises:
        BadInput: There are several, or it is another folder's, or was begun with other options.
    """
    tasks = [args.task] if args.task else KINDS
    methods = [args.method] if args.method else METHODS
    places = [default_work_dir(folder, task, method) for task in tasks for method in methods]
    runs = _told([Path(args.work_dir)] if args.work_dir else places)
    if not runs:
        note("There is no run to go on with: it begins anew.")
        return None
    own = [path for path in runs if runs[path]["folder"] == str(folder.resolve())]
    if not own:
        path, told = next(iter(runs.items()))
        raise BadInput(
            f"{str(path)!r} holds a run of {told['folder']}, not of {folder}; name another "
            "--work-dir."
        )
    unfinished = own if len(own) == 1 else [path for path in own if not _ended(path, runs[path])]
    fit = unfinished or own
    if len(fit) > 1:
        raise BadInput(
            f"{listing(map(str, fit))} hold runs of {folder} that --resume may mean; say which by "
            "--task, --method or --work-dir."
        )
    found, told = fit[0], runs[fit[0]]
    begun = dict(told["choices"], hours=told["hours"], no_flip=not told["choices"]["flip"])
    begun |= dict(val_split="val") | told["given"]
    changed = [name for name in given if given[name] != begun.get(name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise BadInput(
            f"--{option} is {given[changed[0]]}, but the run in {str(found)!r} was begun with "
            f"{begun.get(changed[0], 'its own choice')}, and keeps it: leave the option "
            "out, or begin anew with another --work-dir."
        )
    cfg = read_config(str(found / _FOLDER / told["config"]), args.cfg_options)
    cfg.work_dir, cfg.launcher = str(found), "none"
    provide_weights(cfg)
    drop_workers_options(cfg)
    choices = told["choices"]
    return RecipeRun(cfg, Choices(**dict(choices, size=tuple(choices["size"]))), told)


def refuse_overwriting(work_dir: str) -> None:
    """Keep a run that has checkpoints from one that begins.

    Raises:
        BadInput: The work dir holds one.
    """
    runs = _told([Path(work_dir)])
    if runs and latest_complete(work_dir) is not None:
        (told,) = runs.values()
        raise BadInput(
            f"{work_dir!r} holds a run of {told['folder']}; go on with it by --resume, or name "
            "another --work-dir."
        )


def clear_measured(work_dir: Path) -> Path:
    """Remove what a measurement has left, and return where the next one goes."""
    folder = work_dir / _FOLDER / "measured"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _told(work_dirs: Iterable[Path]) -> dict[Path, dict]:
    """What was chosen in those that hold a recipe's run."""
    files = {path: path / _FOLDER / _CHOICES for path in work_dirs}
    return {
        path: json.loads(file.read_text(encoding="utf-8"))
        for path, file in files.items()
        if file.is_file()
    }


def _ended(work_dir: Path, told: dict) -> bool:
    """Whether the last checkpoint is that of the end."""
    path = str(work_dir / _FOLDER / told["config"])
    loop = Config.fromfile(path, import_custom_modules=False).train_cfg
    number = re.search(r"_(\d+)\.pth$", latest_complete(str(work_dir)) or "")
    length = loop.get("max_epochs") or loop.get("max_iters")
    return number is not None and int(number[1]) >= length


def store(cfg: Config, told: dict, model: str, method: str) -> Config:
    """The config as it is read again from the work dir."""
    folder = Path(cfg.work_dir) / _FOLDER
    path = folder / f"{model}_{METHODS[method]}.py"
    with replacing(path) as part:
        part.write_text(cfg.pretty_text, encoding="utf-8")
    told["config"] = path.name
    with replacing(folder / _CHOICES) as part:
        part.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    again = Config.fromfile(str(path))
    again.work_dir, again.launcher = cfg.work_dir, "none"
    return again


def default_work_dir(folder: Path, task: str, method: str | None) -> Path:
    """Where a run of this folder goes if nobody says where."""
    return Path("work_dirs") / f"{folder.resolve().name}_{task}_{method or METHOD}"
