"""The one reader of PyTorch's files: no code that is in them is run.

A pickle can name any function of Python to be called while it is read. ``weights_only=True``
refuses all but tensors, plain containers and what is on the list of ``harmless``; a file that asks
for more is refused with a sentence, unless whoever started the command has vouched for this very
file (:func:`trust`).
"""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from normfix_mm.checkpoints.harmless import allowed
from normfix_mm.errors import BadInput, one_line

# torch's own, over what its callers ask for; and its opposite, with which it takes none of the two.
_FORCE, _NEVER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"
# How torch's reader says that it has met something that only unpickling would give.
_WANTS_CODE = re.compile(r"GLOBAL|Unsupported class|call reduce|Can only (create|build)")
_trusted: set[Path] = set()


def trust(paths: Iterable[str | os.PathLike]) -> None:
    """Let these files, and no others, be unpickled in this process where they need it.

    Raises:
        BadInput: One of them is no file.
    """
    for path in paths:
        if not os.path.isfile(path):
            raise BadInput(f"--trust-checkpoint names {str(path)!r}, which is no file.")
        _trusted.add(Path(path).resolve())


def is_trusted(path: str | os.PathLike) -> bool:
    """Whether :func:`trust` was told this file."""
    return Path(path).resolve() in _trusted


def load(path: str | os.PathLike, source: str | None = None, map_location: Any = "cpu") -> dict:
    """All that a .pth file holds.

    Args:
        source: the option that named the file, for the messages.
        map_location: as of ``torch.load``.

    Raises:
        BadInput: Cut off, with objects that would have to be unpickled, no dictionary, or one with
            something else where mmengine puts weights and metadata.
    """
    named = f"{os.fspath(path)!r} of {source}" if source else repr(os.fspath(path))
    try:
        if program := _program(path):
            raise pickle.UnpicklingError(f"Unsupported class: {program}")
        with allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a protocol that is not torch's own
            content = torch.load(path, map_location=map_location, weights_only=True)
    except torch.cuda.OutOfMemoryError:
        raise
    except OSError as error:
        raise BadInput(
            f"The checkpoint {named} cannot be opened ({error.strerror or one_line(error)}); "
            "correct the path, or its rights."
        ) from None
    except Exception as error:  # zip, pickle and torch each have errors of their own
        if not _WANTS_CODE.search(str(error)):
            raise BadInput(
                f"The checkpoint {named} cannot be read ({_reason(error)}); it is no "
                "checkpoint of PyTorch, or was cut off while being written or copied: fetch it "
                "again or use an earlier one."
            ) from None
        if not is_trusted(path):
            raise BadInput(_refusal(named, str(error))) from None
        content = _unpickled(path, map_location)
    if not isinstance(content, dict):
        raise BadInput(
            f"{named} holds a {type(content).__name__}, not a checkpoint; save the state dict "
            "instead of the module."
        )
    for key in ("state_dict", "meta"):
        held = content.get(key, {})
        if not isinstance(held, dict) or not all(isinstance(name, str) for name in held):
            raise BadInput(
                f"The checkpoint {named} is damaged: its {key!r} is no dictionary of names but a "
                f"{type(held).__name__}; use an earlier one."
            )
    return content


@contextlib.contextmanager
def weights_only() -> Iterator[None]:
    """Within the block no ``torch.load`` of any library unpickles, whatever it asks for."""
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _NEVER)}
    os.environ[_FORCE] = "1"
    try:
        yield
    finally:
        os.environ.pop(_FORCE, None)
        os.environ |= {name: value for name, value in before.items() if value is not None}


def _program(path: str | os.PathLike) -> str:
    """What torch before 2.6 runs though it is told not to; '' for everything else."""
    if os.path.isfile(path) and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        return "TorchScript" if any(name.endswith("/constants.pkl") for name in names) else ""
    return "tarfile" if os.path.isfile(path) and tarfile.is_tarfile(path) else ""


def _refusal(named: str, text: str) -> str:
    wanted = re.search(
        r"(?:GLOBAL|Unsupported class:|function|but got) (\S+?)(?:[;.,]? |[.,]?$)", text
    )
    what = f"the Python object `{wanted[1]}`" if wanted else "more than data"
    return (
        f"The checkpoint {named} asks for {what}, which could run code, so it was not loaded; "
        "where the file was made, or on a machine that you can lose, save its weights alone: "
        "torch.save({'state_dict': model.state_dict()}, FILE). If you trust whoever made it, name "
        "the file with --trust-checkpoint."
    )


def _reason(error: Exception) -> str:
    """What went wrong, without torch's advice on how to unpickle."""
    told = str(error).rpartition("error:")[2]
    text = told.partition("Please file an issue")[0].partition("Check the documentation")[0]
    name = type(error).__name__
    return f"{name}: {one_line(ValueError(text), 120)}" if text.strip() else name


def _unpickled(path: str | os.PathLike, map_location: Any) -> Any:
    print(
        f"warning: running the code in {os.fspath(path)!r}, as --trust-checkpoint allows",
        file=sys.stderr,
        flush=True,
    )
    forced = os.environ.pop(_FORCE, None)
    try:
        return torch.load(path, map_location=map_location, weights_only=False)
    except Exception as error:
        raise BadInput(
            f"The checkpoint {os.fspath(path)!r} cannot be read ({_reason(error)}), though "
            "its code was allowed to run; install what it was made with."
        ) from None
    finally:
        if forced is not None:
            os.environ[_FORCE] = forced
