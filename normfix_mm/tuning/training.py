"""One trial as a process: its config, its folder, its log, and how it ended.

A trial's folder holds `given/config.py`, all that it is trained with; `log.txt`, all that it said;
what mmengine leaves there; and at the end `result.json`. Started again with the same config, a
trial goes on from its last checkpoint, and one that has a result is not run at all.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.errors import BadInput
from normfix_mm.report.run import scalars
from normfix_mm.tuning import outcome
from normfix_mm.tuning.outcome import Outcome
from normfix_mm.tuning.search import Trial

LAUNCHER = ("--launcher", "pytorch")
GIVEN = "given/config.py"  # not where mmengine writes the config that it has read
GRACE = 10  # seconds that a training has to end by itself when it is stopped


def default_command(gpus: int | None) -> list[str]:
    """`tools/train.py`, by itself or under torchrun with so many processes."""
    here = Path(__file__).resolve().parents[1]
    places = here.parent / "tools", here / ".mim/tools"
    tools = next((folder for folder in places if (folder / "train.py").is_file()), None)
    if tools is None:
        raise BadInput(f"There is no {places[0]}/train.py to train with; give a --command.")
    train = str(tools / "train.py")
    if not gpus:
        return [sys.executable, train]
    torchrun = ["--standalone", f"--nproc_per_node={gpus}"]
    return [sys.executable, str(tools / "launch.py"), train, *torchrun, train, *LAUNCHER]


@dataclass
class Trainer:
    """Starts trials.

    Args:
        folder: of the trials' folders.
        build: makes the config of a trial.
        metric: what judges a run.
        maximize: whether more of it is better.
        command: trains a config: it is given the file, --work-dir DIR and, where that has a
            checkpoint, --resume. By default tools/train.py.
        gpus: processes of a trial under torchrun, each on a GPU if there are any; None for one
            process.
        threads: of each process.
        trusting: take a folder without our config for a run of this trial.
        data: a digest of the images and labels; a run on others is run again.
    """

    folder: Path
    build: Callable[[Trial], Config]
    metric: str
    maximize: bool = True
    command: Sequence[str] | None = None
    gpus: int | None = None
    threads: int = 1
    trusting: bool = False
    data: str = ""

    def start(self, trial: Trial, attempt: int = 1, place: int = 0) -> Training:
        """Begin a trial, or go on with it.

        Args:
            attempt: a second one takes over the folder of the first by renaming it, so that a
                process that was wrongly taken for dead writes into the void.
            place: which of the trials running here at a time it is, for the choice of GPUs.

        Raises:
            BadInput: the disk is full, or the command cannot be run.
        """
        folder = self._folder(trial, attempt)
        try:
            text = self.build(trial).pretty_text
            stamp = hashlib.sha256(f"{text}{self.data}".encode()).hexdigest()
            # Runs of before data were part of it have a stamp of the config alone.
            older = hashlib.sha256(text.encode()).hexdigest()
            self._prepare(folder, {stamp, older})
            if (done := self._result(folder, stamp)) is not None:
                return Training(self, folder, stamp, None, done)
            config = folder / GIVEN
            with replacing(config) as part:
                part.write_text(f"# {stamp}\n{text}")
            command = [*(self.command or default_command(self.gpus)), str(config)]
            command += ["--work-dir", str(folder)]
            if (folder / "last_checkpoint").exists():
                command.append("--resume")  # only then: other commands forget load_from for it
            with open(folder / "log.txt", "ab") as log:
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment(place),
                    start_new_session=True,  # Ctrl-C is ours to pass on
                    preexec_fn=_die_with_parent(signal.SIGTERM if self.gpus else signal.SIGKILL),
                )
        except OSError as error:
            raise BadInput(f"{trial.name} cannot be started: {error}.") from None
        return Training(self, folder, stamp, process)

    def _folder(self, trial: Trial, attempt: int) -> Path:
        name = trial.name if attempt == 1 else f"{trial.name}.try{attempt}"
        return self.folder / name

    def _prepare(self, folder: Path, stamps: set[str]) -> None:
        """Make the trial's folder; what an earlier attempt has left there is used if it is ours."""
        stem = folder.name.partition(".try")[0]
        earlier = [path for path in self.folder.glob(f"{stem}*") if _attempt_of(path, stem)]
        latest = max(earlier, key=lambda path: _attempt_of(path, stem), default=None)
        if latest is not None and latest != folder:
            folder.parent.mkdir(parents=True, exist_ok=True)
            latest.rename(folder)
        config = folder / GIVEN
        known = config.read_text().partition("\n")[0][2:] if config.exists() else None
        if folder.exists() and (known not in stamps if known else not self.trusting):
            old = next(p for i in range(1000) if not (p := Path(f"{folder}.old{i or ''}")).exists())
            folder.rename(old)
        folder.mkdir(parents=True, exist_ok=True)

    def _result(self, folder: Path, stamp: str) -> Outcome | None:
        try:
            told = json.loads((folder / "result.json").read_text())
            if not isinstance(told, dict):
                return None
            if "state" in told:
                return self._judged(Outcome(**told["outcome"])) if "outcome" in told else None
        except (OSError, ValueError, TypeError):  # none, or one of another version
            return None
        # As tools/compare.py wrote it before it used this room: metrics beside what was set.
        metrics = {k: v for k, v in told.items() if k not in ("method", "lr", "seed")}
        return Outcome("finished", outcome.value_of(metrics, self.metric, self.maximize), metrics)

    def _judged(self, there: Outcome) -> Outcome:
        """By this search's metric: another one may have left the run."""
        if there.state == "diverged":
            there.value = self.worst
        elif there.state == "finished":
            there.value = outcome.value_of(there.metrics, self.metric, self.maximize)
        return there

    @property
    def worst(self) -> float:
        return -math.inf if self.maximize else math.inf

    def _environment(self, place: int) -> dict[str, str]:
        env = dict(os.environ, OMP_NUM_THREADS=str(self.threads))
        for name in [name for name in env if name.startswith("NORMFIX_STORAGE")]:
            del env[name]  # it may hold a password
        devices = _devices()
        count = self.gpus or 1
        if devices:
            mine = [devices[(place * count + i) % len(devices)] for i in range(count)]
            env["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
        return env


@dataclass
class Training:
    """A trial that is running, or that had already ended.

    Attributes:
        folder: the trial's.
    """

    trainer: Trainer
    folder: Path
    stamp: str
    process: subprocess.Popen | None
    done: Outcome | None = None
    began: float = field(default_factory=time.monotonic)
    iterations: int = 0
    curve: dict[int, float] = field(default_factory=dict)

    def watch(self) -> bool:
        """Read what has been logged; stop a run that diverges. Returns whether one was stopped."""
        train, val = scalars(self.folder)
        self.iterations = max(train, default=0)
        metric = self.trainer.metric
        values = {at: outcome.found(outcome.metrics_of(entry), metric) for at, entry in val.items()}
        self.curve = {at: v for at, v in values.items() if v is not None and not math.isnan(v)}
        if self.process is not None and self.process.poll() is None and outcome.diverges(train):
            self.stop()
            self.done = self._outcome("diverged")
            self._write(self.done)
            return True
        return False

    def poll(self) -> Outcome | None:
        """How the trial has ended; None while it runs.

        Raises:
            BadInput: the metric is none of those that were reported, or the disk is full.
        """
        if self.done is not None:
            return self.done
        code = self.process.poll()
        if code is None:
            return None
        self.watch()
        self.done = self._ended(code)
        self._write(self.done)
        return self.done

    def stop(self) -> None:
        """End the process and all that it has started."""
        if self.process is None:
            return
        for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()

    def _ended(self, code: int) -> Outcome:
        _kill_group(self.process.pid)
        train, val = scalars(self.folder)
        if code == 0:
            if not val:
                return self._outcome("crashed", error="it ended without an evaluation")
            metrics = outcome.metrics_of(val[max(val)])
            value = outcome.value_of(metrics, self.trainer.metric, self.trainer.maximize)
            return self._outcome("finished", value=value, metrics=metrics)
        said = outcome.last_words(self.folder / "log.txt")
        if outcome.FULL.search(said):
            raise BadInput(f"{self.folder.name} found the disk full; free some space: {said}")
        if outcome.diverges(train) or outcome.DIVERGED.search(said):
            return self._outcome("diverged")
        how = f"signal {-code}" if code < 0 else f"status {code}"
        return self._outcome("crashed", error=f"{how}: {said}" if said else how)

    def _outcome(self, state: str, value=None, **told) -> Outcome:
        if state == "diverged":
            value = self.trainer.worst
        seconds = time.monotonic() - self.began
        return Outcome(state, value, iterations=self.iterations, seconds=seconds, **told)

    def _write(self, ended: Outcome) -> None:
        if ended.state not in ("finished", "diverged"):
            return
        try:
            with replacing(self.folder / "result.json") as part:
                part.write_text(json.dumps(dict(state=ended.state, outcome=asdict(ended))))
        except OSError as error:
            raise BadInput(
                f"The result of {self.folder.name} cannot be written: {error}."
            ) from None


def _attempt_of(path: Path, stem: str) -> int:
    found = re.fullmatch(rf"{re.escape(stem)}(?:\.try(\d+))?", path.name)
    return int(found[1] or 1) if found else 0


def _devices() -> list[str]:
    """The GPUs that trials may use."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [device for device in told.split(",") if device]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU")]


def _kill_group(group: int) -> None:
    """Kill what a process that has ended has left running in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _die_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Has a new process receive this signal when the one that started it is gone, on Linux."""
    if not sys.platform.startswith("linux"):
        return None
    call, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        call(1, int(number))  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask
