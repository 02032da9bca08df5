"""One step of `make setup`: a command with its output in a log, a sign of life, and a clean end."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from setup_checks import SetupError, cause_of

HEARTBEAT = 20  # seconds


def run_step(
    step: str, command: list[str], log: Path, root: Path, environ: Mapping[str, str]
) -> None:
    """Runs `command` in `root`; raises SetupError with the cause and the log's name if it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    scratch = log.parent / "tmp"  # pip leaves its build folders behind when it is interrupted
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    env = dict(
        environ, TMPDIR=str(scratch), PYTHONNOUSERSITE="1", PIP_DISABLE_PIP_VERSION_CHECK="1"
    )
    start = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while (code := _wait(process, HEARTBEAT)) is None:
                seconds = round(time.monotonic() - start)
                print(f"       {seconds // 60}:{seconds % 60:02d}{_progress(log)}", flush=True)
        except BaseException:
            _end(process)
            raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    if code:
        cause = cause_of(log.read_text(errors="replace"))
        raise SetupError(f"the step '{step}' failed: {cause} ({log.relative_to(root)}).")


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen) -> None:
    """Asks first: ninja's compilers are in process groups of their own, and only it ends them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        if _wait(process, 10) is not None:
            return


def _progress(log: Path) -> str:
    """', 43 of 108 files' where ninja is counting."""
    counts = re.findall(r"\[(\d+)/(\d+)\]", log.read_text(errors="replace"))
    return f", {counts[-1][0]} of {counts[-1][1]} files" if counts else ""
