"""What a checkpoint may hold beside tensors: objects that carry numbers and run nothing.

``torch.load(weights_only=True)`` knows tensors and plain containers. Logs of mmengine
(`HistoryBuffer`), numpy's scalars and arrays and the options of a training script
(`argparse.Namespace`) stand in many honest checkpoints; they are allowed here by name, each by
itself. Everything else is refused, `getattr` above all, which mmengine's own list lets through.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pickle
from collections.abc import Callable, Iterator

import numpy as np
from torch import serialization

_STATISTICS = ("min", "max", "mean", "current")
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "bool")


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Within the block ``torch.load(weights_only=True)`` takes these objects, too."""
    if not hasattr(serialization, "get_safe_globals"):  # torch before 2.4 takes tensors alone
        yield
        return
    before = serialization.get_safe_globals()
    others = [each for each in before if each is not getattr]
    serialization.clear_safe_globals()
    serialization.add_safe_globals([*others, *_harmless()])
    try:
        yield
    finally:
        serialization.clear_safe_globals()
        serialization.add_safe_globals(before)


@functools.cache
def _harmless() -> list:
    reconstruct = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    dtypes = {type(np.dtype(name)) for name in _DTYPES}
    # numpy 2 renamed the package; checkpoints of numpy 1 carry the old names.
    numpys = [
        _named(function, f"numpy.{core}.multiarray", function.__name__)
        for core in ("core", "_core")
        for function in (reconstruct, scalar)
    ]
    dtype = _named(_plain_dtype, "numpy", "dtype")
    return [argparse.Namespace, np.ndarray, dtype, *dtypes, *numpys, *_history()]


def _plain_dtype(spec: str, *flags: bool) -> np.dtype:
    """Numbers only: records and strings have a layout that the file could lie about."""
    found = np.dtype(spec, *flags)
    if found.kind not in "biuf":
        raise pickle.UnpicklingError(f"Unsupported class: numpy.dtype({spec!r})")
    return found


def _history() -> list:
    """mmengine's log, where mmengine is installed; without it nobody has written one."""
    try:
        from mmengine.logging import HistoryBuffer
    except ImportError:
        return []

    def statistic(owner: type, name: str) -> Callable:
        """All that `getattr` may do: name a statistic of a HistoryBuffer."""
        if owner is HistoryBuffer and name in _STATISTICS:
            return getattr(owner, name)
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {name} of {owner!r}")

    return [HistoryBuffer, _named(statistic, "builtins", "getattr")]


def _named(function: Callable, module: str, name: str) -> Callable:
    """The function under the name that pickles know it by; older torch takes no pairs for it."""

    def called(*arguments):
        return function(*arguments)

    called.__module__, called.__name__, called.__qualname__ = module, name, name
    return called
