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
    grid      4 rates by 4 values of α: does the best rate depend on α?
    rates     6 rates for each method, as the two searches left λ and α: how wide is the good range?
    final     tuned FixNorm, tuned decay, default decay; seeds 1 2 3
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.run import command_line as cli
from normfix_mm.tuning.compare_folder import configs_of
from normfix_mm.tuning.results import Result
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
        "grid": (ours, plain | dict(grid=dict(lr=rates[1:5], alpha=task["alphas"]))),
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
    kept = KEPT / args.task
    common = dict(classes=CAMVID if args.task == "streets" else None, jobs=args.jobs, threads=1)
    found: dict[str, Found] = {}
    searched = ["fixnorm", "bo-wd"]
    finals = ["final fixnorm", "final decay", "final default"]
    for name in [*searched, *finals, "rates fixnorm", "rates decay", "grid"]:
        values = {key: found[key].best if key in found else {} for key in searched}
        listed = searches(task, values["fixnorm"], values["bo-wd"])
        if name not in listed or (args.only and name not in (args.only, *searched)):
            continue
        method, options = listed[name]
        rows = kept / f"{name.replace(' ', '_')}.csv"
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


@dataclass
class Found:
    """What a search has found, from its table of trials.

    Attributes:
        best: the best values by name.
        value: what they reach.
        trials: values, score and cost in whole trainings of each trial, in the order of the search.
    """

    best: dict[str, float]
    value: float
    trials: list[tuple[dict[str, float], float, float]]

    @classmethod
    def read(cls, path: Path) -> Found:
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
        names = [key for key in rows[0] if key not in ("share of Tmax", "score", "cost in Tmax")]
        trials = [
            ({n: float(r[n]) for n in names if r[n]}, float(r["score"]), float(r["cost in Tmax"]))
            for r in rows
        ]
        whole = [t for t, r in zip(trials, rows) if float(r["share of Tmax"]) == 1]
        best = max(whole, key=lambda trial: trial[1])
        return cls(best[0], best[1], trials)

    @property
    def scores(self) -> list[float]:
        return [score for _, score, _ in self.trials]


def write_rows(path: Path, result: Result) -> None:
    """The trials of a search, a line each; one that diverged has the score 0."""
    entries = result.board.entries
    names = list(dict.fromkeys(key for e in entries for key in e.trial.values))
    with replacing(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "share of Tmax", "score", "cost in Tmax"])
        for e in entries:
            score = e.value if e.value is not None and math.isfinite(e.value) else 0.0
            cost = round(e.iterations / result.tmax, 4)
            values = [e.trial.values.get(name, "") for name in names]
            writer.writerow([*values, f"{e.trial.share:g}", score, cost])


def table(found: dict[str, Found]) -> str:
    """Markdown: what was found, how wide it is, how it ends."""
    lines = [
        "| search | best | held out | cost | within 1 % of the best |",
        "|---|---|---|---|---|",
    ]
    for name, each in found.items():
        if name.startswith("final"):
            continue
        values = ", ".join(f"{key} {value:.3g}" for key, value in each.best.items())
        cost = sum(cost for _, _, cost in each.trials)
        good = [v["lr"] for v, score, _ in each.trials if score >= 0.99 * each.value]
        wide = f"{min(good):g} to {max(good):g}" if name.startswith("rates") else ""
        lines.append(f"| {name} | {values} | {each.value:.3f} | {cost:.3g} | {wide} |")
    lines += ["", "| final setting | validation, three seeds |", "|---|---|"]
    for name, each in found.items():
        if name.startswith("final"):
            spread = f"{statistics.mean(each.scores):.3f} ± {statistics.stdev(each.scores):.3f}"
            lines.append(f"| {name.removeprefix('final ')} | {spread} |")
    return "\n".join(lines)


def picture(found: dict[str, Found], path: Path) -> None:
    """The best score so far over what had been trained (FixNorm, Figure 5, left)."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name, label in (("fixnorm", "FixNorm, Algorithm 4"), ("bo-wd", "decay, BO + WD")):
        if name in found:
            costs = list(accumulate(cost for _, _, cost in found[name].trials))
            best = list(accumulate(found[name].scores, max))
            (line,) = axes.step(costs, best, where="post", label=label)
            axes.plot(costs, found[name].scores, "o", ms=3, color=line.get_color())
    axes.set(xlabel="whole trainings", ylabel="score on held-out images")
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    cli.run(main)
