"""Compare methods on a COCO-format folder: same initial weights, data order and budget.

    python tools/compare.py FOLDER [--classes A B …] [--out work_dirs/compare] [--jobs 2]

For each method the learning rate is chosen by the same number of trials, judged by AP on images
held out of the training set: half, once and twice 0.02, and as long as some
method's best lies at the edge of its grid, one more factor of two for every method, four at most.
The chosen rate is then trained with several seeds on the whole training set and judged on the
validation set, which no choice has seen.
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

from normfix_mm import cli
from normfix_mm.preflight import BadInput

ROOT = Path(__file__).resolve().parent.parent
METHODS = {
    "baseline (decay)": "retinanet_r18_fpn_baseline_1xb8-8e.py",
    "WS + ε-shift": "retinanet_r18_fpn_ws-eps_1xb8-8e.py",
    "FixNorm": "retinanet_r18_fpn_fixnorm_1xb8-8e.py",
}
DEFAULT_RATE = 0.02
FACTORS = (1 / 2, 1, 2)
EXTENSIONS = 4
HELD_OUT = 40
METRICS = ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75")


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


def train(args, method: str, rate: float, seed: int, name: str, split=None) -> dict:
    """One run in its own process; returns its final validation metrics, from disk if it is done."""
    work_dir = Path(args.out) / name
    done = work_dir / "result.json"
    if done.exists():
        return json.loads(done.read_text())
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, ROOT / "tools/train_folder.py"]
    command += [ROOT / "configs/coco_folder" / METHODS[method], args.folder]
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
    result |= {metric: evaluated[-1].get(f"coco/{metric}", 0.0) for metric in METRICS}
    done.with_suffix(".part").write_text(json.dumps(result))
    done.with_suffix(".part").rename(done)
    print(f"{name}: AP {result['bbox_mAP']:.3f}", flush=True)
    return result


def best(runs: list[dict]) -> dict:
    return max(runs, key=lambda run: run["bbox_mAP"])


def at_edge(runs: list[dict]) -> bool:
    """Whether the best of these runs, sorted by rate, is the first or the last."""
    return best(runs) in (runs[0], runs[-1])


def next_rate(runs: list[dict]) -> float:
    """One more factor of two, on the side where the better runs are."""
    up = runs[-1]["bbox_mAP"] > runs[0]["bbox_mAP"]
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
    """The two Markdown tables: trials by learning rate, and the final runs' mean ± spread."""
    lines = ["| method | trials: lr → AP on the held-out images |", "|---|---|"]
    for method, runs in trials.items():
        cells = [f"{run['lr']:g} → {run['bbox_mAP']:.3f}" for run in runs]
        cells += ["best at the edge of the grid"] if at_edge(runs) else []
        lines.append(f"| {method} | {', '.join(cells)} |")
    lines += ["", "| method | lr | AP | AP50 | AP75 | seeds |", "|---|---|---|---|---|---|"]
    for method, runs in finals.items():
        cells = []
        for metric in METRICS:
            values = [run[metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells.append(f"{statistics.mean(values):.3f} ± {spread:.3f}")
        lines.append(f"| {method} | {runs[0]['lr']:g} | {' | '.join(cells)} | {len(runs)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds images/{train,val} and annotations/")
    parser.add_argument("--classes", nargs="+")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/compare"))
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    split = hold_out(args.folder, args.out)

    with ThreadPoolExecutor(args.jobs) as pool:
        trials = tune(args, pool, split)
        pending = {}
        for seed in args.seeds:
            for i, (method, runs) in enumerate(trials.items()):
                rate = best(runs)["lr"]
                name = f"final_{i}_lr{rate:g}_seed{seed}"
                pending[method, seed] = pool.submit(train, args, method, rate, seed, name)
        finals = {m: [pending[m, seed].result() for seed in args.seeds] for m in METHODS}
    table = report(trials, finals)
    (args.out / "table.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
    cli.run(main)
