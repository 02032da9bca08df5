"""How a run was made, in a file beside its curves: command, date, versions, machine, seed.

``<time>/vis_data/run.json``, one for each start of the run. It is there as soon as training begins;
the seconds are brought up to date at each evaluation and at the end. It names no host and no user.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

import torch
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.typed import line

FILE = "vis_data/run.json"
_OURS = Path(__file__).resolve().parents[3]  # with tools/ and configs/
PACKAGES = ("torch", "mmengine", "mmcv", "mmdet", "mmseg", "mmpretrain", "normfix_mm")


@HOOKS.register_module(force=True)
class RunRecordHook(Hook):
    """Write ``run.json``.

    Args:
        command: what the user typed; this process's own command line if not given.
    """

    priority = "VERY_LOW"  # the last evaluation and checkpoint count

    def __init__(self, command: str | None = None) -> None:
        self.command = command
        self._began = 0.0

    def before_train(self, runner) -> None:
        self._began = time.monotonic()
        self._told = dict(
            command=shortened(shlex.split(self.command or "") or [sys.executable, *sys.argv]),
            date=datetime.now().isoformat(" ", "minutes"),
            machine=machine(),
            processes=get_world_size(),
            versions=versions(),
            seed=runner.seed,
            iteration=runner.iter,
        )
        self._write(runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._began:
            self._write(runner)

    def after_train(self, runner) -> None:
        self._write(runner, ended=True)

    def _write(self, runner, ended: bool = False) -> None:
        if not is_main_process():
            return
        seconds = round(time.monotonic() - self._began)
        with replacing(Path(runner.log_dir) / FILE) as part:
            part.write_text(json.dumps(self._told | dict(seconds=seconds, ended=ended), indent=1))


def shortened(words: Sequence[str]) -> str:
    """A command line as one would type it: paths in this folder, ours or the home are short."""
    python, *rest = words
    return line(["python" if "python" in Path(python).name else python, *map(_short, rest)])


def _short(word: str) -> str:
    key, equals, path = word.rpartition("=")
    home = Path.home()
    for folder, prefix in ((Path.cwd(), ""), (_OURS, ""), (home, "~")):
        if os.path.isabs(path) and Path(path).is_relative_to(folder):
            path = os.path.join(prefix, os.path.relpath(path, folder))
    return f"{key}{equals}{path}"


def machine() -> str:
    """What trains here, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    asked = getattr(os, "sched_getaffinity", None)
    cores = len(asked(0)) if asked else os.cpu_count()
    said = f"{cores} CPU core{'s' * (cores != 1)} ({platform.machine()})"
    threads = torch.get_num_threads()
    return f"{said}, {threads} thread{'s' * (threads != 1)}"


# Asks every installed package for its files, which takes a second.
_provided = functools.cache(packages_distributions)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are there, by the name they are imported by."""
    provided = _provided()
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        for package in provided.get(name, [name]):
            try:
                found[name] = version(package)
            except PackageNotFoundError:
                continue
            break
    if "normfix_mm" not in found:  # used from a folder that is not installed
        from normfix_mm import __version__

        found["normfix_mm"] = __version__
    return found
