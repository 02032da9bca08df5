"""Train a config of `configs/coco_folder` or `configs/seg_folder` on a folder, named once.

    normfix train-folder CONFIG FOLDER [--classes A B …] [--work-dir DIR] [--resume]

For a detector FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json; for a
segmenter images/{train,val}/ and labels/{train,val}/, PNG files of class numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

from normfix_mm.datasets import folder_of
from normfix_mm.run import command_line as cli
from normfix_mm.run.training import train


@cli.command
def main(arguments: Sequence[str] | None, prog: str | None) -> None:
    parser = cli.parser("Train on a folder", prog)
    parser.add_argument("folder", help="holds images/{train,val}, and annotations/ or labels/")
    parser.add_argument("--classes", nargs="+", help="default: all that the folder has")
    parser.add_argument("--train-list", help="annotations, or names of a line each, to train on")
    parser.add_argument("--val-list", help="the same to validate on")
    parser.add_argument(
        "--val-split", choices=("train", "val"), default="val", help="where --val-list's images are"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args(arguments)
    cfg = cli.load_config(args)
    folder_of(cfg, args.folder).use(
        cfg, args.classes, args.train_list, args.val_list, args.val_split
    )
    train(cfg, args.resume, contents=not args.skip_data_check)
