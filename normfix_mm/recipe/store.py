"""What a recipe's run leaves in its work dir, so that it goes on with the same choices.

WORK_DIR/recipe/choices.json    what was given and chosen
WORK_DIR/recipe/NAME.py         the whole config
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.contents import TASKS as KINDS
from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import note
from normfix_mm.recipe.config import Choices
from normfix_mm.recipe.rules import METHODS
from normfix_mm.run.resuming import latest_complete

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
    """The run that a work dir holds, to go on with; None if it is to begin.

    Raises:
        BadInput: There is one that would be written over, or that was begun with other options.
    """
    tasks = [args.task] if args.task else KINDS
    places = [default_work_dir(folder, task, args.method) for task in tasks]
    if args.work_dir:
        places = [Path(args.work_dir)]
    found = next((path for path in places if (path / _FOLDER / _CHOICES).is_file()), None)
    if found is None or (not args.resume and latest_complete(str(found)) is None):
        if args.resume:
            note("There is no run to go on with: it begins anew.")
        return None
    told = json.loads((found / _FOLDER / _CHOICES).read_text(encoding="utf-8"))
    if not args.resume:
        raise BadInput(
            f"{str(found)!r} holds a run of {told['folder']}; go on with it by --resume, or name "
            "another --work-dir."
        )
    if told["folder"] != str(folder.resolve()):
        raise BadInput(
            f"{str(found)!r} holds a run of {told['folder']}, not of {folder}; name another "
            "--work-dir."
        )
    changed = [name for name in given if given[name] != told["given"].get(name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise BadInput(
            f"--{option} is {given[changed[0]]}, but the run in {str(found)!r} was begun with "
            f"{told['given'].get(changed[0], 'its own choice')}, and keeps it: leave the option "
            "out, or begin anew with another --work-dir."
        )
    cfg = Config.fromfile(str(found / _FOLDER / told["config"]))
    cfg.work_dir, cfg.launcher = str(found), "none"
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    choices = told["choices"]
    return RecipeRun(cfg, Choices(**dict(choices, size=tuple(choices["size"]))), told)


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
