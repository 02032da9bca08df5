"""What detectors from ImageNet learn in their first hundred iterations, on a COCO-format folder.

    python benchmarks/first_iterations.py FOLDER [--models retinanet atss] [--lr 0.02] [--epochs 4]

The baselines (ordinary decay) of configs/from_imagenet on pictures of 256×192, mirrored and not
varied otherwise: a warm-up of 20 iterations and one cosine, one seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config

from normfix_mm.datasets import folder_of
from normfix_mm.report.run import Run
from normfix_mm.run.training import train
from normfix_mm.run.weights import provide_weights

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["retinanet", "atss"])
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    found = {name: learned(name, args) for name in args.models}
    for name, value in found.items():
        print(f"{name:12}AP {value:.3f} after {args.epochs} epochs")


def learned(name: str, args: argparse.Namespace) -> float:
    (path,) = (ROOT / "configs/from_imagenet").glob(f"{name}_lite0_fpn_baseline_*.py")
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.launcher = f"work_dirs/first_iterations/{name}", "none"
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        for step in loader.dataset.pipeline:
            if step["type"] == "Resize":
                step["scale"] = (256, 192)
    cfg.train_cfg.update(max_epochs=args.epochs, val_interval=args.epochs)
    cfg.optim_wrapper.optimizer.lr = args.lr
    cosine = dict(T_max=args.epochs, end=args.epochs, eta_min=0, convert_to_iter_based=True)
    cfg.param_scheduler = [
        dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=20),
        dict(type="CosineAnnealingLR", begin=0, **cosine),
    ]
    folder_of(cfg, args.folder).use(cfg)
    provide_weights(cfg)
    train(cfg)
    return Run.load(cfg.work_dir).results()["AP"]


if __name__ == "__main__":
    main()
