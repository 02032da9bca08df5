"""Who runs a trial, and whether that process still lives.

A worker counts up a number in the study as long as it lives. Another one that has seen the number
stand still for the length of a lease, by its own clock, takes the worker to be dead: clocks of
different machines are never compared. On the same machine there is nothing to wait for.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

LEASE = 60.0  # seconds


def myself() -> dict[str, str | int]:
    """This process: host, what it shares process numbers with, number, when it was born."""
    return dict(host=socket.gethostname(), place=_place(), pid=os.getpid(), born=_born(os.getpid()))


def is_dead(worker: dict) -> bool:
    """Whether this process is known to be gone; a process elsewhere never is."""
    if not worker.get("place") or worker["place"] != _place():
        return False
    return _born(worker["pid"]) != worker["born"]


class Watch:
    """What this process has seen of the beats of others.

    Time in which it did not look does not count: it was suspended, or the storage was out of reach,
    for the others as well.

    Args:
        lease: seconds that a beat may stand still; to be looked at four times as often at least.
    """

    def __init__(self, lease: float) -> None:
        self.lease = lease
        self._seen: dict[int, tuple[object, float]] = {}
        self._looked = time.monotonic()

    def look(self) -> None:
        """Begin another look at all beats."""
        now = time.monotonic()
        if now - self._looked > self.lease / 2:
            self._seen.clear()
        self._looked = now

    def is_silent(self, trial_id: int, beat: object) -> bool:
        """Whether the beat of a running trial has stood still for longer than the lease."""
        last, since = self._seen.get(trial_id, (None, 0.0))
        if trial_id not in self._seen or last != beat:
            self._seen[trial_id] = (beat, self._looked)
            return False
        return self._looked - since > self.lease


def _place() -> str:
    """The same for processes that can see each other's numbers; empty where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty if there is none, or only its corpse."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
