"""Errors that only say that a config is wrong: a name or an option of which nothing can be built.

Model, optimizer and our own hooks are tried out before a run (``normfix_mm.preflight``). Data
pipelines, samplers, loops, schedules, evaluators and the hooks of others are built by mmengine when
the run starts, still before the first iteration; what it meets then is told apart here.
"""

from __future__ import annotations

import traceback

from normfix_mm.errors import one_line

_OF_USERS = (
    *(AssertionError, AttributeError, FileNotFoundError, ImportError, IndexError, KeyError),
    *(NotADirectoryError, TypeError, ValueError, ZeroDivisionError),
)
# What mmengine's Runner builds without a registry.
_OF_RUNNER = {"from_cfg": "the run", "build_train_loop": "the training loop"}


def misbuilt(error: BaseException) -> str | None:
    """The sentence for an error from within mmengine's building; None if it came from elsewhere."""
    if not isinstance(error, _OF_USERS):
        return None
    what = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (module, function) == ("mmengine.registry.build_functions", "build_from_cfg"):
            what = _type_of(frame.f_locals.get("cfg")) or what
        # A folder of the run that cannot be made is no fault of its config.
        elif module == "mmengine.runner.runner" and not isinstance(error, OSError):
            what = _OF_RUNNER.get(function, what)
    if what is None:
        return None
    return (
        f"The config is wrong: {what} cannot be built ({type(error).__name__}: "
        f"{one_line(error, 300)}); correct the names and options that it is given."
    )


def _type_of(config) -> str | None:
    kind = config.get("type") if hasattr(config, "get") else None
    return kind if isinstance(kind, str) else getattr(kind, "__name__", None)
