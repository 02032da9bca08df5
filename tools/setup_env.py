"""`make setup`: a project-local environment with exact versions, made once.

Standard library only; any Python >= 3.10 runs it. The environment is either complete or absent: a
failed or interrupted run removes it (downloads and the compiled operators are kept and reused), and
a note inside says for which pins it was completed. An environment that somebody made by hand is
never touched.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import setup_checks as checks
from setup_checks import SetupError
from setup_run import run_step

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / ".setup"  # logs and compiled operators
NOTE = "normfix-setup.json"
STACKS = {  # environment, mmcv's distribution, pins beside constraints.txt
    "onedl": (".venv", "onedl-mmcv", None),
    "openmmlab": (".venv-openmmlab", "mmcv", "constraints-openmmlab.txt"),
}
CARDS = ("--query-gpu=compute_cap", "--format=csv,noheader")
PROBE = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
print(json.dumps([torch.__version__, torch.cuda.is_available(), torch.version.cuda, CUDA_HOME]))
"""


class Environment:
    """One stack's environment: what it should hold, and the steps that make it so."""

    def __init__(self, stack: str, root: Path = ROOT, work: Path = WORK) -> None:
        folder, self.mmcv, extra = STACKS[stack]
        self.stack, self.root, self.work = stack, root, work
        self.path = root / folder
        self.python = self.path / "bin" / "python"
        tools = root / "tools"
        self.lines = checks.requirements(
            (tools / "constraints.txt").read_text(), extra and (tools / extra).read_text()
        )
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        self.keys = {
            "environment": _digest(version, *self.lines),
            "project": _digest((root / "pyproject.toml").read_text(), str(root)),
        }

    # -- the note: what has been completed ------------------------------------------------------

    def note(self) -> dict | None:
        """What was completed here, {} if nothing was, None if the environment is not ours."""
        try:
            return json.loads((self.path / NOTE).read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            return {}

    def write_note(self, **done: str) -> None:
        fresh = self.path / f"{NOTE}.new"
        fresh.write_text(json.dumps(done))
        fresh.replace(self.path / NOTE)

    # -- the whole ------------------------------------------------------------------------------

    def ensure(self) -> None:
        """Makes the environment complete; does nothing if it is."""
        note = self.note()
        if note == self.keys:
            return
        if note is None and self.path.exists():
            raise SetupError(
                f"{self.path.name} was not made by `make setup` and is left alone: move it away "
                "and run again."
            )
        if not note or note.get("environment") != self.keys["environment"]:
            self.make()
        self.write_note(environment=self.keys["environment"])
        self.say("this project, editable")
        self.pip("project", "install", "--no-deps", "--no-build-isolation", "-e", ".")
        self.write_note(**self.keys)
        print(f"setup: {self.path.name} is ready: source {self.path.name}/bin/activate", flush=True)

    def make(self) -> None:
        """A new environment; on any failure none."""
        checks.check_disk(shutil.disk_usage(self.root).free, self.root)
        self.discard()
        self.path.mkdir()
        self.write_note()  # first, so that what an interruption leaves is known to be ours
        try:
            self.fill()
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Gone at once, then deleted: a half-deleted folder without its note would not be ours."""
        rubbish = self.work / "discarded"
        shutil.rmtree(rubbish, ignore_errors=True)
        if self.path.exists():
            rubbish.parent.mkdir(parents=True, exist_ok=True)
            self.path.rename(rubbish)
            shutil.rmtree(rubbish, ignore_errors=True)

    def fill(self) -> None:
        self.say(f"environment {self.path.name}")
        self.run("venv", [sys.executable, "-m", "venv", str(self.path)])
        tools = ("pip", "setuptools", "wheel", "ninja", "packaging", "psutil", "hatchling")
        self.pip("build-tools", "install", *(checks.pinned(self.lines, name) for name in tools))
        wheel = self.given_wheel()
        if wheel is None:
            checks.check_compiler()  # now, not after gigabytes of downloads
        self.say(
            "PyTorch, a download of 0.2 GB (CPU only) to 3 GB (the index's default, with CUDA)"
        )
        self.pip("torch", "install", checks.pinned(self.lines, "torch"), "-c", self.quoted("torch"))
        self.say("about 100 pinned packages, one or two minutes")
        rest = self.quoted(self.mmcv)
        self.pip("packages", "install", "--no-deps", "--no-build-isolation", "-r", rest)
        self.match_torchvision()
        if wheel is not None:
            self.say(f"mmcv's operators from {wheel.name}")
            self.pip("mmcv", "install", "--no-deps", str(wheel))
            if self.loads("mmcv.ops"):
                return
            print("setup: that wheel does not load with this torch.", flush=True)
            checks.check_compiler()
        self.pip("mmcv", "install", "--no-deps", "--force-reinstall", str(self.compiled_wheel()))
        if not self.loads("mmcv.ops"):
            raise SetupError(
                "mmcv's operators were installed but do not load: see "
                f"{self.log('load').relative_to(self.root)}, then `make distclean setup`."
            )

    def match_torchvision(self) -> None:
        """Replaces a build of torch that torchvision does not load beside, by the index's own.

        A folder or an index may have torch for the CPU and no torchvision for it; pip prefers that
        one, as 2.13.0+cpu counts as newer than 2.13.0. PyPI's torchvision belongs to PyPI's torch,
        and mmpretrain imports it.
        """
        if self.loads("torchvision"):
            return
        torch, vision = (checks.pinned(self.lines, name) for name in ("torch", "torchvision"))
        self.say("downloading the build of PyTorch that torchvision goes with, up to 3 GB")
        exactly = torch.replace("==", "===")  # to the letter: without +cpu
        self.pip("torch", "install", exactly, "-c", self.quoted("torch"))
        if not self.loads("torchvision"):
            raise SetupError(
                f"{vision} does not load beside {torch}: give pip both from one index "
                "(PIP_INDEX_URL, PIP_FIND_LINKS) and run again."
            )

    # -- mmcv's operators -----------------------------------------------------------------------

    def given_wheel(self) -> Path | None:
        """A wheel of the pinned mmcv out of PIP_FIND_LINKS, or None."""
        folder = self.work / "given"
        shutil.rmtree(folder, ignore_errors=True)
        pin = checks.pinned(self.lines, self.mmcv)
        command = ["wheel", "--no-index", "--no-deps", "--only-binary=:all:", "-w", str(folder)]
        try:
            self.pip("given-wheel", *command, pin)
        except SetupError:  # none was given
            return None
        return next(folder.glob("*.whl"))

    def compiled_wheel(self) -> Path:
        """Compiles mmcv, or returns the wheel of an earlier run with the same Python and torch."""
        probe = subprocess.check_output([self.python, "-c", PROBE], text=True)
        torch, gpu, cuda, home = json.loads(probe.splitlines()[-1])
        nvcc = Path(home, "bin", "nvcc") if home else None
        printed = _printed(str(nvcc), "--version") if nvcc and nvcc.exists() else ""
        kind, sentence = checks.operator_build(gpu, checks.nvcc_version(printed), cuda)
        if sentence:
            print(f"setup: {sentence}", flush=True)

        pin = checks.pinned(self.lines, self.mmcv)
        tag = f"{pin}-cp{sys.version_info[0]}{sys.version_info[1]}-torch{torch}-{kind}"
        kept = self.work / "wheels" / tag
        if not kept.exists():
            environ = dict(os.environ, MMCV_WITH_OPS="1")
            environ.setdefault("CFLAGS", "-g0 -O1")  # half the time, a fortieth of the size
            environ.setdefault("CXXFLAGS", "-g0 -O1")
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
            environ.setdefault("MAX_JOBS", str(checks.compile_jobs(cores, free)))
            if kind == "cuda":
                environ["FORCE_CUDA"] = "1"
                cards = checks.cuda_architectures(_printed("nvidia-smi", *CARDS))
                if cards:  # all of the machine's, also those hidden by CUDA_VISIBLE_DEVICES
                    environ.setdefault("TORCH_CUDA_ARCH_LIST", cards)
            else:  # mmcv's setup asks for nvcc as soon as torch sees a GPU
                environ.pop("FORCE_CUDA", None)
                environ["CUDA_VISIBLE_DEVICES"] = ""
            jobs = int(environ["MAX_JOBS"])
            about = (
                "30 minutes or more" if kind == "cuda" else f"{max(2, round(13 / jobs))} minutes"
            )
            self.say(
                f"compiling mmcv's operators for {kind.upper()}, once: {jobs} compilers at a time, "
                f"about {about}"
            )
            fresh = kept.with_name(f"{tag}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            command = ["wheel", "-v", "--no-deps", "--no-build-isolation", "--no-cache-dir"]
            command += [f"--no-binary={self.mmcv}", "-w", str(fresh), pin]
            self.pip("compile", *command, env=environ)
            fresh.replace(kept)
        return next(kept.glob("*.whl"))

    def loads(self, module: str) -> bool:
        try:
            self.run("load", [str(self.python), "-c", f"import {module}"])
        except SetupError:
            return False
        return True

    # -- running things -------------------------------------------------------------------------

    def say(self, text: str) -> None:
        print(f"setup: {text} ...", flush=True)

    def log(self, step: str) -> Path:
        return self.work / "logs" / f"{self.stack}-{step}.log"

    def quoted(self, without: str) -> str:
        """A requirements file with every pin but one."""
        path = self.work / f"{self.stack}-without-{without}.txt"
        path.write_text("\n".join(x for x in self.lines if not x.startswith(f"{without}==")))
        return str(path)

    def pip(self, step: str, *arguments: str, env: dict | None = None) -> None:
        self.run(step, [str(self.python), "-m", "pip", *arguments], env)

    def run(self, step: str, command: list[str], env: dict | None = None) -> None:
        run_step(step, command, self.log(step), self.root, env or os.environ)


def _printed(*command: str) -> str:
    """What a program prints, '' if there is none."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True).stdout


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _interrupt(*_: object) -> None:
    """Once; a second signal must not stop the clearing away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stack", choices=STACKS, default="onedl")
    stack = parser.parse_args().stack
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        checks.check_python(sys.version_info)
        checks.check_venv()
        WORK.mkdir(exist_ok=True)
        with open(WORK / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two makes at once take turns
            Environment(stack).ensure()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("setup: interrupted; nothing half-made is left.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
