"""Compare methods on a COCO-format folder: same initial weights, data order and budget.

    python tools/compare.py FOLDER [--detector mask-rcnn_r18_fpn] [--classes A B …] [--jobs 2]

DETECTOR names three configs of `configs/coco_folder`: its baseline, WS + ε-shift and FixNorm.
For each method the learning rate is chosen by the same number of trials, judged on images
held out of the training set: half, once and twice 0.02, and as long as some
method's best lies at the edge of its grid, one more factor of two for every method, four at most.
The judge is AP of the boxes, or of the masks where the detector finds masks.
The chosen rate is then trained with several seeds on the whole training set and judged on the
validation set, which no choice has seen. `--rates` gives the rates and leaves the trials out.
Every run is a process of its own; finished runs are kept, so an interrupted comparison goes on
where it was when the command is given again. Ends with a Markdown table.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mmengine.config import Config

from normfix_mm import cli
from normfix_mm.preflight import BadInput

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs/coco_folder"
METHODS = {"baseline (decay)": "baseline", "WS + ε-shift": "ws-eps", "FixNorm": "fixnorm"}
DEFAULT_RATE = 0.02
FACTORS = (1 / 2, 1, 2)
EXTENSIONS = 4
HELD_OUT = 40
METRICS = {
    "bbox_mAP": "box AP",
    "bbox_mAP_50": "box AP50",
    "bbox_mAP_75": "box AP75",
    "segm_mAP": "mask AP",
    "segm_mAP_50": "mask AP50",
    "segm_mAP_75": "mask AP75",
}


def begin(out: Path, detector: str, folder: Path, classes: list[str] | None) -> None:
    """Make the folder of this comparison; finished runs of another one must not count as its own.

    Raises:
        BadInput: It holds another comparison.
    """
    here = dict(detector=detector, folder=str(folder.resolve()), classes=classes)
    note = out / "comparison.json"
    there = json.loads(note.read_text()) if note.exists() else here
    if there != here and any(out.glob("*/log.txt")):
        raise BadInput(
            f"{out} holds the runs of {there['detector']} on {there['folder']} (classes "
            f"{there['classes'] or 'of the data'}); name another folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(here))


def hold_out(folder: Path, out: Path, count: int = HELD_OUT) -> tuple[Path, Path]:
    """Split the training annotations: `count` images, drawn once, are held out of the trials."""
    path = folder / "annotations/instances_train.json"
    if not path.exists():
        raise BadInput(f"{path} does not exist; give a folder in COCO format.")
    data = json.loads(path.read_text())
    ids = sorted(image["id"] for image in data["images"])
    if len(ids) < 2 * count:
        raise BadInput(
            f"{path} has {len(ids)} images; comparing holds {count} of them out of the trials, and "
            f"needs at least {2 * count}."
        )
    held = set(random.Random(0).sample(ids, count))
    paths = []
    for name, keep in (("rest", set(ids) - held), ("held_out", held)):
        part = data | {
            "images": [image for image in data["images"] if image["id"] in keep],
            "annotations": [a for a in data["annotations"] if a["image_id"] in keep],
        }
        paths.append(out / f"instances_{name}.json")
        paths[-1].write_text(json.dumps(part))
    return paths[0], paths[1]


def config_of(detector: str, method: str) -> Path:
    """The one config of this detector and method."""
    found = list(CONFIGS.glob(f"{detector}_{METHODS[method]}_*.py"))
    if len(found) != 1:
        there = sorted({path.name.rsplit("_", 2)[0] for path in CONFIGS.glob("*_baseline_*.py")})
        raise BadInput(f"There is no detector {detector!r} to compare; choose {', '.join(there)}.")
    return found[0]


def train(args, method: str, rate: float, seed: int, name: str, split=None) -> dict:
    """One run in its own process; returns its final validation metrics, from disk if it is done."""
    work_dir = Path(args.out) / name
    done = work_dir / "result.json"
    if done.exists():
        return json.loads(done.read_text())
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ROOT / "tools/train_folder.py"]
    command += [config_of(args.detector, method), args.folder]
    command += ["--work-dir", work_dir, "--resume"]
    command += ["--classes", *args.classes] if args.classes else []
    if split:
        command += ["--train-json", split[0], "--val-json", split[1]]
        command += ["--val-images", "images/train"]
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
    # A run that has learned nothing detects nothing, and then the metric is not written at all.
    evaluated = [line for line in lines if "coco/bbox_mAP" in line] or [{}]
    result = {"method": method, "lr": rate, "seed": seed}
    measured = [m for m in METRICS if args.masks or not m.startswith("segm")]
    result |= {metric: evaluated[-1].get(f"coco/{metric}", 0.0) for metric in measured}
    done.with_suffix(".part").write_text(json.dumps(result))
    done.with_suffix(".part").rename(done)
    print(f"{name}: AP {judged(result):.3f}", flush=True)
    return result


def judged(run: dict) -> float:
    """What the choice of a rate goes by: AP of the masks, or of the boxes if there are none."""
    return run.get("segm_mAP", run["bbox_mAP"])


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

    pending = {m: [trial(m, DEFAULT_RATE * f) for f in FACTORS] for m in METHODS}
    trials = {m: [future.result() for future in runs] for m, runs in pending.items()}
    for _ in range(EXTENSIONS):
        if not any(at_edge(runs) for runs in trials.values()):
            break
        extra = {m: trial(m, next_rate(runs)) for m, runs in trials.items()}
        for method, future in extra.items():
            trials[method] = sorted(trials[method] + [future.result()], key=lambda r: r["lr"])
    return trials


def report(trials: dict[str, list[dict]], finals: dict[str, list[dict]]) -> str:
    """Markdown tables: trials by learning rate if any, and the final runs' mean ± spread."""
    lines = ["| method | trials: lr → AP on the held-out images |", "|---|---|"] if trials else []
    for method, runs in trials.items():
        cells = [f"{run['lr']:g} → {judged(run):.3f}" for run in runs]
        cells += ["best at the edge of the grid"] if at_edge(runs) else []
        lines.append(f"| {method} | {', '.join(cells)} |")
    measured = [m for m in METRICS if m in next(iter(finals.values()))[0]]
    names = " | ".join(METRICS[metric] for metric in measured)
    lines += ["", f"| method | lr | {names} | seeds |", "|---|---|" + "---|" * (len(measured) + 1)]
    for method, runs in finals.items():
        cells = []
        for metric in measured:
            values = [run[metric] for run in runs]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):.3f}{spread}")
        lines.append(f"| {method} | {runs[0]['lr']:g} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds images/{train,val} and annotations/")
    parser.add_argument("--detector", default="retinanet_r18_fpn", help="of configs/coco_folder")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument(
        "--rates", type=float, nargs=len(METHODS), help=f"no trials: {', '.join(METHODS)}"
    )
    parser.add_argument("--out", type=Path, help="default: work_dirs/compare/DETECTOR")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    paths = [config_of(args.detector, method) for method in METHODS]
    args.masks = "mask_head" in Config.fromfile(paths[0]).model.get("roi_head", {})
    args.out = args.out or Path("work_dirs/compare") / args.detector
    begin(args.out, args.detector, args.folder, args.classes)
    split = hold_out(args.folder, args.out)

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
