"""Train a small detector with FixNorm on generated data and leave a page about it.

    python tools/demo.py               FixNorm
    python tools/demo.py --baseline    beside the same model with ordinary decay: ``make demo``
    python tools/demo.py --segment     a segmenter instead: ``make demo-seg``

Two models are trained at the same time, each by half of the cores. Writes ``data/digits`` and
``work_dirs/demo/{index.html, fixnorm, baseline}``, or ``work_dirs/demo-seg``. Interrupted, it goes
on from the last checkpoint when called again, to the same result; finished, it only makes the page
anew.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from normfix import settle

if __name__ == "__main__":
    settle()

ROOT = Path(__file__).resolve().parents[1]
NAMES = dict(fixnorm="FixNorm", baseline="ordinary decay")
TRAIN_LINE = re.compile(
    r"\(train\)\s+((?:\[\d+\])?\[ *\d+/\d+\]).*?lr: (\S+).*?eta: (\S+ ?\S*)  "
    r"time: (\S+).*? loss: (\S+)"
)


class Task(NamedTuple):
    """What is trained: the two configs of `config`, fixnorm and baseline, in `out`."""

    config: str  # in configs/demo
    title: str
    out: str
    commands: tuple[str, str]  # that make the page, of FixNorm alone and of both
    scores: tuple[str, ...]
    val_line: re.Pattern
    length: tuple[str, ...]  # settings that `--length` changes
    evaluator: str = ""  # a setting that names the data, beside the dataloaders'


DETECT = Task(
    config="retinanet_r18_fpn_{}_1xb4-6e_digits.py",
    title="RetinaNet-R18 on handwritten digits, trained with FixNorm",
    out="work_dirs/demo",
    commands=("python tools/demo.py", "make demo"),
    scores=("AP", "AP50"),
    val_line=re.compile(r"Epoch\(val\)\s+(\[\d+\]).*?bbox_mAP: (\S+).*?bbox_mAP_50: (\S+)"),
    length=("train_cfg.max_epochs", "param_scheduler.1.end", "param_scheduler.1.T_max"),
    evaluator="ann_file={}annotations/instances_val.json",
)
SEGMENT = Task(
    config="ocnet_r18-d8_{}_1xb8-1k_digits.py",
    title="OCNet-R18 on handwritten digits, trained with FixNorm",
    out="work_dirs/demo-seg",
    commands=("make demo-seg", "make demo-seg DEMO_ARGS=--baseline"),
    scores=("mIoU",),
    val_line=re.compile(r"Iter\(val\) (\[\d+/\d+\]) .*?mIoU: (\S+)"),
    length=("train_cfg.max_iters", "param_scheduler.1.end"),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="See the head of this file for what it writes."
    )
    parser.add_argument("--segment", action="store_true", help="a segmenter instead of a detector")
    parser.add_argument(
        "--baseline", action="store_true", help="train the same model with ordinary decay beside it"
    )
    parser.add_argument("--fresh", action="store_true", help="train anew what is trained already")
    parser.add_argument("--out", help="folder of the runs and the page; work_dirs/demo or demo-seg")
    parser.add_argument("--data", default="data/digits", help="folder of the generated data")
    parser.add_argument("--pictures", type=int, default=640, help="number of training pictures")
    parser.add_argument(
        "--length",
        type=int,
        help="train so many epochs (detector) or iterations (segmenter), to try things out",
    )
    args = parser.parse_args()
    task = SEGMENT if args.segment else DETECT
    from normfix_mm.run import ending

    def told() -> None:
        try:
            demo(task, args)
        except (ImportError, OSError, ValueError) as error:
            sys.exit(f"demo: {error}")
        except KeyboardInterrupt:
            raise ending.Interrupted(left(Path(args.out or task.out))) from None

    ending.run(told, "demo")


def left(out: Path) -> str:
    """What an interruption has left of the runs, for who calls the same command again."""
    from normfix_mm.run.resuming import latest_complete

    runs = [out / kind for kind in NAMES if (out / kind / "demo_stamp").exists()]
    open_runs = [folder for folder in runs if not (folder / "demo_done").exists()]
    saved = [latest for folder in open_runs if (latest := latest_complete(str(folder)))]
    if saved:
        return f"start the same command again: it goes on from {saved[-1]}."
    if open_runs:
        return (
            "no checkpoint was written yet: start the same command again, it begins this training "
            "anew."
        )
    return "start the same command again: what is trained stays trained."


def demo(task: Task, args: argparse.Namespace) -> None:
    from normfix_mm.datasets.digits import make_digits
    from normfix_mm.report import page
    from normfix_mm.report.run import NoRun, Run
    from normfix_mm.run.console import without_noise

    if args.length is not None and args.length < 1:
        raise ValueError(f"Invalid --length {args.length}; it must be at least 1")
    started = time.monotonic()
    data = make_digits(args.data, train=args.pictures, val=max(1, args.pictures // 5))
    print(f"data: {data}")
    out = Path(args.out or task.out)
    kinds = ("fixnorm", "baseline") if args.baseline else ("fixnorm",)
    train(task, [kind for kind in kinds if prepare(task, kind, out / kind, args)], out, args)
    runs = []
    for kind, name in NAMES.items():
        try:
            runs.append(Run.load(out / kind, name))
        except NoRun:
            if kind == "fixnorm":
                raise
    print("page: drawing pictures and curves", flush=True)
    command = task.commands[len(runs) > 1]
    with without_noise():
        page.write(out / "index.html", page.build(runs, task.title, command))
    for run in runs:
        results = run.results()
        scores = ", ".join(f"{key} {results[key]:.3f}" for key in task.scores if key in results)
        print(f"{run.name}: {scores or 'nothing that could be evaluated'}")
    print(f"{out / 'index.html'} ({time.monotonic() - started:.0f} s in all)")


def prepare(task: Task, kind: str, work_dir: Path, args: argparse.Namespace) -> bool:
    """See to the folder of a run; whether there is anything to train."""
    from mmengine.config import Config

    cfg = Config.fromfile(str(config_of(task, kind)), import_custom_modules=False)
    cfg.merge_from_dict(dict(option.split("=", 1) for option in options_of(task, args)))
    # What the run depends on: a work dir of other settings is no run to go on with.
    stamp = hashlib.sha256(
        (cfg.pretty_text + (Path(args.data) / "digits.json").read_text()).encode()
    ).hexdigest()
    mark = work_dir / "demo_stamp"
    if work_dir.exists() and (args.fresh or not mark.is_file() or mark.read_text() != stamp):
        shutil.rmtree(work_dir)
    work_dir.mkdir(parents=True, exist_ok=True)
    mark.write_text(stamp)
    if (work_dir / "demo_done").exists():
        print(f"{NAMES[kind]}: trained already ({work_dir}); --fresh trains anew")
        return False
    print(f"{NAMES[kind]}: training, log in {work_dir}", flush=True)
    return True


def train(task: Task, kinds: list[str], out: Path, args: argparse.Namespace) -> None:
    """Train these to their end at the same time, from the last checkpoint where interrupted.

    Raises:
        ChildProcessError: if a training fails, with the end of what it said.
    """
    started = time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, (cores or 1) // max(1, len(kinds))))
    said: dict[str, deque[str]] = {kind: deque(maxlen=25) for kind in kinds}
    with contextlib.ExitStack() as stack:
        processes = {
            kind: stack.enter_context(started_run(task, kind, out / kind, threads, args))
            for kind in kinds
        }
        try:
            for kind, line in lines_of(processes):
                if line is not None:
                    said[kind].append(line)
                    show(task, line, NAMES[kind] if len(kinds) > 1 else "")
                elif processes[kind].wait():
                    end = "".join(said[kind])
                    raise ChildProcessError(f"training failed ({out / kind}); it ended with\n{end}")
                else:
                    (out / kind / "demo_done").touch()
                    seconds = time.monotonic() - started
                    print(f"{NAMES[kind]}: trained in {seconds:.0f} s", flush=True)
        except BaseException:
            for process in processes.values():
                process.terminate()  # the signal may have come to this process alone
            raise


def started_run(
    task: Task, kind: str, work_dir: Path, threads: str, args: argparse.Namespace
) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "tools/train.py"), str(config_of(task, kind))]
    command += ["--work-dir", str(work_dir), "--resume"]
    command += ["--cfg-options", *options_of(task, args)]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | dict(OMP_NUM_THREADS=threads),
    )


def lines_of(processes: dict[str, subprocess.Popen]) -> Iterator[tuple[str, str | None]]:
    """What the processes say, line by line as it comes; None when one has said its last."""
    lines: queue.SimpleQueue[tuple[str, str | None]] = queue.SimpleQueue()

    def read(kind: str, process: subprocess.Popen) -> None:
        with contextlib.suppress(ValueError):  # interrupted, and closed while it is read
            for line in process.stdout:
                lines.put((kind, line))
        lines.put((kind, None))

    for each in processes.items():
        threading.Thread(target=read, args=each, daemon=True).start()
    speaking = len(processes)
    while speaking:
        kind, line = lines.get()
        speaking -= line is None
        yield kind, line


def config_of(task: Task, kind: str) -> Path:
    return ROOT / "configs/demo" / task.config.format(kind)


def options_of(task: Task, args: argparse.Namespace) -> list[str]:
    """Settings of the config that this call changes, as ``KEY=VALUE``."""
    data = Path(args.data).as_posix().rstrip("/") + "/"
    parts = ("train", "val", "test")
    options = [f"{part}_dataloader.dataset.data_root={data}" for part in parts]
    if task.evaluator:
        options += [f"{part}_evaluator.{task.evaluator.format(data)}" for part in parts[1:]]
    if args.length is not None:
        options += [f"{setting}={args.length}" for setting in task.length]
        options.append(f"default_hooks.logger.interval={min(10, args.length)}")  # at least once
    return options


def show(task: Task, line: str, name: str = "") -> None:
    """One short line for what mmengine logs of training and evaluation; nothing for the rest."""
    name = f"{name:<{max(map(len, NAMES.values()))}}  " if name else ""
    if match := TRAIN_LINE.search(line):
        where, rate, eta, seconds, loss = match.groups()
        print(
            f"  {name}{where}  loss {loss}  lr {rate}  {float(seconds):.2f} s/iteration  "
            f"{eta.strip()} to go",
            flush=True,
        )
    elif match := task.val_line.search(line):
        where, *values = match.groups()
        scores = (f"{name} {value}" for name, value in zip(task.scores, values))
        print("  ".join([f"  {name}{where}", *scores]), flush=True)


if __name__ == "__main__":
    main()
