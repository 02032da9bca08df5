"""Where should a classifier's gain start that starts anew: at ||W|| or at its cap?

    PYTHONPATH=. python benchmarks/gain_start.py SET FOLDER --out OUT [--jobs 2] [--dry-run]

SET is cells (RetinaNet-R18, a focal loss), nuclei (Mask R-CNN-R18, softmax over boxes), streets
(OCNet-R18, softmax over pixels) or pictures (ResNet-18 on images by class), all small and from
scratch, with the configs' own rate and α. Each start is trained with three seeds on the whole
training set and judged on the validation images. Everything goes on where it was when the command
is given again.
"""

import argparse
import statistics
from pathlib import Path

from benchmarks.tuning_evidence import CAMVID, SEEDS, TASKS, config_of
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.tuner import tune

MORE = {
    "nuclei": dict(model="mask-rcnn_r18_fpn", length=8, batch=4, scale=(160, 160)),
    "pictures": dict(model="resnet_r18", length=10, batch=32, scale=32),
}
# The heads that have an α, by the names that their options have in a config.
HEADS = {
    "cells": ["bbox_head"],
    "nuclei": ["rpn_head", "roi_head.bbox_head", "roi_head.mask_head"],
    "streets": ["decode_head"],
    "pictures": ["head"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=HEADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    print("| start of g | " + " | ".join(f"seed {seed}" for seed in SEEDS) + " | mean |")
    print("|---|" + "---|" * (len(SEEDS) + 1))
    for start in ("weight", "cap"):
        cfg = config_of((TASKS | MORE)[args.set], "FixNorm")
        cfg.merge_from_dict({f"model.{head}.gain_start": start for head in HEADS[args.set]})
        result = tune(
            cfg,
            args.folder,
            study=f"{args.set} {start}",
            out=args.out / args.set / start,
            classes=CAMVID if args.set == "streets" else None,
            hold_out=0,
            jobs=args.jobs,
            threads=1,
            dry_run=args.dry_run,
            beside=[],
            method="grid",
            grid=dict(lr=[cfg.optim_wrapper.optimizer.lr], seed=SEEDS),
        )
        if result is not None:
            values = {e.trial.values["seed"]: e.value for e in result.board.of("finished")}
            cells = [f"{values[s]:.3f}" if s in values else "–" for s in SEEDS]
            spread = (
                f"{statistics.mean(values.values()):.3f} ± {statistics.stdev(values.values()):.3f}"
            )
            print(f"| {start} | " + " | ".join(cells) + f" | {spread} |")


if __name__ == "__main__":
    cli.run(main)
