"""Train on a folder of one's own, named once: by a recipe for its data and the time, or a config.

    normfix train-folder FOLDER [--hours 1] [--task …] [--method …] [--size W H] [--resume]
    normfix train-folder CONFIG FOLDER [--classes A B …] [--work-dir DIR] [--resume]

For boxes and masks FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json, or
images/ and one annotation file, of whose pictures a fifth is then held for validation; for label
maps images/{train,val}/ and labels/{train,val}/, PNG files of class numbers; for classes of
pictures {train,val}/CLASS/. CONFIG is one of configs/{coco,seg,class}_folder or from_imagenet, or
any detector's that reads COCO.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from normfix_mm.commands.lists import add_lists
from normfix_mm.datasets import folder_of
from normfix_mm.datasets.contents import refuse_within
from normfix_mm.preflight.notes import note
from normfix_mm.recipe import training as recipe
from normfix_mm.run import command_line as cli
from normfix_mm.run.training import train


def options(prog: str | None = None) -> argparse.ArgumentParser:
    parser = cli.parser("Train on a folder", prog, optional_config=True)
    parser.add_argument("folder", help="holds images/{train,val}, and annotations/ or labels/")
    cli.add_training(parser)
    recipe.add_options(parser)
    parser.add_argument("--classes", nargs="+", help="default: all that the folder has")
    add_lists(parser)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    return parser


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    args = options(prog).parse_intermixed_args(arguments)
    refuse_within(args.folder, "checkpoints", args.work_dir or "work_dirs")
    if args.config is None:
        return recipe.train_by_recipe(args)
    recipe.refuse_beside_config(args)
    cfg = cli.load_config(args)
    cli.set_training(cfg, args)
    folder_of(cfg, args.folder).use(
        cfg, args.classes, args.train_list, args.val_list, args.val_split, say=note
    )
    train(cfg, args.resume, contents=not args.skip_data_check)
