"""Does a start from a trained backbone pay, for each method?

    PYTHONPATH=. python benchmarks/transfer.py pretrained CIFAR10 CELLS --out OUT [--jobs 2]
    PYTHONPATH=. python benchmarks/transfer.py cells|nuclei|streets FOLDER --out OUT [--jobs 2]

pretrained: a ResNet-18 is trained on CIFAR-10 in small (train.zip and test.zip of JPEGs by class)
with decay, with WS + ε-shift and with FixNorm; RetinaNet-R18 then starts from each on the blood
cells and, at the same budget, anew. cells, nuclei, streets: from ImageNet's EfficientNet-Lite0
against the same network anew, by each method. Rates are chosen on images held out of the training
set; what is chosen is trained on all of it and judged on the validation images, once, with three
seeds. Everything goes on where it was when the command is given again.
"""

import argparse
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

from mmengine.config import Config

from benchmarks.gain_start import MORE
from benchmarks.tuning_evidence import CAMVID, HELD_OUT, SEEDS, TASKS, config_of, fitted
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.compare_folder import configs_of
from normfix_mm.tuning.tuner import tune

ROOT = Path(__file__).resolve().parents[1]
LENGTHS = {"cells": 8, "nuclei": 8, "streets": 800}
RATES = {"cells": [0.005, 0.01, 0.02], "nuclei": [0.005, 0.01, 0.02], "streets": [0.02, 0.05, 0.1]}
# ImageNet's weights keep their function under weight normalization, not under WS.
IMAGENET = {"decay": "baseline", "WN + ε-shift": "wn-eps", "FixNorm": "fixnorm"}
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
    print("| start | method | held out, by rate | validation, three seeds |\n|---|---|---|---|")
    for (start, method), cfg in starts.items():
        name = f"{method} {start}"
        told = judged(cfg, task, folder, name, out / name.replace(" ", "_"), args.jobs)
        print(f"| {start} | {method} | {' | '.join(told)} |", flush=True)


def pretrained(images: Path, out: Path, jobs: int) -> dict[tuple[str, str], Config]:
    """RetinaNet by start and method; the classifiers that it starts from are trained first."""
    task = TASKS["cells"] | dict(length=LENGTHS["cells"])
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
            cfg = config_of(task, method)
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
            if start == "anew":
                cfg.model.backbone.init_cfg = None
            sizes = (TASKS | MORE)[task] | dict(length=LENGTHS[task])
            starts[start, method] = fitted(cfg, sizes)
    return starts


def judged(cfg: Config, task: str, folder: Path, name: str, out: Path, jobs: int) -> list[str]:
    """What each rate comes to on held-out images, and the best one's validation."""
    common = dict(classes=CAMVID if task == "streets" else None, jobs=jobs, threads=1, beside=[])
    common["method"] = "grid"
    rates = tune(
        cfg, folder, study=f"{name} rates", out=out / "rates", hold_out=HELD_OUT,
        grid=dict(lr=RATES[task]), **common,
    )  # fmt: skip
    last = tune(
        cfg, folder, study=f"{name} last", out=out / "last", hold_out=0,
        grid=dict(lr=[rates.values["lr"]], seed=SEEDS), **common,
    )  # fmt: skip
    held = [f"{e.trial.values['lr']:g}: {e.value:.3f}" for e in rates.board.of("finished")]
    values = [e.value for e in last.board.of("finished")]
    return [", ".join(held), f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"]


def unpacked(archives: Path, folder: Path) -> Path:
    for name, part in (("train", "train"), ("test", "val")):
        if not (folder / part).exists():
            with zipfile.ZipFile(archives / f"{name}.zip") as archive:
                archive.extractall(folder / f"{part}.part")
            (folder / f"{part}.part").rename(folder / part)
    return folder


if __name__ == "__main__":
    cli.run(main)
