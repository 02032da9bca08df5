"""``make demo``: train a small network with FixNorm on generated data and leave a page about it.

    python tools/demo.py                        a detector, FixNorm
    python tools/demo.py --baseline             and the same model with ordinary weight decay
    python tools/demo.py --task segmentation    a segmenter, FixNorm: ``make demo-seg``

Writes ``data/digits`` and ``work_dirs/demo/{index.html, fixnorm, baseline}``, of segmenters
``work_dirs/demo-seg``. Interrupted, it goes
on from the last checkpoint when called again, to the same result; finished, it only makes the page
anew.
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

ROOT = Path(__file__).resolve().parents[1]
NAMES = dict(fixnorm="FixNorm", baseline="ordinary decay")
TRAIN_LINE = re.compile(
    r"Epoch\(train\)\s+(\[\d+\]\[ *\d+/\d+\]).*?lr: (\S+).*?eta: (\S+ ?\S*)  "
    r"time: (\S+).*? loss: (\S+)"
)
VAL_LINE = re.compile(r"Epoch\(val\)\s+(\[\d+\])\[")
SCORES = (  # label, name in the log, what it logs for 1
    ("AP", "bbox_mAP", 1),
    ("AP50", "bbox_mAP_50", 1),
    ("mIoU", "mIoU", 100),
    ("aAcc", "aAcc", 100),
)


class Task(NamedTuple):
    """One of the demos.

    Attributes:
        config: with the kind of run to fill in.
        title: of the page.
        command: that the page says it was made by.
        out: folder of the runs and the page.
        annotations: the file under the data that the evaluators read, if they read one.
        none: what to say where there is no score.
    """

    config: str
    title: str
    command: str
    out: str
    annotations: str | None
    none: str


TASKS = dict(
    detection=Task(
        "configs/demo/retinanet_r18_fpn_{}_digits.py",
        "RetinaNet-R18 on handwritten digits, trained with FixNorm",
        "make demo",
        "work_dirs/demo",
        "annotations/instances_val.json",
        "no detections that could be evaluated",
    ),
    segmentation=Task(
        "configs/demo/ocnet_r18-d8_{}_digits.py",
        "OCNet-R18 on handwritten digits, trained with FixNorm",
        "make demo-seg",
        "work_dirs/demo-seg",
        None,
        "not evaluated",
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], epilog="See the head of this file for what it writes."
    )
    parser.add_argument("--task", choices=TASKS, default="detection", help="what is trained")
    parser.add_argument(
        "--baseline", action="store_true", help="train the same model with ordinary decay, too"
    )
    parser.add_argument("--fresh", action="store_true", help="train anew what is trained already")
    parser.add_argument("--out", help="folder of the runs and the page")
    parser.add_argument("--data", default="data/digits", help="folder of the generated data")
    parser.add_argument("--pictures", type=int, default=640, help="number of training pictures")
    parser.add_argument("--epochs", type=int, help="train so many epochs, to try things out")
    args = parser.parse_args()
    try:
        demo(args)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit("\ndemo: interrupted; the same command goes on from the last checkpoint")


def demo(args: argparse.Namespace) -> None:
    from normfix_mm.datasets.digits import make_digits
    from normfix_mm.report import page
    from normfix_mm.report.run import NoRun, Run

    if args.epochs is not None and args.epochs < 1:
        raise ValueError(f"Invalid --epochs {args.epochs}; it must be at least 1")
    started = time.monotonic()
    data = make_digits(args.data, train=args.pictures, val=max(1, args.pictures // 5))
    print(f"data: {data}")
    task = TASKS[args.task]
    out = Path(args.out or task.out)
    for kind in ("fixnorm", "baseline") if args.baseline else ("fixnorm",):
        train(kind, out / kind, args)
    runs = []
    for kind, name in NAMES.items():
        try:
            runs.append(Run.load(out / kind, name))
        except NoRun:
            if kind == "fixnorm":
                raise
    print("page: drawing boxes and curves", flush=True)
    command = task.command + ("-baseline" if len(runs) > 1 else "")
    page.write(out / "index.html", page.build(runs, task.title, command))
    for run in runs:
        results = run.results()
        scores = ", ".join(f"{key} {results[key]:.3f}" for key, *_ in SCORES if key in results)
        print(f"{run.name}: {scores or task.none}")
    print(f"{out / 'index.html'} ({time.monotonic() - started:.0f} s in all)")


def train(kind: str, work_dir: Path, args: argparse.Namespace) -> None:
    """Train one config to its end, from the last checkpoint if it was interrupted.

    Raises:
        ChildProcessError: if training fails, with the end of what it said.
    """
    from mmengine.config import Config

    config = ROOT / TASKS[args.task].config.format(kind)
    options = options_of(args)
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
        for line in process.stdout:
            said.append(line)
            show(line)
    if process.returncode:
        raise ChildProcessError(f"training failed ({work_dir}); it ended with\n" + "".join(said))
    (work_dir / "demo_done").touch()
    print(f"{NAMES[kind]}: trained in {time.monotonic() - started:.0f} s", flush=True)


def options_of(args: argparse.Namespace) -> list[str]:
    """Settings of the config that this call changes, as ``KEY=VALUE``."""
    data = Path(args.data).as_posix().rstrip("/") + "/"
    options = [
        f"{loader}.dataset.data_root={data}"
        for loader in ("train_dataloader", "val_dataloader", "test_dataloader")
    ]
    if annotations := TASKS[args.task].annotations:
        options += [
            f"{evaluator}.ann_file={data}{annotations}"
            for evaluator in ("val_evaluator", "test_evaluator")
        ]
    if args.epochs is not None:
        options += [
            f"train_cfg.max_epochs={args.epochs}",
            f"param_scheduler.1.end={args.epochs}",
        ]
        if args.task == "detection":  # the cosine has a second name for its end
            options.append(f"param_scheduler.1.T_max={args.epochs}")
    return options


def show(line: str) -> None:
    """One short line for what mmengine logs of training and evaluation; nothing for the rest."""
    if match := TRAIN_LINE.search(line):
        where, rate, eta, seconds, loss = match.groups()
        print(
            f"  {where}  loss {loss}  lr {rate}  {float(seconds):.2f} s/iteration  "
            f"{eta.strip()} to go",
            flush=True,
        )
    elif match := VAL_LINE.search(line):
        found = ((label, re.search(rf"\b{key}: (\S+)", line), one) for label, key, one in SCORES)
        scores = [f"  {label} {float(value[1]) / one:.4f}" for label, value, one in found if value]
        if scores:  # none yet while an evaluation goes on
            print(f"  {match[1]}{''.join(scores)}", flush=True)


if __name__ == "__main__":
    main()
