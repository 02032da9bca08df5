"""Commands as processes of their own, several at a time: most of their seconds are imports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(*command: object, **variables: str) -> subprocess.Popen:
    """A Python process of this interpreter, both its streams in one pipe, in a group of its own."""
    return start_any(sys.executable, *command, **variables)


def start_any(*command: object, **variables: str) -> subprocess.Popen:
    """The same of any program; `python` is this interpreter."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | dict(PATH=path, PYTHONPATH=str(ROOT), CUDA_VISIBLE_DEVICES="")
    env |= dict(OMP_NUM_THREADS="1") | variables
    return subprocess.Popen(
        [*map(str, command)],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def ended(process: subprocess.Popen, timeout: float = 300) -> tuple[int, list[str]]:
    """Status and lines of what it said."""
    try:
        said, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, said.splitlines()


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until a process has written a file."""
    deadline = time.monotonic() + 240
    while not path.exists():
        assert process.poll() is None, "\n".join(ended(process)[1][-20:])
        assert time.monotonic() < deadline
        time.sleep(0.05)


def one_sentence(process: subprocess.Popen, status: int = 1) -> str:
    """The last line of a command that must end with it, and with this status."""
    code, lines = ended(process)
    said = "\n".join(lines)
    assert code == status, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    starts = ("error: ", "interrupted; ")
    assert [line for line in lines if line.startswith(starts)] == lines[-1:], said[-3000:]
    return lines[-1]
