"""A COCO-format folder as the data of a detection config: path and classes given once.

FOLDER/images/{train,val}/…            FOLDER/annotations/instances_{train,val}.json
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config


def use_folder(
    cfg: Config,
    root: str | Path,
    classes: Sequence[str] | None = None,
    train_list: str | Path | None = None,
    val_list: str | Path | None = None,
    val_split: str = "val",
) -> Config:
    """Point every part of `cfg` that depends on the data at the folder, in place.

    Sets both dataloaders' root, files and class names, the evaluators' annotation file and every
    `num_classes` in the model.

    Args:
        cfg: a detection config with train_dataloader, val_dataloader and evaluators.
        root: the folder.
        classes: names in the order of the labels; by default all categories of the annotations.
        train_list, val_list: other annotations than the standard ones, for a split of one's own.
        val_split: 'train' if the images of `val_list` are among those of images/train.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: a class that the annotations do not have.
    """
    root = Path(root).expanduser().resolve()
    train_list = Path(train_list or root / "annotations/instances_train.json").resolve()
    val_list = Path(val_list or root / "annotations/instances_val.json").resolve()
    for path in (root / "images/train", root / "images" / val_split, train_list, val_list):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; a COCO-format folder has images/{{train,val}} and "
                "annotations/instances_{train,val}.json."
            )
    there = [category["name"] for category in json.loads(train_list.read_text())["categories"]]
    classes = tuple(classes or there)
    missing = [name for name in classes if name not in there]
    if missing:
        raise ValueError(f"{train_list} has no class {missing[0]!r}; it has {', '.join(there)}.")

    for loader, ann_file, images in (
        (cfg.train_dataloader, train_list, "images/train"),
        (cfg.val_dataloader, val_list, f"images/{val_split}"),
        (cfg.test_dataloader, val_list, f"images/{val_split}"),
    ):
        loader.dataset.update(
            data_root=str(root),
            ann_file=str(ann_file),
            data_prefix=dict(img=f"{images}/"),
            metainfo=dict(classes=classes),
        )
    cfg.val_evaluator.ann_file = cfg.test_evaluator.ann_file = str(val_list)
    set_num_classes(cfg.model, len(classes))
    return cfg


def hold_out(root: Path, out: Path, count: int) -> tuple[Path, Path]:
    """Annotations in `out` of a split of the training set: all but `count` images, and those.

    Raises:
        FileNotFoundError: no annotations.
        ValueError: fewer than twice `count` images.
    """
    path = root / "annotations/instances_train.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a folder in COCO format.")
    data = json.loads(path.read_text())
    held = drawn([image["id"] for image in data["images"]], count, path)
    paths = []
    for name, chosen in (("rest", lambda i: i not in held), ("held_out", lambda i: i in held)):
        part = data | {
            "images": [image for image in data["images"] if chosen(image["id"])],
            "annotations": [a for a in data["annotations"] if chosen(a["image_id"])],
        }
        paths.append(out / f"instances_{name}.json")
        paths[-1].write_text(json.dumps(part))
    return paths[0], paths[1]


def drawn(images: Sequence, count: int, path: Path) -> set:
    """`count` of these images, always the same; refused if that would be more than half."""
    if len(images) < 2 * count:
        raise ValueError(
            f"{path} has {len(images)} images; comparing holds {count} of them out of the trials, "
            f"and needs at least {2 * count}."
        )
    return set(random.Random(0).sample(sorted(images), count))


def set_num_classes(node, count: int) -> None:
    """Give every `num_classes` in this part of a config the value `count`."""
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = count
        for child in node.values():
            set_num_classes(child, count)
    elif isinstance(node, (list, tuple)):
        for child in node:
            set_num_classes(child, count)
