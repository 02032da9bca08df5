"""The words that everybody here uses to say what is wrong."""

from __future__ import annotations

from collections.abc import Iterable


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
