"""What `make setup` decides before and after each step: pure functions, standard library only.

Everything here either returns a decision or raises SetupError, whose text is one sentence of cause
and remedy. tools/setup_env.py carries the decisions out.
"""

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from importlib.util import find_spec
from pathlib import Path

OLDEST, NEWEST = (3, 10), (3, 13)  # the pinned wheels exist for these
FREE_GIB = 9  # PyTorch with CUDA and its libraries, unpacked beside pip's cache
GIB_PER_JOB = 1.5  # what one compiler process of mmcv takes at its peak


class SetupError(Exception):
    """One sentence: what is wrong and what to do."""


def check_python(version: tuple[int, ...]) -> None:
    """Raises SetupError for an interpreter that the pinned packages do not support."""
    found = tuple(version[:2])
    if OLDEST <= found <= NEWEST:
        return
    age = "old" if found < OLDEST else "new"
    raise SetupError(
        f"Python {found[0]}.{found[1]} is too {age}: choose one from {OLDEST[0]}.{OLDEST[1]} to "
        f"{NEWEST[0]}.{NEWEST[1]}, for example `make setup PYTHON=python3.11`."
    )


def check_venv(has_module=find_spec) -> None:
    """Raises SetupError where Debian has split venv's parts off into a package of their own."""
    missing = [name for name in ("venv", "ensurepip") if not has_module(name)]
    if missing:
        raise SetupError(
            f"this Python lacks {' and '.join(missing)}, so it cannot make an environment: "
            "install them (Debian, Ubuntu: apt-get install python3-venv)."
        )


def check_disk(free_bytes: int, folder: Path) -> None:
    """Raises SetupError if the environment cannot fit."""
    free = free_bytes / 2**30
    if free < FREE_GIB:
        raise SetupError(
            f"only {free:.1f} GiB are free at {folder} and the environment needs {FREE_GIB}: "
            "free some space or clone the project to a larger disk."
        )


def check_compiler(environ=os.environ, include: str | None = None) -> str:
    """Compiles three lines against Python's headers; returns the compiler, or raises SetupError."""
    command = shlex.split(environ.get("CXX") or sysconfig.get_config_var("CXX") or "c++")
    if not shutil.which(command[0], path=environ.get("PATH")):
        raise SetupError(
            f"the C++ compiler {command[0]} is not installed and mmcv's operators must be "
            "compiled: install one (Debian, Ubuntu: apt-get install g++) or name it in CXX."
        )
    include = include or sysconfig.get_path("include")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text("#include <Python.h>\n#include <optional>\nstd::optional<int> probe;\n")
        flags = ["-std=c++17", "-fsyntax-only", f"-I{include}"]
        result = subprocess.run([*command, *flags, str(source)], capture_output=True, text=True)
    if result.returncode == 0:
        return command[0]
    if "Python.h" in result.stderr:
        raise SetupError(
            "Python's header files are missing and mmcv's operators are compiled against them: "
            "install them (Debian, Ubuntu: apt-get install python3-dev)."
        )
    raise SetupError(
        f"the C++ compiler {command[0]} cannot compile C++17: install GCC 9 or newer, or name "
        "another compiler in CXX."
    )


def nvcc_version(printed: str) -> str | None:
    """'12.4' from what `nvcc --version` prints; None if that is no compiler's answer."""
    found = re.search(r"release (\d+\.\d+)", printed)
    return found[1] if found else None


def operator_build(gpu: bool, nvcc: str | None, torch_cuda: str | None) -> tuple[str, str | None]:
    """Whether mmcv's operators are compiled for 'cuda' or 'cpu', and what to tell the user.

    Args:
        gpu: torch sees a GPU (mmcv's own setup then demands nvcc, whatever is installed).
        nvcc: version of the CUDA compiler, or None.
        torch_cuda: version of CUDA that torch was built with, or None.
    """
    if not gpu:
        return "cpu", None
    if nvcc and torch_cuda and nvcc.split(".")[0] == torch_cuda.split(".")[0]:
        return "cuda", None
    cause = f"nvcc is of CUDA {nvcc}" if nvcc else "there is no nvcc"
    return "cpu", (
        f"A GPU is visible, but {cause} and torch needs {torch_cuda}: mmcv's operators are "
        "compiled for the CPU only, so train with CUDA_VISIBLE_DEVICES= (empty), or install the "
        f"CUDA {torch_cuda} toolkit, set CUDA_HOME and run `make distclean setup`."
    )


def cuda_architectures(printed: str) -> str | None:
    """'8.0;9.0' from what `nvidia-smi --query-gpu=compute_cap --format=csv,noheader` prints.

    None if that names no card: torch then takes those that it sees.
    """
    found = sorted(set(re.findall(r"^(\d+\.\d)$", printed, re.MULTILINE)), key=float)
    return ";".join(found) or None


def compile_jobs(cores: int, free_bytes: int) -> int:
    """All cores, or as many as memory allows."""
    return max(1, min(cores, int(free_bytes / 2**30 / GIB_PER_JOB)))


_CAUSES = (
    ("No space left on device", "the disk is full: free some space"),
    (r"[Kk]illed|out of memory|MemoryError", "memory ran out: close programs or set MAX_JOBS=1"),
    (
        r"name resolution|NewConnectionError|ConnectTimeout|Read timed out|ReadTimeout|SSLError|"
        r"ProxyError|Connection refused|Network is unreachable",
        "the package index cannot be reached: check the network and pip's proxy settings",
    ),
    (
        r"No matching distribution|Could not find a version",
        "a pinned package does not exist for this Python and platform: try PYTHON=python3.11 on "
        "Linux x86-64",
    ),
    (
        r"ninja: build stopped|command '?\S*(g\+\+|c\+\+|clang)\S*'? failed|CompileError",
        "the compiler failed: the log's first line with 'error:' says where",
    ),
)


def cause_of(log: str) -> str:
    """The cause and remedy that a failed step's log shows."""
    for pattern, sentence in _CAUSES:
        if re.search(pattern, log):
            return sentence
    return "the log's last lines say why"


def requirements(pins: str, extra_pins: str | None = None) -> list[str]:
    """The lines to install: one stack's packages out of the default environment's.

    Args:
        pins: text of constraints.txt.
        extra_pins: for another stack, text of its pins; they take the OneDL distributions' place.
    """
    lines = [line.strip() for line in pins.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if extra_pins is None:
        return lines
    return [line for line in lines if not line.startswith("onedl-")] + requirements(extra_pins)


def pinned(lines: list[str], name: str) -> str:
    """The line 'name==version' of a package that is pinned once."""
    (line,) = [line for line in lines if line.startswith(f"{name}==")]
    return line
