"""A training that is a formula: for tests of the search, in place of tools/train.py.

    python landscape.py CONFIG --work-dir DIR [--resume]

A real process that leaves what mmengine leaves: it reads the rate, α, λ and its length from the
config, and writes training steps and evaluations to DIR/<time>/vis_data/scalars.json. What it
is to do is in the config's `landscape`:

    lr, alpha, power    the best rate of a whole training, the best α; a training of a share s of
                        tmax has its best rate at lr * s ** -power (the paper's second prior)
    tmax                iterations of a whole training
    seconds             that it takes
    diverges            rates above this one have a loss that explodes
    nothing             [lr, share]: higher rates find nothing in a training of this share or more
    nothing_but         the only α with which anything is found
    crash               {trial folder's beginning: how often it crashes}
    log                 a file that gets a line for each start and each end
"""

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("config")
    parser.add_argument("--work-dir", type=Path)
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    cfg: dict = {}
    exec(Path(args.config).read_text(), dict(dict=dict), cfg)
    told, total = cfg["landscape"], cfg["train_cfg"]["max_iters"]
    name = args.work_dir.name
    say(told, f"start {name}")
    crash(told, args.work_dir)
    values = cfg["optim_wrapper"]["optimizer"]
    folder = args.work_dir / f"{time.time_ns()}" / "vis_data"
    folder.mkdir(parents=True)
    steps = range(max(1, total // 10), total + 1, max(1, total // 10))
    diverges = name != "probe" and values["lr"] > told.get("diverges", math.inf)
    with open(folder / "scalars.json", "a") as log:
        for i, step in enumerate(steps):
            time.sleep(0 if name == "probe" else told.get("seconds", 0) / 10)
            line(log, loss=math.nan if diverges and i > 2 else 1 / step, step=step, time=0.01)
            if diverges and i > 2:
                time.sleep(60)  # to be stopped
        head = cfg["model"]["bbox_head"].get("alpha", 1.0)
        metric = told.get("metric", "coco/bbox_mAP")
        line(log, **{metric: score(told, values, head, total)}, step=total)
    say(told, f"end {name}")


def score(told: dict, optimizer: dict, alpha: float, total: int) -> float:
    """Convex in the logarithms of the rate and of α (or of λ), each by itself; longer is better."""
    share = total / told["tmax"]
    highest, least = told.get("nothing", (math.inf, 0))
    if share >= least and optimizer["lr"] > highest:
        return 0.0
    if alpha != told.get("nothing_but", alpha):
        return 0.0
    best = told["lr"] * share ** -told.get("power", 0)
    lost = 0.05 * math.log(optimizer["lr"] / best) ** 2 + 0.1 * (1 - share)
    lost += 0.004 * math.log2(alpha / told.get("alpha", 1.0)) ** 2
    if "lam" in told:
        lost += 0.01 * math.log(optimizer["weight_decay"] / told["lam"]) ** 2
    return 0.8 - lost


def crash(told: dict, work_dir: Path) -> None:
    for beginning, times in told.get("crash", {}).items():
        if work_dir.name.startswith(beginning):
            mark = work_dir.parent / f"{beginning}.crashes"
            count = len(mark.read_text()) if mark.exists() else 0
            if count < times:
                mark.write_text("x" * (count + 1))
                sys.exit("RuntimeError: out of luck")


def line(log, **entry) -> None:
    log.write(json.dumps(entry) + "\n")
    log.flush()


def say(told: dict, text: str) -> None:
    if "log" in told:
        descriptor = os.open(told["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{text} {os.getpid()}\n".encode())
        os.close(descriptor)


if __name__ == "__main__":
    main()
