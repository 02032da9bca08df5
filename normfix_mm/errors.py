"""The words that everybody here uses to say what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path


class BadInput(ValueError):
    """A mistake in what the user gave; the message is complete and needs no traceback."""


class Stopped(RuntimeError):
    """A run that cannot go on as it is; the message is complete and needs no traceback."""


def one_line(error: BaseException, limit: int = 400) -> str:
    """The message of an error as one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def printable(text: str) -> str:
    """Without control characters, with which names in data or checkpoints rule a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def listing(items: Iterable, most: int = 12) -> str:
    """Names for a sentence: the first few and how many more. Takes strings or what has a `name`."""
    names = [str(getattr(item, "name", item)) for item in items]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "none"


def quoted(items: Iterable, most: int = 5) -> str:
    """As `listing`, each as Python writes it."""
    return listing(map(repr, items), most)


# Of a checkout; the others are tools/NAME.py.
_STARTED = {
    "train-folder": "tools/train_folder.py",
    "convert": "tools/convert_checkpoint.py",
    "report": "-m normfix_mm.report",
    "check": "-m normfix_mm.check_env",
}


def invocation(command: str) -> str:
    """How a user types one of our commands: `normfix …`, or by the file of a checkout."""
    checkout = Path(__file__).resolve().parents[1]
    if Path(sys.argv[0]).stem == "normfix" or not (checkout / "tools/train.py").is_file():
        return f"normfix {command}"
    return f"python {_STARTED.get(command, f'tools/{command}.py')}"


# What importing an OpenMMLab package raises. ImportError: it is absent, or something it needs is.
# AssertionError: its own check of versions. OSError, RuntimeError: operators (of mmcv, of
# torchvision) that were built for another torch.
IMPORT_FAILURES = (ImportError, AssertionError, OSError, RuntimeError)


def needs(package: str, what: str, error: BaseException) -> ImportError:
    """For a package of ours whose framework does not load: one sentence instead of that chain."""
    reason = one_line(RuntimeError(f"{type(error).__name__}: {error}"), 200)
    return ImportError(
        f"{package} needs {what} ({reason}); run `python -m normfix_mm.check_env` to see what is "
        "missing, or install the stack with `pip install 'normfix-mm[onedl]'`."
    )
