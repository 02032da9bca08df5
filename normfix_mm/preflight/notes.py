"""What is said before training and does not stop it: counts, and what is only suspicious.

A line each, by one process of a run.
"""

from __future__ import annotations

import os
import sys
import time

from normfix_mm.errors import printable

_EVERY = 5.0  # seconds between two lines of progress


def note(text: str) -> None:
    """Say what was found."""
    if _speaks():
        print(printable(text), flush=True)


def warn(text: str) -> None:
    """Say what is probably not meant."""
    if _speaks():
        print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


class Progress:
    """Says every few seconds how far a long check is."""

    def __init__(self, what: str, total: int):
        self._what, self._total, self._done = what, total, 0
        self._last = time.monotonic()

    def step(self) -> None:
        """One more is done."""
        self._done += 1
        if time.monotonic() - self._last > _EVERY:
            self._last = time.monotonic()
            note(f"{self._what}: {self._done} of {self._total} looked at")


def _speaks() -> bool:
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
