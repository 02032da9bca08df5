"""A folder of images and label images as the data of a segmentation config: path given once.

FOLDER/images/{train,val}/NAME.jpg    FOLDER/labels/{train,val}/NAME.png

A label image has one channel: the class number 0, 1, … of each pixel, 255 where it does not count.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image, UnidentifiedImageError

from normfix_mm.datasets.coco_folder import drawn, set_num_classes

IGNORED = 255
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def use_folder(
    cfg: Config,
    root: str | Path,
    classes: Sequence[str] | None = None,
    train_list: str | Path | None = None,
    val_list: str | Path | None = None,
    val_split: str = "val",
) -> Config:
    """Point every part of `cfg` that depends on the data at the folder, in place.

    Sets the dataloaders' root, folders, file endings and class names, and every `num_classes` in
    the model.

    Args:
        cfg: a segmentation config with train_dataloader, val_dataloader and evaluators.
        root: the folder.
        classes: names in the order of the labels; by default the numbers that the labels of
            labels/train hold.
        train_list, val_list: text files with a NAME a line, for a split of one's own.
        val_split: 'train' if the images of `val_list` are among those of images/train.

    Raises:
        FileNotFoundError: no such folder or file.
        ValueError: images of several endings, or label images that cannot be read.
    """
    root = Path(root).expanduser().resolve()
    lists = [Path(path).resolve() if path else None for path in (train_list, val_list)]
    folders = [root / kind / part for part in ("train", val_split) for kind in ("images", "labels")]
    for path in (*folders, *filter(None, lists)):
        if not path.exists():
            raise FileNotFoundError(
                f"{path} does not exist; a segmentation folder has images/{{train,val}} and "
                "labels/{train,val}."
            )
    classes = tuple(classes or map(str, range(_count(root / "labels/train"))))
    for loader, part, names in (
        (cfg.train_dataloader, "train", lists[0]),
        (cfg.val_dataloader, val_split, lists[1]),
        (cfg.test_dataloader, val_split, lists[1]),
    ):
        loader.dataset.update(
            data_root=str(root),
            ann_file=str(names or ""),
            data_prefix=dict(img_path=f"images/{part}", seg_map_path=f"labels/{part}"),
            img_suffix=_suffix(root / "images" / part),
            seg_map_suffix=".png",
            metainfo=dict(classes=classes),
        )
    set_num_classes(cfg.model, len(classes))
    return cfg


def hold_out(root: Path, out: Path, count: int) -> tuple[Path, Path]:
    """Lists in `out` of a split of the training images: all but `count`, and those.

    Raises:
        FileNotFoundError: no training images.
        ValueError: fewer than twice `count`, or images of several endings.
    """
    folder = root / "images/train"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder} does not exist; a segmentation folder has images/{{train,val}} and "
            "labels/{train,val}."
        )
    _suffix(folder)
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in _images(folder)]
    held = drawn(names, count, folder)
    paths = out / "rest.txt", out / "held_out.txt"
    for path, part in zip(paths, (set(names) - held, held)):
        path.write_text("".join(f"{name}\n" for name in sorted(part)))
    return paths


def _images(folder: Path) -> list[Path]:
    """In folders of the folder, too, as MMSegmentation reads them."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _suffix(folder: Path) -> str:
    found = sorted({path.suffix for path in _images(folder)})
    if len(found) != 1:
        kinds = ", ".join(found) or f"none of {', '.join(SUFFIXES)}"
        raise ValueError(f"{folder} has images ending in {kinds}; give images of one kind.")
    return found[0]


def _count(folder: Path) -> int:
    """One more than the largest label."""
    count = 0
    for path in sorted(folder.rglob("*.png")):
        try:
            with Image.open(path) as image:
                labels = np.asarray(image)
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{path} cannot be read ({error}); write it again.") from None
        if labels.ndim != 2 or labels.dtype not in (np.uint8, np.bool_):
            raise ValueError(
                f"{path} is no label image: it has {labels.dtype} of shape {labels.shape}, not one "
                "channel of 8 bits; write the class numbers so."
            )
        classes = labels[labels != IGNORED]
        count = max(count, int(classes.max()) + 1 if classes.size else 0)
    if not count:
        raise ValueError(f"{folder} has no .png file with a label other than {IGNORED}.")
    if count == 1:
        raise ValueError(
            f"The labels of {folder} hold no class but 0, beside {IGNORED}, which does not count; "
            "write the class numbers 0, 1, … (of a mask of 0 and 255: 0 and 1)."
        )
    return count
