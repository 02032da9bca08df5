"""Train a config of `configs/coco_folder` on a COCO-format folder.

python tools/train_folder.py CONFIG FOLDER [--classes A B …] [--work-dir DIR] [--resume]
"""

import argparse
from pathlib import Path

from mmengine.config import Config, DictAction
from mmengine.runner import Runner

from normfix_mm.datasets.coco_folder import use_coco_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config")
    parser.add_argument("folder", help="holds images/{train,val} and annotations/")
    parser.add_argument("--classes", nargs="+", help="default: all classes of the annotations")
    parser.add_argument("--train-json", help="instead of annotations/instances_train.json")
    parser.add_argument("--val-json", help="instead of annotations/instances_val.json")
    parser.add_argument("--val-images", default="images/val", help="image folder of --val-json")
    parser.add_argument("--work-dir")
    parser.add_argument("--resume", action="store_true", help="continue the last checkpoint")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={})
    args = parser.parse_args()

    cfg = Config.fromfile(args.config)
    try:
        use_coco_folder(
            cfg, args.folder, args.classes, args.train_json, args.val_json, args.val_images
        )
    except (FileNotFoundError, ValueError) as error:
        parser.error(str(error))
    cfg.merge_from_dict(args.cfg_options)
    cfg.work_dir = args.work_dir or f"work_dirs/{Path(args.config).stem}"
    cfg.resume = args.resume
    Runner.from_cfg(cfg).train()


if __name__ == "__main__":
    main()
