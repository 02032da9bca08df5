"""Tuned FixNorm against BO + WD at equal cost, against the default setting: on real images.

    PYTHONPATH=. python benchmarks/tuning_evidence.py cells FOLDER --out OUT [--jobs 2]
    PYTHONPATH=. python benchmarks/tuning_evidence.py streets FOLDER --out OUT [--jobs 2]
    … --dry-run    what each search costs; --only NAME    that and what it needs

cells is RetinaNet-R18 on blood cells, streets OCNet-R18 on CamVid, both small, trained long enough
that decay has time to act: λ is searched in a range around the one that makes ηλT/(1-m) one at the
default rate. All choices are made on images held out of the training set. The final settings are
then trained on all of it with three seeds and judged on the validation images, once. Everything
goes on where it was when the command is given again, and other processes may join in; a search
whose trials stand in benchmarks/results/tuning is not run again.

    fixnorm   Algorithm 4, 11 trainings         bo-wd     11 trainings
    rates     6 rates for each method, as the two searches left λ and α: how wide is the good range?
    grid      4 of these rates by 3 further values of α: does the best rate depend on α?
    final     tuned FixNorm, tuned decay, default decay; seeds 1 2 3
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config

from benchmarks.tuning_found import Found, picture, table, write_rows
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.compare_folder import configs_of
from normfix_mm.tuning.tuner import tune

# The trials of finished searches stay here, so that a figure in README or docs has its rows.
KEPT = Path(__file__).with_name("results") / "tuning"
HELD_OUT = 40
SEEDS = [1, 2, 3]
TASKS = {
    # A trial takes some four minutes on one core. The papers' range of rates is moved to where
    # these train. The grid's values of α are those that bind: RetinaNet's g stays at 3.6 of a cap
    # of 5.2α.
    "cells": dict(
        model="retinanet_r18_fpn", length=12, steps=504, batch=4, scale=(160, 120),
        lr_range=(0.00125, 0.025), alphas=[0.125, 0.25, 0.5, 1],
    ),
    "streets": dict(
        model="ocnet_r18-d8", length=500, steps=500, batch=4, scale=(120, 90),
        lr_range=(0.025, 0.5), alphas=[0.5, 1, 2, 4],
    ),
}  # fmt: skip
CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree",
    "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip


def config_of(task: dict, method: str) -> Config:
    """The folder's config, small and long."""
    return fitted(Config.fromfile(configs_of(task["model"])[method]), task)


def fitted(cfg: Config, task: dict) -> Config:
    """The config at the task's image size, batch and length, its rate for that batch."""
    length, scale, batch = task["length"], task["scale"], task["batch"]
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.optimizer.lr *= batch / cfg.auto_scale_lr.base_batch_size
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
    cfg.train_cfg.update({total: length, "val_interval": length // 4})
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
    default = config_of(task, "baseline (decay)").optim_wrapper.optimizer
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
        "final default": (base, last | dict(grid=usual)),
    }  # fmt: skip
    if fixnorm:
        alpha = [fixnorm["alpha"]]
        others = [each for each in task["alphas"] if each not in alpha]
        listed["rates fixnorm"] = (ours, plain | dict(grid=dict(lr=rates, alpha=alpha)))
        listed["grid"] = (ours, plain | dict(grid=dict(lr=rates[1:5], alpha=others)))
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
    kept = KEPT / args.task
    common = dict(classes=CAMVID if args.task == "streets" else None, jobs=args.jobs, threads=1)
    found: dict[str, Found] = {}
    searched = ["fixnorm", "bo-wd"]
    finals = ["final fixnorm", "final decay", "final default"]
    for name in [*searched, *finals, "rates fixnorm", "rates decay", "grid"]:
        values = {key: found[key].best if key in found else {} for key in searched}
        listed = searches(task, values["fixnorm"], values["bo-wd"])
        rows = kept / f"{name.replace(' ', '_')}.csv"
        chosen = not args.only or name in (args.only, *searched) or rows.exists()
        if name not in listed or not chosen:
            continue
        method, options = listed[name]
        if not rows.exists() or args.dry_run:
            print(f"== {name}", flush=True)
            result = tune(
                config_of(task, method),
                args.folder,
                study=f"{args.task} {name}",
                out=args.out / args.task / name.replace(" ", "_"),
                hold_out=HELD_OUT if options.pop("held") else 0,
                dry_run=args.dry_run,
                beside=[],
                **common,
                **options,
            )
            if result is None:
                continue
            rows.parent.mkdir(parents=True, exist_ok=True)
            write_rows(rows, result)
        found[name] = Found.read(rows)
        (kept / "table.md").write_text(table(found) + "\n")
    if found:
        print(table(found))
        picture(found, kept / "progress.png")


if __name__ == "__main__":
    cli.run(main)
