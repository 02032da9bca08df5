"""Tuned FixNorm against BO + WD at equal cost, against the default setting: on real images.

    PYTHONPATH=. python benchmarks/tuning_evidence.py cells FOLDER --out OUT [--jobs 2]
    PYTHONPATH=. python benchmarks/tuning_evidence.py streets FOLDER --out OUT [--jobs 2]
    … --dry-run    what each search costs; --only NAME    that and what it needs

cells is RetinaNet-R18 on blood cells, streets OCNet-R18 on CamVid, both small, trained long enough
that decay has time to act: λ is searched in a range around the one that makes ηλT/(1-m) one at the
default rate. All choices are made on images held out of the training set. The final settings are
then trained on all of it with three seeds and judged on the validation images, once. Everything
goes on where it was when the command is given again, and other processes may join in.

    fixnorm   Algorithm 4, 11 trainings         bo-wd     11 trainings
    grid      4 rates by 4 values of α: does the best rate depend on α?
    rates     6 rates for each method, as the two searches left λ and α: how wide is the good range?
    final     tuned FixNorm, tuned decay, default decay; seeds 1 2 3
"""

import argparse
import statistics
from pathlib import Path

from mmengine.config import Config

from normfix_mm.run import command_line as cli
from normfix_mm.tuning.compare_folder import configs_of
from normfix_mm.tuning.tuner import tune

HELD_OUT = 40
SEEDS = [1, 2, 3]
TASKS = {
    # model, length, image size, batch; the papers' range of rates moved to where these train
    "cells": dict(
        model="retinanet_r18_fpn", length=24, steps=504, scale=(160, 120), lr_range=(0.0025, 0.05)
    ),
    "streets": dict(
        model="ocnet_r18-d8", length=800, steps=800, scale=(120, 90), lr_range=(0.025, 0.5)
    ),
}
CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree",
    "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip


def config_of(task: dict, method: str) -> Config:
    """The folder's config, small and long."""
    return fitted(Config.fromfile(configs_of(task["model"])[method]), task)


def fitted(cfg: Config, task: dict) -> Config:
    """The config at the task's image size and length."""
    length, scale = task["length"], task["scale"]
    for phase in ("train", "val", "test"):
        for step in cfg[f"{phase}_dataloader"].dataset.pipeline:
            if "scale" in step:
                step.scale = scale
            if "crop_size" in step:
                step.crop_size = scale[::-1]
        cfg[f"{phase}_dataloader"].update(num_workers=0, persistent_workers=False)
    if "crop_size" in cfg:
        cfg.crop_size = scale[::-1]
        cfg.model.data_preprocessor.size = scale[::-1]
    total = "max_epochs" if "max_epochs" in cfg.train_cfg else "max_iters"
    stretch = length / cfg.train_cfg[total]
    cfg.train_cfg.update({total: length, "val_interval": max(1, length // 8)})
    for scheduler in cfg.param_scheduler:  # the warm-up stays
        if "milestones" in scheduler:
            scheduler.milestones = [round(stretch * at) for at in scheduler.milestones]
        elif scheduler.type == "PolyLR":
            scheduler.end = length
    return cfg


def searches(task: dict, fixnorm: dict, decay: dict) -> dict[str, tuple]:
    """Method of the config and options of each search; the values are those found so far."""
    low, high = task["lr_range"]
    rates = [float(f"{low * (high / low) ** (i / 5):.3g}") for i in range(6)]
    default = Config.fromfile(configs_of(task["model"])["baseline (decay)"]).optim_wrapper.optimizer
    unit = (1 - default.momentum) / (default.lr * task["steps"])  # ηλT/(1-m) = 1
    lam_range = [float(f"{unit / 7:.2g}"), float(f"{unit * 7:.2g}")]  # as wide as the paper's
    found = dict(held=True, method="fixnorm", lr_range=task["lr_range"])
    plain = dict(held=True, method="grid")
    usual = dict(lr=[default.lr], lam=[default.weight_decay], seed=SEEDS)
    last = dict(held=False, method="grid")
    base, ours = "baseline (decay)", "FixNorm"
    listed = {
        "fixnorm": (ours, found),
        "bo-wd": (base, dict(held=True, method="bo-wd", trials=11, lam_range=lam_range)
                  | dict(lr_range=task["lr_range"])),
        "grid": (ours, plain | dict(grid=dict(lr=rates[1:5], alpha=[0.5, 1, 2, 4]))),
        "final default": (base, last | dict(grid=usual)),
    }  # fmt: skip
    if fixnorm:
        alpha = [fixnorm["alpha"]]
        listed["rates fixnorm"] = (ours, plain | dict(grid=dict(lr=rates, alpha=alpha)))
        chosen = dict(lr=[fixnorm["lr"]], alpha=alpha, seed=SEEDS)
        listed["final fixnorm"] = (ours, last | dict(grid=chosen))
    if decay:
        lam = [decay["lam"]]
        listed["rates decay"] = (base, plain | dict(grid=dict(lr=rates, lam=lam)))
        chosen = dict(lr=[decay["lr"]], lam=lam, seed=SEEDS)
        listed["final decay"] = (base, last | dict(grid=chosen))
    return listed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", help="one of the searches")
    parser.add_argument("--dry-run", action="store_true")
    args = parser.parse_args()
    task = TASKS[args.task]
    classes = CAMVID if args.task == "streets" else None
    results, searched = {}, ["fixnorm", "bo-wd"]
    finals = ["final fixnorm", "final decay", "final default"]
    for name in [*searched, *finals, "rates fixnorm", "rates decay", "grid"]:
        found = {key: results[key].values if key in results else {} for key in searched}
        listed = searches(task, found["fixnorm"], found["bo-wd"])
        if name not in listed or (args.only and name not in (args.only, *searched)):
            continue
        method, options = listed[name]
        held = HELD_OUT if options.pop("held") else 0
        cfg = config_of(task, method)
        out = args.out / args.task / name.replace(" ", "_")
        print(f"== {name}", flush=True)
        result = tune(
            cfg,
            args.folder,
            study=f"{args.task} {name}",
            out=out,
            classes=classes,
            hold_out=held,
            jobs=args.jobs,
            threads=1,
            dry_run=args.dry_run,
            beside=[],
            **options,
        )
        if result is not None:
            results[name] = result
            (args.out / args.task / "table.md").write_text(table(results) + "\n")
    if results:
        print(table(results))


def table(results: dict) -> str:
    """Markdown: what was found, how wide it is, how it ends."""
    lines = ["| search | best | held out | cost |", "|---|---|---|---|"]
    for name, result in results.items():
        if result.best is None or name.startswith("final"):
            continue
        values = ", ".join(f"{key} {value:.3g}" for key, value in result.values.items())
        lines.append(f"| {name} | {values} | {result.best.value:.3f} | {result.cost:.3g} |")
        if name.startswith("rates"):
            found = [(e.trial.values["lr"], e.value) for e in result.board.of("finished")]
            good = [lr for lr, value in found if value >= 0.99 * result.best.value]
            lines[-1] += f" within 1 %: {min(good):g} to {max(good):g} |"
    lines += ["", "| final setting | validation, three seeds |", "|---|---|"]
    for name, result in results.items():
        values = [e.value for e in result.board.of("finished")] if name.startswith("final") else []
        if len(values) > 1:
            spread = f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"
            lines.append(f"| {name.removeprefix('final ')} | {spread} |")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run(main)
