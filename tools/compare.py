"""Compare methods on a folder of one's own: same initial weights, data order and budget.

    python tools/compare.py FOLDER [--model mask-rcnn_r18_fpn] [--classes A B …] [--jobs 2]

MODEL names three configs of `configs/coco_folder`, `configs/seg_folder` or `configs/class_folder`:
its baseline, WS + ε-shift and FixNorm. For each method the rate is chosen by as many trials, judged
on images held out of the training set: half, once and twice `--rate`, and as long as some
method's best lies at the edge of its grid, one more factor of two for every method, four at most.
The judge is AP of the masks, of the boxes where there are no masks, mIoU, or top-1 accuracy.
The chosen rate is then trained with several seeds on the whole training set and judged on the
validation set, which no choice has seen. `--rates` gives the rates and leaves the trials out.
Every run is a process of its own; finished runs are kept, so an interrupted comparison goes on
where it was when the command is given again. Ends with a Markdown table.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.config import Config

from normfix_mm.datasets import folder_kind
from normfix_mm.errors import BadInput
from normfix_mm.run import command_line as cli

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
FOLDERS = ("coco_folder", "seg_folder", "class_folder")
METHODS = {"baseline (decay)": "baseline", "WS + ε-shift": "ws-eps", "FixNorm": "fixnorm"}
FACTORS = (1 / 2, 1, 2)
EXTENSIONS = 4
HELD_OUT = 40
BOXES = {"bbox_mAP": "box AP", "bbox_mAP_50": "box AP50", "bbox_mAP_75": "box AP75"}
MASKS = {"segm_mAP": "mask AP", "segm_mAP_50": "mask AP50", "segm_mAP_75": "mask AP75"}
PIXELS = {"mIoU": "mIoU", "mAcc": "mAcc", "aAcc": "aAcc"}
IMAGES = {"accuracy/top1": "top-1"}
METRICS = BOXES | MASKS | PIXELS | IMAGES
JUDGES = ("segm_mAP", "bbox_mAP", "mIoU", "accuracy/top1")
CLASS = ("IoU/", "recall/")


def begin(out: Path, model: str, folder: Path, classes: list[str] | None) -> None:
    """Make the folder of this comparison; finished runs of another one must not count as its own.

    Raises:
        BadInput: It holds another comparison.
    """
    here = dict(model=model, folder=str(folder.resolve()), classes=classes)
    note = out / "comparison.json"
    there = json.loads(note.read_text()) if note.exists() else here
    if "detector" in there:  # as the model was called before segmenters could be compared
        there["model"] = there.pop("detector")
    if there != here and any(out.glob("*/log.txt")):
        raise BadInput(
            f"{out} holds the runs of {there['model']} on {there['folder']} (classes "
            f"{there['classes'] or 'of the data'}); name another folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(here))


def config_of(model: str, method: str) -> Path:
    """The one config of this model and method."""
    there = [path for folder in FOLDERS for path in sorted((CONFIGS / folder).glob("*.py"))]
    found = [path for path in there if path.name.startswith(f"{model}_{METHODS[method]}_")]
    if len(found) != 1:
        models = sorted({p.name.split("_baseline_")[0] for p in there if "_baseline_" in p.name})
        raise BadInput(f"There is no model {model!r} to compare; choose {', '.join(models)}.")
    return found[0]


def metrics_of(cfg: Config) -> list[str]:
    """What the runs of this config are measured by."""
    if cfg.get("default_scope") == "mmseg":
        return [*PIXELS]
    if cfg.get("default_scope") == "mmpretrain":
        return [*IMAGES]
    return [*BOXES, *(MASKS if "mask_head" in cfg.model.get("roi_head", {}) else ())]


def train(args, method: str, rate: float, seed: int, name: str, split=None) -> dict:
    """One run in its own process; returns its final validation metrics, from disk if it is done."""
    work_dir = Path(args.out) / name
    done = work_dir / "result.json"
    if done.exists():
        return json.loads(done.read_text())
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ROOT / "tools/train_folder.py"]
    command += [config_of(args.model, method), args.folder]
    command += ["--work-dir", work_dir, "--resume"]
    command += ["--classes", *args.classes] if args.classes else []
    if split:
        command += ["--train-list", split[0], "--val-list", split[1], "--val-split", "train"]
    command += ["--cfg-options", f"optim_wrapper.optimizer.lr={rate}", f"randomness.seed={seed}"]
    with open(work_dir / "log.txt", "a") as log:
        code = subprocess.run(
            [str(part) for part in command],
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": str(args.threads)},
        ).returncode
    if code:
        raise BadInput(f"{name} did not finish; its log is {work_dir / 'log.txt'}.")
    lines = [
        json.loads(line)
        for path in sorted(work_dir.glob("*/vis_data/scalars.json"))
        for line in path.read_text().splitlines()
    ]
    evaluations = [
        {key.removeprefix("coco/"): value for key, value in line.items()} for line in lines
    ]
    # A run that has learned nothing detects nothing, and then the metric is not written at all.
    last = [line for line in evaluations if args.metrics[0] in line][-1:] or [{}]
    result = {"method": method, "lr": rate, "seed": seed}
    result |= {metric: last[0].get(metric, 0.0) for metric in args.metrics}
    result |= {key: value for key, value in last[0].items() if key.startswith(CLASS)}
    done.with_suffix(".part").write_text(json.dumps(result))
    done.with_suffix(".part").rename(done)
    print(f"{name}: {shown([result], judge(result))}", flush=True)
    return result


def judge(run: dict) -> str:
    """The metric that the choice of a rate goes by."""
    return next(metric for metric in JUDGES if metric in run)


def judged(run: dict) -> float:
    return run[judge(run)]


def best(runs: list[dict]) -> dict:
    return max(runs, key=judged)


def at_edge(runs: list[dict]) -> bool:
    """Whether the best of these runs, sorted by rate, is the first or the last."""
    return best(runs) in (runs[0], runs[-1])


def next_rate(runs: list[dict]) -> float:
    """One more factor of two, on the side where the better runs are."""
    up = judged(runs[-1]) > judged(runs[0])
    return runs[-1]["lr"] * 2 if up else runs[0]["lr"] / 2


def tune(args, pool, split) -> dict[str, list[dict]]:
    """The trials of each method, sorted by rate; as many for one as for another."""

    def trial(method: str, rate: float):
        name = f"trial_{list(METHODS).index(method)}_lr{rate:g}"
        return pool.submit(train, args, method, rate, 0, name, split)

    pending = {m: [trial(m, args.rate * f) for f in FACTORS] for m in METHODS}
    trials = {m: [future.result() for future in runs] for m, runs in pending.items()}
    for _ in range(EXTENSIONS):
        if not any(at_edge(runs) for runs in trials.values()):
            break
        extra = {m: trial(m, next_rate(runs)) for m, runs in trials.items()}
        for method, future in extra.items():
            trials[method] = sorted(trials[method] + [future.result()], key=lambda r: r["lr"])
    return trials


def report(trials: dict[str, list[dict]], finals: dict[str, list[dict]]) -> str:
    """Markdown tables: trials by learning rate if any, the final runs' mean ± spread, classes."""
    first = next(iter(finals.values()))[0]
    name = METRICS[judge(first)]
    lines = [f"| method | trials: lr → {name} held out |", "|---|---|"] if trials else []
    for method, runs in trials.items():
        cells = [f"{run['lr']:g} → {shown([run], judge(run))}" for run in runs]
        cells += ["best at the edge of the grid"] if at_edge(runs) else []
        lines.append(f"| {method} | {', '.join(cells)} |")
    measured = [metric for metric in METRICS if metric in first]
    lines += row("method", "lr", *(METRICS[metric] for metric in measured), "seeds", head=True)
    for method, runs in finals.items():
        cells = [shown(runs, metric) for metric in measured]
        lines += row(method, f"{runs[0]['lr']:g}", *cells, len(runs))
    every = [key for runs in finals.values() for run in runs for key in run]
    classes = [key for key in dict.fromkeys(every) if key.startswith(CLASS)]
    if classes:
        lines += row(classes[0].partition("/")[0], *finals, head=True)
    for key in classes:
        lines += row(key.partition("/")[2], *(shown(runs, key) for runs in finals.values()))
    return "\n".join(lines)


def row(*cells, head: bool = False) -> list[str]:
    """One line of a table, or its first two."""
    line = f"| {' | '.join(map(str, cells))} |"
    return ["", line, "|" + "---|" * len(cells)] if head else [line]


def shown(runs: list[dict], metric: str) -> str:
    """Mean ± standard deviation; AP with three digits, percents with one."""
    values = [run[metric] for run in runs if metric in run]
    digits = 3 if metric in BOXES | MASKS else 1
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}" if values else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder", type=Path, help="holds images/{train,val}, and annotations/ or labels/{train,val}"
    )
    parser.add_argument(
        "--model", default="retinanet_r18_fpn", help="of configs/coco_folder or configs/seg_folder"
    )
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--rate", type=float, default=0.02, help="middle of the grid of trials")
    parser.add_argument(
        "--rates", type=float, nargs=len(METHODS), help=f"no trials: {', '.join(METHODS)}"
    )
    parser.add_argument("--out", type=Path, help="default: work_dirs/compare/MODEL")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    paths = [config_of(args.model, method) for method in METHODS]
    cfg = Config.fromfile(paths[0], import_custom_modules=False)
    args.metrics = metrics_of(cfg)
    args.out = args.out or Path("work_dirs/compare") / args.model
    begin(args.out, args.model, args.folder, args.classes)
    try:
        split = folder_kind(cfg).hold_out(args.folder, args.out, HELD_OUT)
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(str(error)) from None

    with ThreadPoolExecutor(args.jobs) as pool:
        trials = {} if args.rates else tune(args, pool, split)
        rates = args.rates or [best(runs)["lr"] for runs in trials.values()]
        pending = {}
        for seed in args.seeds:
            for i, (method, rate) in enumerate(zip(METHODS, rates)):
                name = f"final_{i}_lr{rate:g}_seed{seed}"
                pending[method, seed] = pool.submit(train, args, method, rate, seed, name)
        finals = {m: [pending[m, seed].result() for seed in args.seeds] for m in METHODS}
    table = report(trials, finals)
    (args.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    cli.run(main)
