"""``make demo``: train a small detector with FixNorm on generated data and leave a page about it.

    python tools/demo.py               FixNorm
    python tools/demo.py --baseline    and the same model with ordinary weight decay
    python tools/demo.py --segment     the same for a segmenter: ``make demo-seg``

Writes ``data/digits`` and ``work_dirs/demo/{index.html, fixnorm, baseline}``, or
``work_dirs/demo-seg``. Interrupted, it goes on from the last checkpoint when called again, to the
same result; finished, it only makes the page anew.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections import deque
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
    config="retinanet_r18_fpn_{}_1xb4-8e_digits.py",
    title="RetinaNet-R18 on handwritten digits, trained with FixNorm",
    out="work_dirs/demo",
    commands=("make demo", "make demo-baseline"),
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
        "--baseline", action="store_true", help="train the same model with ordinary decay, too"
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
        return f"the same command goes on from {saved[-1]}."
    if open_runs:
        return "no checkpoint was written yet: the same command starts this training anew."
    return "the same command goes on; what is trained stays trained."


def demo(task: Task, args: argparse.Namespace) -> None:
    from normfix_mm.datasets.digits import make_digits
    from normfix_mm.report import page
    from normfix_mm.report.run import NoRun, Run

    if args.length is not None and args.length < 1:
        raise ValueError(f"Invalid --length {args.length}; it must be at least 1")
    started = time.monotonic()
    data = make_digits(args.data, train=args.pictures, val=max(1, args.pictures // 5))
    print(f"data: {data}")
    out = Path(args.out or task.out)
    for kind in ("fixnorm", "baseline") if args.baseline else ("fixnorm",):
        train(task, kind, out / kind, args)
    runs = []
    for kind, name in NAMES.items():
        try:
            runs.append(Run.load(out / kind, name))
        except NoRun:
            if kind == "fixnorm":
                raise
    print("page: drawing pictures and curves", flush=True)
    command = task.commands[len(runs) > 1]
    page.write(out / "index.html", page.build(runs, task.title, command))
    for run in runs:
        results = run.results()
        scores = ", ".join(f"{key} {results[key]:.3f}" for key in task.scores if key in results)
        print(f"{run.name}: {scores or 'nothing that could be evaluated'}")
    print(f"{out / 'index.html'} ({time.monotonic() - started:.0f} s in all)")


def train(task: Task, kind: str, work_dir: Path, args: argparse.Namespace) -> None:
    """Train one config to its end, from the last checkpoint if it was interrupted.

    Raises:
        ChildProcessError: if training fails, with the end of what it said.
    """
    from mmengine.config import Config

    config = ROOT / "configs/demo" / task.config.format(kind)
    options = options_of(task, args)
    cfg = Config.fromfile(str(config), import_custom_modules=False)
    cfg.merge_from_dict(dict(option.split("=", 1) for option in options))
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
        return

    print(f"{NAMES[kind]}: training, log in {work_dir}", flush=True)
    started = time.monotonic()
    command = [
        sys.executable,
        str(ROOT / "tools/train.py"),
        str(config),
        "--work-dir",
        str(work_dir),
        "--resume",
        "--cfg-options",
        *options,
    ]
    said: deque[str] = deque(maxlen=25)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        try:
            for line in process.stdout:
                said.append(line)
                show(task, line)
        except KeyboardInterrupt:
            process.terminate()  # the signal may have come to this process alone
            raise
    if process.returncode:
        raise ChildProcessError(f"training failed ({work_dir}); it ended with\n" + "".join(said))
    (work_dir / "demo_done").touch()
    print(f"{NAMES[kind]}: trained in {time.monotonic() - started:.0f} s", flush=True)


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


def show(task: Task, line: str) -> None:
    """One short line for what mmengine logs of training and evaluation; nothing for the rest."""
    if match := TRAIN_LINE.search(line):
        where, rate, eta, seconds, loss = match.groups()
        print(
            f"  {where}  loss {loss}  lr {rate}  {float(seconds):.2f} s/iteration  "
            f"{eta.strip()} to go",
            flush=True,
        )
    elif match := task.val_line.search(line):
        where, *values = match.groups()
        scores = (f"{name} {value}" for name, value in zip(task.scores, values))
        print("  ".join(["", where, *scores]), flush=True)


if __name__ == "__main__":
    main()
