"""Where a run that was killed goes on: at its latest checkpoint that is complete.

mmengine writes a checkpoint straight to its final name, and only afterwards notes it in the file
`last_checkpoint`. Killed in between it resumes at the one before, which is right. But with
`save_best` it writes the noted checkpoint a second time, and a run killed then (or while the note
is written) has nothing to go on from, although older checkpoints lie beside.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import traceback
import zipfile
from collections.abc import Iterator

from torch import nn

from normfix_mm.errors import BadInput, one_line
from normfix_mm.preflight.notes import note, warn
from normfix_mm.run.ending import Interrupted, interrupted_by, typed
from normfix_mm.typed import line, resumed


def latest_complete(work_dir: str) -> str | None:
    """The checkpoint that `--resume` takes: the noted one, or the latest complete one of the dir.

    None where there is none; a folder (DeepSpeed's) or a remote address is taken as noted. A
    checkpoint cut short lacks the directory at the end of its zip archive. Where nothing is noted,
    as in a folder to which checkpoints were copied, mmengine would start anew and write over them.
    """
    from mmengine.logging import print_log
    from mmengine.runner import find_latest_checkpoint

    marker = os.path.join(work_dir, "last_checkpoint")
    noted = find_latest_checkpoint(work_dir) if os.path.exists(marker) else None
    if noted and ("://" in noted or os.path.isdir(noted) or _is_complete(noted)):
        return noted
    folder = os.path.dirname(noted or "")
    if not os.path.isdir(folder):  # none noted, or the work dir has moved since
        folder = work_dir
        moved = os.path.join(folder, os.path.basename(noted or ""))
        if _is_complete(moved):
            return moved
    complete = [path for path in _checkpoints(folder) if _is_complete(path)]
    if not complete:
        return None
    latest = max(complete, key=os.path.getmtime)
    if noted is not None:
        print_log(
            f"The latest checkpoint {noted!r} is not there or was cut off while being written; "
            f"going on from {latest!r}, the latest complete one.",
            logger="current",
            level=logging.WARNING,
        )
    return latest


def forget_the_start(model: nn.Module) -> None:
    """Leave out what a model was started from: it has its weights from the checkpoint.

    mmengine would read the files of `init_cfg` before that, and they may be gone by now.
    """
    for module in model.modules():
        given = getattr(module, "init_cfg", None) or ()
        each = [given] if isinstance(given, dict) else list(given)
        kept = [one for one in each if one.get("type") != "Pretrained"]
        if len(kept) < len(each):
            module.init_cfg = kept


def resume(cfg, named: str | None = None) -> None:
    """Have the run of a config go on from a checkpoint, or from the latest of its work dir.

    Where there is none, as at the first start of a job that is always given --resume, the run
    starts as the config says, from its `load_from`, too.
    """
    found = named or latest_complete(cfg.work_dir)
    cfg.resume = found is not None
    if found is not None:
        cfg.load_from = found
    elif there := _checkpoints(cfg.work_dir):
        warn(
            f"None of the {len(there)} checkpoints in {cfg.work_dir!r} is complete: the run starts "
            "anew and writes over them."
        )
    else:
        note(f"There is no checkpoint in {cfg.work_dir!r} to go on from: the run starts anew.")


@contextlib.contextmanager
def resumable(work_dir: str) -> Iterator[None]:
    """Around training: an interruption says what was saved and the command that goes on.

    Raises:
        Interrupted: In the place of KeyboardInterrupt.
        BadInput: The checkpoint holds another run's state, of another optimizer for example.
    """
    try:
        yield
    except BaseException as error:
        if interrupted_by(error):
            raise Interrupted(how_to_go_on(work_dir)) from None
        if isinstance(error, Exception) and not isinstance(error, BadInput) and _resuming(error):
            raise BadInput(
                "The state in the resumed checkpoint is not one of this config's runs "
                f"({type(error).__name__}: {one_line(error)}): go on with the config that wrote "
                "it, or start from its weights with load_from."
            ) from None
        raise


def _resuming(error: BaseException) -> bool:
    """Whether the error came while mmengine took a checkpoint's state for its own."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(
        frame.f_code.co_name == "resume"
        and frame.f_globals.get("__name__", "").startswith("mmengine.")
        for frame in frames
    )


def how_to_go_on(work_dir: str) -> str:
    """What a run that was interrupted has left in its work dir, and the command for it."""
    saved = latest_complete(work_dir)
    if saved is None:
        return (
            f"no checkpoint was written yet in {work_dir!r}: start the same command again, it "
            "begins anew."
        )
    return f"saved is {saved!r}; go on with: {line(resumed(typed()))}"


def _checkpoints(folder: str) -> list[str]:
    """Those that a run writes as it goes on."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [os.path.join(folder, n) for n in names if re.fullmatch(r"(epoch|iter)_\d+\.pth", n)]


def _is_complete(path: str) -> bool:
    return os.path.isfile(path) and zipfile.is_zipfile(path)
