"""A COCO-format folder as the data of a detection config: path and classes given once.

FOLDER/images/{train,val}/…            FOLDER/annotations/instances_{train,val}.json
"""

import json
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config


def use_coco_folder(
    cfg: Config,
    root: str | Path,
    classes: Sequence[str] | None = None,
    train_json: str | Path | None = None,
    val_json: str | Path | None = None,
    val_images: str = "images/val",
) -> Config:
    """Point every part of `cfg` that depends on the data at the folder, in place.

    Sets both dataloaders' root, files and class names, the evaluators' annotation file and every
    `num_classes` in the model.

    Args:
        cfg: a detection config with train_dataloader, val_dataloader and evaluators.
        root: the folder.
        classes: names in the order of the labels; by default all categories of the annotations.
        train_json, val_json, val_images: other annotations, or another image folder, than the
            standard ones, for a split of one's own.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: a class that the annotations do not have.
    """
    root = Path(root).expanduser().resolve()
    train_json = Path(train_json or root / "annotations/instances_train.json").resolve()
    val_json = Path(val_json or root / "annotations/instances_val.json").resolve()
    for path in (root / "images/train", root / val_images, train_json, val_json):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; a COCO-format folder has images/{{train,val}} and "
                "annotations/instances_{train,val}.json."
            )
    there = [category["name"] for category in json.loads(train_json.read_text())["categories"]]
    classes = tuple(classes or there)
    missing = [name for name in classes if name not in there]
    if missing:
        raise ValueError(f"{train_json} has no class {missing[0]!r}; it has {', '.join(there)}.")

    for loader, ann_file, images in (
        (cfg.train_dataloader, train_json, "images/train"),
        (cfg.val_dataloader, val_json, val_images),
        (cfg.test_dataloader, val_json, val_images),
    ):
        loader.dataset.update(
            data_root=str(root),
            ann_file=str(ann_file),
            data_prefix=dict(img=f"{images}/"),
            metainfo=dict(classes=classes),
        )
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(val_json)
    _set_num_classes(cfg.model, len(classes))
    return cfg


def _set_num_classes(node, count: int) -> None:
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = count
        for child in node.values():
            _set_num_classes(child, count)
    elif isinstance(node, (list, tuple)):
        for child in node:
            _set_num_classes(child, count)
