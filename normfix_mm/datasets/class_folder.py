"""A folder of images by class as the data of a classification config: path given once.

FOLDER/{train,val}/CLASS/NAME.jpg

or, without `train` and `val`, FOLDER/CLASS/NAME.jpg: then every fifth image of each class, drawn
once and for all, is for validation. Which image is of which class stands in lists in the run's work
dir, a path and a class number in each line, as MMPretrain's CustomDataset reads them. Files and
folders whose names begin with a dot are none.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.coco_folder import drawn, set_num_classes
from normfix_mm.errors import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FOR_VALIDATION = 5  # of a folder without a split, one image in so many
LAYOUT = "a classification folder has {train,val}/CLASS/, or CLASS/, with the images of each class"

Labelled = tuple[str, int]  # an image's path below its part of the folder, its class number


class ClassFolder:
    """A folder with a folder of images for each class.

    Attributes:
        root: the folder.
        halves: whether it has `train` and `val`.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().resolve()
        there = [part for part in ("train", "val") if (self.root / part).is_dir()]
        self.halves = len(there) == 2
        if not self.root.is_dir() or len(there) == 1:
            lacking = next((p for p in ("train", "val") if p not in there), "") if there else ""
            raise BadInput(f"{self.root / lacking} does not exist; {LAYOUT}.")

    def part(self, name: str) -> Path:
        """Where the images of 'train' or 'val' lie."""
        return self.root / name if self.halves else self.root

    def classes(self) -> list[str]:
        """The class folders of the training images, sorted.

        Raises:
            BadInput: Fewer than two.
        """
        return _class_folders(self.part("train"))

    def images(self, name: str, classes: Sequence[str]) -> list[Labelled]:
        """The images of 'train' or 'val'.

        Raises:
            BadInput: A class without a folder or image, or a folder of no class.
        """
        if self.halves and name == "val":
            self._check_same_classes()
        images = _images(self.part(name), classes)
        if self.halves:
            return images
        held = set()
        for number, of in enumerate(classes):
            paths = sorted(path for path, label in images if label == number)
            if len(paths) < 2:
                raise BadInput(f"{self.root / of} has one image; give at least two, one to test.")
            count = max(1, len(paths) // FOR_VALIDATION)
            held |= set(random.Random(0).sample(paths, count))
        return [image for image in images if (image[0] in held) == (name == "val")]

    def _check_same_classes(self) -> None:
        train, val = (set(_class_folders(self.part(name))) for name in ("train", "val"))
        if val - train:
            raise BadInput(
                f"{self.part('val')} has a class {min(val - train)!r} that {self.part('train')} "
                "does not have; give both the same class folders."
            )


def use_folder(
    cfg: Config,
    root: str | Path,
    classes: Sequence[str] | None = None,
    train_list: str | Path | None = None,
    val_list: str | Path | None = None,
    val_split: str = "val",
) -> Config:
    """Point every part of `cfg` that depends on the data at the folder, in place.

    Sets the dataloaders' root, lists and class names, every `num_classes` of the model, and among
    few classes fewer best guesses that are counted (no top-5 of three).

    Args:
        cfg: a classification config with train_dataloader, val_dataloader and evaluators.
        root: the folder.
        classes: names of class folders in the order of the labels; by default all, sorted.
        train_list, val_list: lists of PATH NUMBER lines, for a split of one's own; paths are
            below the folder's train and val, or below the folder if it has none.
        val_split: 'train' if the images of `val_list` are among those of the train folder.

    Raises:
        BadInput: A folder or file is absent or not as it should be, or has not these classes.
    """
    folder = ClassFolder(root)
    classes = tuple(classes or folder.classes())
    work_dir = Path(cfg.get("work_dir") or ".").resolve()
    for part, given, split in (("train", train_list, "train"), ("val", val_list, val_split)):
        path = Path(given).resolve() if given else work_dir / f"{part}_images.txt"
        if given is None:
            write_list(path, folder.images(part, classes))
        elif not path.is_file():
            raise BadInput(f"{path} does not exist; give a list of PATH NUMBER lines.")
        for loader in (part, "test") if part == "val" else (part,):
            cfg[f"{loader}_dataloader"].dataset.update(
                data_root=str(folder.part(split)),
                data_prefix=dict(img_path=""),
                ann_file=str(path),
                metainfo=dict(classes=classes),
            )
    set_num_classes(cfg.model, len(classes))
    _limit_guesses(cfg, len(classes))
    return cfg


def hold_out(root: Path, out: Path, count: int) -> tuple[Path, Path]:
    """Lists in `out` of a split of the training images: all but `count`, and those.

    Raises:
        BadInput: No training images.
        ValueError: Fewer than twice `count`.
    """
    folder = ClassFolder(root)
    images = folder.images("train", folder.classes())
    held = drawn([path for path, _ in images], count, folder.root)
    paths = out / "rest.txt", out / "held_out.txt"
    for path, inside in zip(paths, (False, True)):
        write_list(path, [image for image in images if (image[0] in held) == inside])
    return paths


def write_list(path: Path, images: Sequence[Labelled]) -> None:
    """Write PATH NUMBER lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text("".join(f"{name} {label}\n" for name, label in images), encoding="utf-8")


def _class_folders(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise BadInput(f"{folder} has {len(names)} folders with images, not two or more; {LAYOUT}.")
    return names


def _images(folder: Path, classes: Sequence[str]) -> list[Labelled]:
    images = []
    for number, name in enumerate(classes):
        if not (folder / name).is_dir():
            there = ", ".join(_class_folders(folder))
            raise BadInput(f"{folder} has no class folder {name!r}; it has {there}.")
        paths = [
            path
            for path in sorted((folder / name).rglob("*"))
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        ]
        if not paths:
            raise BadInput(f"{folder / name} has no image that ends in {', '.join(SUFFIXES)}.")
        images += [(path.relative_to(folder).as_posix(), number) for path in paths]
    return images


def _limit_guesses(cfg: Config, classes: int) -> None:
    parts = [cfg.model.get("head", {})]
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        parts += evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
    for part in parts:
        if "topk" in part:
            given = part["topk"] if isinstance(part["topk"], (list, tuple)) else [part["topk"]]
            part["topk"] = tuple(k for k in given if k < classes) or (1,)
