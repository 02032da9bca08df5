"""How a command ends when it does not end well: one line and a status, no traceback.

1    a mistake of the user's, in a config too, or something the machine lacks (disk, memory)
130  interrupted, by Ctrl-C or by a signal to stop

What is neither is a fault of the program, and keeps its traceback.

Of several processes rank 0 speaks. Under torchrun each notes its sentence where torchrun looks for
it, so that its table shows the cause; ``tools/launch.py`` prints that sentence alone, last.
"""

from __future__ import annotations

import contextlib
import errno
import json
import linecache
import os
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from normfix_mm.errors import BadInput, one_line, printable
from normfix_mm.run.misbuilt import misbuilt

INTERRUPTED = 130
_NOTE = "TORCHELASTIC_ERROR_FILE"  # torchrun's, one file for each process
# Where `tools/launch.py` started this process: what the user typed, and a file for what rank 0
# says about an interruption.
COMMAND, INTERRUPTION = "NORMFIX_COMMAND", "NORMFIX_INTERRUPTION"
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
_MACHINE = {
    errno.ENOSPC: "the disk is full: free some space, or choose another --work-dir",
    errno.EDQUOT: "your quota is used up: free some space, or choose another --work-dir",
    errno.EFBIG: "larger files are not allowed here: see `ulimit -f`",
    errno.EROFS: "the file system is read-only: choose another folder, for example by --work-dir",
    errno.EACCES: "it is not yours to write or read: change its rights, or choose another",
    errno.EPERM: "it is not yours to write or read: change its rights, or choose another",
}
_PLACES = (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG)
_MACHINE |= dict.fromkeys(_PLACES, "choose another folder or file")
_MEMORY = "use a smaller batch_size or images, --amp, or with_cp=True in the backbone"


_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """Interrupted, with a message that says what was saved and how to go on."""


def run(main: Callable[[], object], name: str = "error") -> None:
    """Call ``main`` and end the process as said above.

    Args:
        name: what stands before the sentence.
    """
    with _signals():
        try:
            main()
        except BaseException as error:
            stopped = interrupted_by(error)
            text = str(error) if isinstance(error, Interrupted) else ""
            said = f"interrupted; {text or 'start the same command again'}" if stopped else None
            sentence = said or sentence_of(error)
            if sentence is None:
                raise
            line = printable(sentence).replace("\n", " ")
            if stopped:
                _interrupt(line)
            _refuse(f"{name}: {line}")


def _interrupt(line: str) -> None:
    """Of several processes, rank 0 or the one that has started them says it."""
    if rank() == 0 and INTERRUPTION in os.environ:
        Path(os.environ[INTERRUPTION]).write_text(line, encoding="utf-8")
    elif rank() == 0:
        print(line, file=sys.stderr, flush=True)
    sys.exit(INTERRUPTED)


def _refuse(line: str) -> None:
    """Under torchrun noted for its table, and said by rank 0 or ``tools/launch.py``."""
    note, number = os.environ.get(_NOTE), rank()
    if note:
        with contextlib.suppress(OSError), open(note, "w", encoding="utf-8") as file:
            json.dump(dict(message=line, timestamp=int(time.time()), normfix_mm=True), file)
    if note and (number or INTERRUPTION in os.environ):
        sys.exit(1)
    sys.exit(f"rank {number}: {line}" if number else line)


def interrupted_by(error: BaseException) -> bool:
    """Whether it ends a command that was told to stop.

    Another process that was told so as well, a worker or another rank, may be first to go, and its
    absence is what this one then meets.
    """
    return isinstance(error, KeyboardInterrupt) or (
        bool(_received) and isinstance(error, Exception)
    )


@contextlib.contextmanager
def going_on(how: str) -> Iterator[None]:
    """Around what a command does: an interruption says how to go on.

    Raises:
        Interrupted: In the place of KeyboardInterrupt, and of what a library has made of it.
    """
    try:
        yield
    except BaseException as error:
        if interrupted_by(error):
            raise Interrupted(how) from None
        raise


def sentence_of(error: BaseException) -> str | None:
    """What to say about an error instead of its traceback; None if it is a fault of the program."""
    text = str(error)
    if isinstance(error, BadInput) or _is_deliberate(error):
        return one_line(error, 2000)
    if isinstance(error, OSError) and error.errno in _MACHINE and misbuilt(error) is None:
        where = f"{error.filename!r}: " if error.filename else ""
        return f"{where}{error.strerror}; {_MACHINE[error.errno]}."
    if isinstance(error, RuntimeError) and "PytorchStreamWriter" in text:  # torch.save's way
        return f"A checkpoint could not be written whole; {_MACHINE[errno.ENOSPC]}."
    if type(error).__name__ == "OutOfMemoryError":
        return f"The memory of the GPU does not suffice ({one_line(error, 160)}); {_MEMORY}."
    if isinstance(error, MemoryError) or "can't allocate memory" in text:
        return f"The memory of this machine does not suffice; {_MEMORY}."
    if isinstance(error, RuntimeError) and "DataLoader worker" in text and "killed" in text:
        return (
            f"A process that loads images was killed ({one_line(error, 160)}), as happens when "
            "memory runs out: use fewer num_workers or a smaller batch_size."
        )
    return misbuilt(error)


def _is_deliberate(error: BaseException) -> bool:
    """Whether one of this package's own `raise` statements gave the error: its message is meant."""
    if not isinstance(error, (ValueError, TypeError, RuntimeError)):
        return False
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    module = trace.tb_frame.f_globals.get("__name__", "")
    line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
    return module.startswith("normfix_mm.") and line.lstrip().startswith("raise ")


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """A signal to stop interrupts the block, noted in `_received`; the next ends the process."""
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    owner = os.getpid()

    def stop(number: int, frame) -> None:
        if os.getpid() != owner:  # a process that loads images, made of this one
            os._exit(0)
        _received.append(number)
        for each in before:
            signal.signal(each, signal.SIG_DFL)
        raise KeyboardInterrupt

    def unhandled(kind: type, error: BaseException, trace: object) -> None:
        """A process that loads images may be handing one over when the reader is interrupted."""
        if os.getpid() == owner or not isinstance(error, (EOFError, ConnectionError)):
            shown(kind, error, trace)

    shown, sys.excepthook = sys.excepthook, unhandled
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        sys.excepthook = shown
        for number, handler in before.items():
            signal.signal(number, handler)


def typed() -> list[str]:
    """The command of this process, word by word as the user typed it."""
    if given := os.environ.get(COMMAND):
        return shlex.split(given)
    program, *arguments = sys.argv
    if os.path.basename(program) != "normfix":
        return ["python", *sys.argv]
    found = shutil.which("normfix")  # by that name alone, where the shell finds it, too
    return ["normfix" if found == program else program, *arguments]


def rank() -> int:
    """This process's number among those of a distributed run."""
    return next((int(os.environ[name]) for name in _RANKS if name in os.environ), 0)
