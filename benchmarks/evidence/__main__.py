"""Run what is missing of the evidence, and make its page.

    PYTHONPATH=. python -m benchmarks.evidence [CLAIM ...] --data CIFAR --out work_dirs/evidence

CIFAR holds train.zip and test.zip of JPEGs by class. A run that is finished is not run again, so
the command goes on where it was; with --jobs 2 two cores work. Those that the documentation speaks
of are kept in benchmarks/results/evidence; name another folder with --runs to make your own. Tables
and page hold the claims all of whose runs are there. On one core a run takes some 4.5 minutes;
--list says how many there are.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch

from benchmarks.evidence import eps_shift, fixnorm, images, page
from benchmarks.evidence.training import Settings, kept, train

CLAIMS = eps_shift.CLAIMS + fixnorm.CLAIMS
MINUTES = 4.5  # a run of 10 epochs on one free core
KEPT = Path(__file__).parents[1] / "results" / "evidence"


def main() -> None:
    names = [claim.name for claim in CLAIMS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"of {', '.join(names)}; all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--out", type=Path, default=Path("work_dirs/evidence"))
    parser.add_argument("--runs", type=Path, default=KEPT, help="folder of the finished runs")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--list", action="store_true", help="say what there is to run, and stop")
    args = parser.parse_args()
    if unknown := sorted(set(args.claims) - set(names)):
        parser.error(f"there is no claim {unknown[0]!r}; choose {', '.join(names)}")
    chosen = [claim for claim in CLAIMS if claim.name in (args.claims or names)]
    for claim in chosen:
        missing = [s for s in claim.settings if not kept(s, args.runs).exists()]
        told = f"{len(claim.settings)} runs, {len(missing)} to be done"
        print(f"{claim.name:12} {told:28} {claim.title}")
    wanted = list(dict.fromkeys(s for claim in chosen for s in claim.settings))
    missing = [settings for settings in wanted if not kept(settings, args.runs).exists()]
    hours = sum(s.epochs / 10 for s in missing) * MINUTES / 60 / args.jobs
    print(f"{len(missing)} runs to be done, some {hours:.1f} hours with {args.jobs} at a time")
    if args.list:
        return
    if missing and not (args.data / "train.zip").is_file():
        parser.error(f"{args.data} has no train.zip; name the folder of the images with --data")
    with ProcessPoolExecutor(args.jobs) as pool:
        pending = {pool.submit(one, s, args.data, args.runs): s for s in missing}
        for number, done in enumerate(as_completed(pending), start=1):
            result = done.result()
            told = f"{result['accuracy']:.1f}" if result["alive"] else f"dead, {result['stopped']}"
            print(f"{number}/{len(missing)} {pending[done].name}: {told}", flush=True)
            page.write(chosen, collected(wanted, args.runs), args.out)
    page.write(chosen, collected(wanted, args.runs), args.out)
    print(args.out / "evidence.html")


def one(settings: Settings, data: Path, runs: Path) -> dict:
    """A run, in a process of its own."""
    torch.set_num_threads(1)
    return train(settings, images.load(data), runs)


def collected(wanted: list[Settings], runs: Path) -> dict[Settings, dict]:
    return {s: train(s, None, runs) for s in wanted if kept(s, runs).exists()}


if __name__ == "__main__":
    main()
