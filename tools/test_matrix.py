"""`make test-matrix`: the tests of pure torch on the oldest torch supported and on the newest.

    python3 tools/test_matrix.py [--torch 2.1 newest] [--pytest-args=-x]

Each torch gets an environment of its own in .setup/matrix, without OpenMMLab, into which the
project is installed as a user does it: a range in pyproject.toml that would replace their torch
fails here. Standard library only. Ends with status 1 if any torch fails its tests, or none ran.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import setup_checks as checks
from setup_checks import SetupError
from setup_run import run_step

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".setup" / "matrix"
DEFAULT = ("2.1", "newest")
ROOMS = ("kernels", "layers", "optim", "analysis", "test_plain_pytorch.py")
NEEDED = ("pytest", "pytest-xdist", "scikit-learn")  # the latter for its digits
# From this torch on, the last Python that it has wheels for, of those that we support.
LAST_PYTHON = {(2, 1): (3, 11), (2, 2): (3, 12), (2, 5): (3, 13)}
NUMPY_2 = (2, 3)  # the first torch that was compiled for it


@dataclass(frozen=True)
class Entry:
    """One torch, as it was asked for, and what pip is to install; or why not."""

    name: str
    requirements: tuple[str, ...] = ()
    left_out: str = ""


def entry(name: str, python: tuple[int, int]) -> Entry:
    """What to install for a version ('2.1', '2.4.1') or 'newest'.

    Raises:
        SetupError: for anything else.
    """
    if name == "newest":
        return Entry(name, ("torch<3", "numpy"))
    if not re.fullmatch(r"2\.\d+(\.\d+)?", name):
        raise SetupError(f"no version of torch: {name!r}; give one as 2.1 or 2.4.1, or newest.")
    version = tuple(int(part) for part in name.split(".")[:2])
    known = [torch for torch in LAST_PYTHON if torch <= version]
    if not known:
        raise SetupError(f"torch {name} is not supported: give one from 2.1 on.")
    last = LAST_PYTHON[max(known)]
    if python > last:
        return Entry(
            name,
            left_out=f"it has no wheels for Python {python[0]}.{python[1]}: run again with "
            f"PYTHON=python{last[0]}.{last[1]}",
        )
    return Entry(name, (f"torch=={name}.*", "numpy<2" if version < NUMPY_2 else "numpy"))


def environment(wanted: Entry) -> Path:
    """The Python of an environment that holds what is wanted; pip mends one that is half-made."""
    name = f"torch-{wanted.name}-py{sys.version_info[0]}.{sys.version_info[1]}"
    folder, python = WORK / name, WORK / name / "bin" / "python"

    def step(what: str, *command: str) -> None:
        run_step(what, list(command), WORK / "logs" / f"{name}-{what}.log", ROOT, os.environ)

    first = "" if folder.exists() else ", a download of up to 3 GB"
    print(f"test-matrix: an environment with torch {wanted.name}{first} ...", flush=True)
    if not (folder / "bin" / "pip").exists():
        checks.check_disk(shutil.disk_usage(ROOT).free, ROOT)
        step("venv", sys.executable, "-m", "venv", "--clear", str(folder))
    upgrade = ["--upgrade"] if wanted.name == "newest" else []
    packages = (*wanted.requirements, *NEEDED)
    step("pip", str(python), "-m", "pip", "install", *upgrade, "-e", ".", *packages)
    return python


def passes(python: Path, arguments: list[str]) -> tuple[str, bool]:
    """The version of torch there, and whether the tests pass on it."""
    ask = [str(python), "-c", "import torch; print(torch.__version__)"]
    version = subprocess.check_output(ask, text=True, cwd=ROOT).strip()
    print(f"test-matrix: the tests of pure torch on torch {version}", flush=True)
    tests = [f"tests/{room}" for room in ROOMS]
    environ = dict(os.environ, OMP_NUM_THREADS="1", PYTHONNOUSERSITE="1")
    command = [str(python), "-m", "pytest", *tests, *arguments]
    return version, subprocess.run(command, cwd=ROOT, env=environ).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", nargs="+", default=DEFAULT, help="versions, or newest")
    parser.add_argument("--pytest-args", default="", help="for pytest, in one word")
    args = parser.parse_args()
    said, ran, failed = [], 0, 0
    try:
        checks.check_python(sys.version_info)
        checks.check_venv()
        for wanted in [entry(name, sys.version_info[:2]) for name in args.torch]:
            if wanted.left_out:
                said.append(f"torch {wanted.name} left out: {wanted.left_out}")
                continue
            version, good = passes(environment(wanted), shlex.split(args.pytest_args))
            ran, failed = ran + 1, failed + (not good)
            said.append(f"torch {version}: {'passed' if good else 'FAILED'}")
    except SetupError as error:
        print(f"test-matrix: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("test-matrix: interrupted; a later run goes on.", file=sys.stderr)
        return 130
    for line in said:
        print(f"test-matrix: {line}")
    if not ran:
        print("test-matrix: nothing was tested.", file=sys.stderr)
    return int(failed > 0 or not ran)


if __name__ == "__main__":
    sys.exit(main())
