"""Does a start from a trained backbone pay, for each method?

    PYTHONPATH=. python benchmarks/transfer.py pretrained CIFAR10 CELLS --out OUT [--jobs 2]
    PYTHONPATH=. python benchmarks/transfer.py cells|nuclei|streets FOLDER --out OUT [--jobs 2]

pretrained: a ResNet-18 is trained on CIFAR-10 in small (train.zip and test.zip of JPEGs by class)
with decay, with WS + ε-shift and with FixNorm; RetinaNet-R18 then starts from each on the blood
cells and, at the same budget, anew. cells, nuclei, streets: from ImageNet's EfficientNet-Lite0
against the same network anew, by each method. Rates are chosen on images held out of the training
set; what is chosen is trained on all of it and judged on the validation images with three seeds:
the last score counts, the earlier ones are the curves. The rows of each run stay in
benchmarks/results/transfer, with the table and the picture made from them. Everything goes on where
it was when the command is given again.
"""

import argparse
import csv
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from mmengine.config import Config

from benchmarks.gain_start import MORE
from benchmarks.tuning_evidence import CAMVID, HELD_OUT, SEEDS, TASKS, config_of, fitted
from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.compare_folder import configs_of
from normfix_mm.tuning.tuner import tune

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(__file__).with_name("results") / "transfer"
LENGTHS = {"pretrained": 4, "cells": 5, "nuclei": 4, "streets": 240}  # epochs, iterations
RATES = {"cells": [0.005, 0.01, 0.02], "nuclei": [0.005, 0.01, 0.02], "streets": [0.02, 0.05, 0.1]}
# ImageNet's weights keep their function under weight normalization, not under WS.
IMAGENET = {"decay": "baseline", "WN + ε-shift": "wn-eps", "FixNorm": "fixnorm"}
COLUMNS = ("start", "method", "images", "lr", "seed", "iteration", "score")
NETWORKS = {
    "cells": "retinanet_lite0_fpn_{}_1xb8-8e_folder",
    "nuclei": "mask-rcnn_lite0_fpn_{}_1xb4-8e_folder",
    "streets": "ocnet_lite0-d8_{}_1xb4-800iters_folder",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["pretrained", *NETWORKS])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    out = args.out / args.what
    if args.what == "pretrained":
        images, folder = args.folders
        task, starts = "cells", pretrained(unpacked(images, out / "cifar10"), out, args.jobs)
    else:
        task, (folder,) = args.what, args.folders
        starts = from_imagenet(task)
    rows = []
    for (start, method), cfg in starts.items():
        place = out / f"{method} {start}".replace(" ", "_")
        rows += [(start, method, *row) for row in judged(cfg, task, folder, place, args.jobs)]
        write(KEPT / f"{args.what}.csv", rows)
    found = Rows(KEPT / f"{args.what}.csv")
    print(found.table())
    found.picture(KEPT / f"{args.what}.png", args.what)


def pretrained(images: Path, out: Path, jobs: int) -> dict[tuple[str, str], Config]:
    """RetinaNet by start and method; the classifiers that it starts from are trained first."""
    task = TASKS["cells"] | dict(length=LENGTHS["pretrained"])
    starts = {}
    for method, path in configs_of("resnet_r18").items():
        work_dir = out / "classifiers" / path.stem
        last = work_dir / "epoch_20.pth"
        if not last.exists():
            options = ["model.backbone.base_channels=64", "model.backbone.stem_channels=64"]
            options += ["model.head.in_channels=512", "train_dataloader.num_workers=0"]
            options += ["train_dataloader.persistent_workers=False"]
            command = [sys.executable, ROOT / "tools/train_folder.py", path, images, "--resume"]
            command += ["--work-dir", work_dir, "--cfg-options", *options]
            subprocess.run(command, check=True)
        checkpoint = dict(type="Pretrained", checkpoint=str(last), prefix="backbone.")
        for start in ("anew", "from CIFAR-10"):
            cfg = often_judged(config_of(task, method))
            cfg.model.backbone.init_cfg = checkpoint if start != "anew" else None
            starts[start, method] = cfg
    return starts


def from_imagenet(task: str) -> dict[tuple[str, str], Config]:
    starts = {}
    for start in ("anew", "from ImageNet"):
        for method, part in IMAGENET.items():
            cfg = Config.fromfile(
                ROOT / "configs/from_imagenet" / f"{NETWORKS[task].format(part)}.py"
            )
            if start == "anew":  # nothing is frozen that was not trained
                cfg.model.backbone.init_cfg = None
                if "frozen_stages" in cfg.model.backbone:
                    cfg.model.backbone.frozen_stages = 0
            sizes = (TASKS | MORE)[task] | dict(length=LENGTHS[task])
            starts[start, method] = often_judged(fitted(cfg, sizes))
    return starts


def often_judged(cfg: Config) -> Config:
    """A curve has eight points, or one an epoch."""
    total = cfg.train_cfg.get("max_epochs") or cfg.train_cfg.max_iters
    cfg.train_cfg.val_interval = max(total // 8, 1)
    return cfg


def judged(cfg: Config, task: str, folder: Path, out: Path, jobs: int) -> list[tuple]:
    """(images, rate, seed, iteration, score) of each rate on the held-out images, and of the best
    one, with each seed, on the validation images."""
    common = dict(classes=CAMVID if task == "streets" else None, jobs=jobs, threads=1, beside=[])
    common["method"] = "grid"
    rates = tune(
        cfg, folder, study=f"{out.name} rates", out=out / "rates", hold_out=HELD_OUT,
        grid=dict(lr=RATES[task]), **common,
    )  # fmt: skip
    last = tune(
        cfg, folder, study=f"{out.name} last", out=out / "last", hold_out=0,
        grid=dict(lr=[rates.values["lr"]], seed=SEEDS), **common,
    )  # fmt: skip
    return [
        (images, entry.trial.values["lr"], entry.trial.values.get("seed", ""), iteration, score)
        for images, result in (("held out", rates), ("validation", last))
        for entry in result.board.of("finished")
        for iteration, score in sorted(entry.curve.items())
    ]


def write(path: Path, rows: list[tuple]) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with replacing(path) as part, open(part, "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


class Rows:
    """What the runs of one set have come to, from their file."""

    def __init__(self, path: Path):
        with open(path, newline="") as file:
            self.rows = [
                row | dict(iteration=int(row["iteration"]), score=float(row["score"]))
                for row in csv.DictReader(file)
            ]
        self.kinds = list(dict.fromkeys((row["start"], row["method"]) for row in self.rows))

    def runs(self, start: str, method: str, images: str) -> dict[str, list[tuple[int, float]]]:
        """The curve of each run, by rate and seed."""
        curves: dict[str, list[tuple[int, float]]] = {}
        for row in self.rows:
            if (row["start"], row["method"], row["images"]) == (start, method, images):
                name = f"{row['lr']} {row['seed']}".strip()
                curves.setdefault(name, []).append((row["iteration"], row["score"]))
        return curves

    def ends(self, start: str, method: str) -> list[float]:
        """The last validation of each seed."""
        return [curve[-1][1] for curve in self.runs(start, method, "validation").values()]

    def table(self) -> str:
        lines = ["| start | method | held out, by rate | validation, three seeds |"]
        lines.append("|---|---|---|---|")
        for start, method in self.kinds:
            runs = self.runs(start, method, "held out")
            held = ", ".join(f"{rate}: {curve[-1][1]:.3f}" for rate, curve in runs.items())
            ends = self.ends(start, method)
            told = f"{statistics.mean(ends):.3f} ± {statistics.stdev(ends):.3f}"
            lines.append(f"| {start} | {method} | {held} | {told} |")
        return "\n".join(lines)

    def picture(self, path: Path, title: str) -> None:
        """A panel a method: the mean of the seeds by iteration, and the range that they span."""
        methods = list(dict.fromkeys(method for _, method in self.kinds))
        figure, panels = plt.subplots(
            1, len(methods), figsize=(10, 3.2), sharey=True, layout="constrained"
        )
        for axes, method in zip(panels, methods):
            for start in dict.fromkeys(start for start, _ in self.kinds):
                curves = list(self.runs(start, method, "validation").values())
                if not curves:  # not run yet
                    continue
                at = [iteration for iteration, _ in curves[0]]
                scores = list(zip(*([score for _, score in curve] for curve in curves)))
                (line,) = axes.plot(at, [statistics.mean(each) for each in scores], label=start)
                low, high = [min(each) for each in scores], [max(each) for each in scores]
                axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2)
            axes.set(title=method, xlabel="iterations")
        panels[0].set_ylabel(f"{title}: {'mIoU' if title == 'streets' else 'AP'}")
        panels[0].legend()
        figure.savefig(path, dpi=130)


def unpacked(archives: Path, folder: Path) -> Path:
    for name, part in (("train", "train"), ("test", "val")):
        if not (folder / part).exists():
            with zipfile.ZipFile(archives / f"{name}.zip") as archive:
                archive.extractall(folder / f"{part}.part")
            (folder / f"{part}.part").rename(folder / part)
    return folder


if __name__ == "__main__":
    cli.run(main)
