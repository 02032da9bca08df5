"""Train a config of `configs/coco_folder` on a COCO-format folder, named once.

    python tools/train_folder.py CONFIG FOLDER [--classes A B …] [--work-dir DIR] [--resume]

FOLDER holds images/{train,val}/ and annotations/instances_{train,val}.json.
"""

from normfix_mm import cli, preflight, resuming
from normfix_mm.datasets.coco_folder import use_coco_folder


def main() -> None:
    parser = cli.parser("Train a detector on a COCO-format folder")
    parser.add_argument("folder", help="holds images/{train,val} and annotations/")
    parser.add_argument("--classes", nargs="+", help="default: all classes of the annotations")
    parser.add_argument("--train-json", help="instead of annotations/instances_train.json")
    parser.add_argument("--val-json", help="instead of annotations/instances_val.json")
    parser.add_argument("--val-images", default="images/val", help="image folder of --val-json")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    args = parser.parse_args()
    cfg = cli.load_config(args)
    try:
        use_coco_folder(
            cfg, args.folder, args.classes, args.train_json, args.val_json, args.val_images
        )
    except (FileNotFoundError, ValueError) as error:
        raise preflight.BadInput(str(error)) from None
    if args.resume:
        cfg.resume, cfg.load_from = True, resuming.latest_complete(cfg.work_dir)
    source = "`--resume`" if args.resume else "`load_from`"
    preflight.check(cfg, ("train", "val"), source)
    cli.build_runner(cfg).train()


if __name__ == "__main__":
    cli.run(main)
