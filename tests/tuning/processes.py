"""Worker processes that can be killed: forks of the test's, which has imported everything."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path


class Forked:
    """A process that calls a function; its output goes to a file."""

    def __init__(self, call: Callable[[], object], log: Path) -> None:
        sys.stdout.flush()
        self.log = log
        self.pid = os.fork()
        self.status: int | None = None
        if self.pid == 0:
            status = 1
            try:
                os.setsid()
                # As in a process of its own, whatever the test process was left with.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(descriptor, 1)
                os.dup2(descriptor, 2)
                sys.stdout = os.fdopen(1, "w", buffering=1)
                sys.stderr = os.fdopen(2, "w", buffering=1)
                call()
                status = 0
            except KeyboardInterrupt:
                status = 130
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)

    def ended(self) -> bool:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status is not None

    def wait(self, seconds: float = 120) -> int:
        """The exit status, negative for a signal."""
        end = time.monotonic() + seconds
        while not self.ended():
            if time.monotonic() > end:
                self.send(signal.SIGKILL)
                raise TimeoutError(self.log.read_text())
            time.sleep(0.05)
        return self.status

    def send(self, number: signal.Signals) -> None:
        if not self.ended():
            os.kill(self.pid, number)


def until(condition: Callable[[], object], seconds: float = 60, what: str = ""):
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(what or condition)
        time.sleep(0.02)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; a corpse does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
