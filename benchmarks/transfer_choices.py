"""How a detector starts from ImageNet: what is frozen, whose statistics, which input.

    PYTHONPATH=. python benchmarks/transfer_choices.py CELLS --out OUT [--jobs 2]

RetinaNet on ImageNet's EfficientNet-Lite0, with decay, on the blood cells: the config as it stands
against itself with one choice changed. Each is trained for four epochs at 160×120 with two seeds
and judged on 40 images held out of the training set; validation images are not
used. Everything goes on where it was when the command is given again.
"""

import argparse
import statistics
from pathlib import Path

from mmengine.config import Config

from benchmarks.transfer import NETWORKS, ROOT
from benchmarks.tuning_evidence import HELD_OUT, TASKS, fitted
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.tuner import tune

RATE, SEEDS = 0.01, [1, 2]
# Stages are counted as timm's feature blocks: 1 is the stem, 3 the second of them, 8 all.
CHOICES = {
    "as it stands: 3 frozen": {},
    "nothing frozen": {"model.backbone.frozen_stages": 0},
    "all frozen": {"model.backbone.frozen_stages": 8},
    "norms keep ImageNet's statistics": {"model.backbone.norm_eval": True},
    "mean and deviation of ImageNet": {
        "model.data_preprocessor.mean": [123.675, 116.28, 103.53],
        "model.data_preprocessor.std": [58.395, 57.12, 57.375],
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    lines = []
    for name, changes in CHOICES.items():
        network = NETWORKS["cells"].format("baseline")
        cfg = fitted(
            Config.fromfile(ROOT / f"configs/from_imagenet/{network}.py"),
            TASKS["cells"] | dict(length=4),
        )
        cfg.merge_from_dict(changes)
        place = args.out / name.split(":")[0].replace(" ", "_").replace("'", "")
        found = tune(
            cfg, args.cells, study=place.name, out=place, hold_out=HELD_OUT, jobs=args.jobs,
            threads=1, beside=[], method="grid", grid=dict(lr=[RATE], seed=SEEDS),
        )  # fmt: skip
        values = [entry.value for entry in found.board.of("finished")]
        each = ", ".join(f"{value:.3f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.3f} ({each}) |")
    print(f"| RetinaNet, decay, lr {RATE:g} | held out |")
    print("\n".join(["|---|---|", *lines]))


if __name__ == "__main__":
    cli.run(main)
