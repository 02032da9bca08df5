"""Compare methods on a folder of one's own: same initial weights, data order and budget.

    normfix compare FOLDER [--model mask-rcnn_r18_fpn] [--classes A B …] [--jobs 2]

MODEL names three configs of `configs/coco_folder` or `configs/seg_folder`: its baseline, WS +
ε-shift and FixNorm. For each method the learning rate is chosen by as many trials, judged
on images held out of the training set: half, once and twice `--rate`, and as long as some
method's best lies at the edge of its grid, one more factor of two for every method, four at most.
The judge is AP of the masks, of the boxes where there are no masks, or mIoU.
The chosen rate is then trained with several seeds on the whole training set and judged on the
validation set, which no choice has seen. `--rates` gives the rates and leaves the trials out.
Every run is a process of its own; finished runs are kept, so an interrupted comparison goes on
where it was when the command is given again. `--worker` is one more process on the same comparison,
with a `--storage` that both reach (see docs/tuning.md). Ends with a Markdown table,
and a page that shows a run of each method beside the others'.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from normfix_mm.commands.lists import add_lists
from normfix_mm.run import command_line as cli
from normfix_mm.run.ending import going_on, typed
from normfix_mm.tuning.compare_folder import compare
from normfix_mm.tuning.comparison import METHODS, Comparison


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.Parser(prog=prog, description=__doc__.splitlines()[0])
    parser.add_argument(
        "folder",
        type=Path,
        help="holds images/{train,val}, or images/, and annotations/ or labels/{train,val}",
    )
    parser.add_argument(
        "--model", default="retinanet_r18_fpn", help="of configs/coco_folder or configs/seg_folder"
    )
    parser.add_argument("--classes", nargs="+")
    add_lists(parser)
    parser.add_argument("--rate", type=float, default=0.02, help="middle of the grid of trials")
    parser.add_argument(
        "--rates", type=float, nargs=len(METHODS), help=f"no trials: {', '.join(METHODS)}"
    )
    parser.add_argument("--out", type=Path, help="default: work_dirs/compare/MODEL")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads of a run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--storage", default=os.environ.get("NORMFIX_STORAGE"))
    parser.add_argument("--worker", action="store_true", help="only run what there is to run")
    args = vars(parser.parse_args(arguments))
    search = Comparison(args.pop("rate"), args.pop("rates"), args.pop("seeds"))
    args["lists"] = tuple(args.pop(name) for name in ("train_list", "val_list", "val_split"))
    args["out"] = args["out"] or Path("work_dirs/compare") / args["model"]
    with going_on("start the same command again: it goes on where it was"):
        table = compare(search=search, made_by=typed(), **args)
    if table:
        print(table)
