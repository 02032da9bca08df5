"""Tune the learning rate and α of FixNorm: Algorithm 4, eleven trainings' worth of search.

    normfix tune CONFIG [FOLDER] [--jobs 2]       search; again to go on where it stopped
    normfix tune CONFIG [FOLDER] --dry-run        say what would be run and what it costs
    normfix tune CONFIG [FOLDER] --worker --storage ADDRESS    one more process, anywhere

CONFIG is any config with FixNorm; FOLDER is the data of a config of `configs/coco_folder` or
`configs/seg_folder`. What decides the search is taken from the config's `tune_cfg` where it has one
and is the papers' otherwise. The study lies in a journal file in the folder of the results; with
--storage (or the variable NORMFIX_STORAGE, which keeps a password out of the list of processes) in
SQLite or a database: sqlite:///FILE, postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.
Ends with the best values, a config that has them, trials.csv and index.html. See docs/tuning.md.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence

from normfix_mm.commands.lists import add_lists
from normfix_mm.errors import BadInput
from normfix_mm.run import command_line as cli
from normfix_mm.run.ending import going_on, typed
from normfix_mm.tuning import tune
from normfix_mm.tuning.settings import METHODS


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.Parser(
        prog=prog, description=__doc__.splitlines()[0], epilog="See docs/tuning.md."
    )
    cli.add_config(parser)
    parser.add_argument("folder", nargs="?", help="data of one's own, for a folder config")
    parser.add_argument("--classes", nargs="+", help="of the folder; default: all it has")
    add_lists(parser)
    parser.add_argument("--hold-out", type=int, default=0, metavar="IMAGES",
                        help="judge by so many images of the training set, which no trial trains "
                        "on; default: by the validation images, as the papers do")  # fmt: skip
    parser.add_argument("--method", choices=METHODS, default="fixnorm")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    parser.add_argument("--worker", action="store_true", help="only run trials; no results")

    search = parser.add_argument_group("the search; default: the config's tune_cfg, or the papers'")
    search.add_argument("--lr-range", type=float, nargs=2, metavar=("LOW", "HIGH"))
    search.add_argument("--rounds", type=int, help="N; 2")
    search.add_argument("--budgets", type=float, nargs="+", help="T, shares of Tmax; 0.2 1")
    search.add_argument("--splits", type=int, help="K, rates a round; 5")
    search.add_argument("--alphas", type=float, nargs="+", help="0.5 1 2 4 8 16")
    search.add_argument("--lam-range", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        help="of bo-wd; 1e-5 5e-4")  # fmt: skip
    search.add_argument("--trials", type=int, help="of bo-wd; 25")
    search.add_argument("--grid", type=_axis, nargs="+", metavar="NAME=VALUE,VALUE",
                        help="lr, alpha, lam, eps, seed or a setting's dotted name")  # fmt: skip
    search.add_argument("--share", type=float, help="length of a grid's trials; 1")
    search.add_argument("--metric", help="default: what the config saves its best checkpoint by, "
                        "or its evaluator's first")  # fmt: skip
    search.add_argument("--direction", choices=("maximize", "minimize"))
    search.add_argument("--seed", type=int, help="of the trials; default: the config's")

    running = parser.add_argument_group("running it")
    running.add_argument("--jobs", type=int, default=1, help="trials at a time; 0 only watches")
    running.add_argument("--gpus-per-trial", type=int, help="processes of a trial, by torchrun")
    running.add_argument("--threads", type=int, help="of a process")
    running.add_argument("--retries", type=int, help="of a trial that crashes; 1")
    running.add_argument("--out", help="folder of the results; work_dirs/tune/STUDY")
    running.add_argument("--storage", default=os.environ.get("NORMFIX_STORAGE"))
    running.add_argument("--study", help="its name there; default: the config's and the method")
    running.add_argument("--beside", nargs="+", default=(), metavar="STUDY",
                         help="studies of the storage to draw on the page as well")  # fmt: skip
    running.add_argument("--lease", type=float, help="seconds after which a silent worker is dead")
    running.add_argument("--command", type=shlex.split, help="trains in place of tools/train.py")
    running.add_argument("--pace", type=float, default=5.0, help=argparse.SUPPRESS)

    args = vars(parser.parse_args(arguments))
    cfg = cli.read_config(args.pop("config"), args.pop("cfg_options"), args.pop("row"))
    args["lists"] = tuple(args.pop(name) for name in ("train_list", "val_list", "val_split"))
    args["grid"] = _grid(args["grid"]) if args["grid"] else None
    with going_on("start the same command again: it goes on where it was"):
        result = tune(cfg, made_by=typed(), **args)
    if result is not None:
        print(f"{result.page}\n{result.table}\n{result.config or 'no config'}")
        if result.failures:
            sys.exit("error: " + " ".join(result.failures))


def _grid(axes: list[tuple[str, list[float]]]) -> dict[str, list[float]]:
    names = [name for name, _ in axes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadInput(f"The grid has {twice[0]} twice; give its values as {twice[0]}=A,B,C.")
    return dict(axes)


def _axis(text: str) -> tuple[str, list[float]]:
    name, _, values = text.partition("=")
    try:
        return name, [float(value) for value in values.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE,VALUE…") from None
