"""A folder of images by class as the data of a classification config.

FOLDER/{train,val}/CLASS/NAME.jpg

or, without `train` and `val`, FOLDER/CLASS/NAME.jpg: then a fifth of the images of each class is
for validation, those whose paths have the least hashes, so that an image that is added later moves
one other at most. Which image is of which class stands in lists in the run's work dir, a path and a
class number in each line, as MMPretrain's CustomDataset reads them. Files and folders whose names
begin with a dot are none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.folder import ALL, Folder, Split, drawn, lines_of, refuse_unlistable
from normfix_mm.datasets.seg_folder import SUFFIXES, visible
from normfix_mm.errors import BadInput, listing

if TYPE_CHECKING:
    from mmengine.config import Config

_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")

Labelled = tuple[str, int]  # an image's path below its part of the folder, its class number


class ClassFolder(Folder):
    """A folder with a folder of images for each class.

    Attributes:
        halves: whether it has `train` and `val`.
    """

    layout = "a classification folder has {train,val}/CLASS/, or CLASS/, with images in each"

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self.halves = any((self.root / part).is_dir() for part in ("train", "val"))

    def parts(self, split: Split) -> list[Path]:
        folder = self._part(split.name)
        return [folder, split.list] if split.list else [folder]

    def classes(self, split: Split) -> Sequence[str]:
        return _class_folders(self._part("train"))

    def settings(self, split: Split, classes: Sequence[str], cfg: Config) -> dict:
        path = split.list
        if path is None:
            folder = Path(cfg.get("work_dir") or "work_dirs") / "images"
            told = hashlib.sha256(repr((str(self.root), tuple(classes))).encode()).hexdigest()[:8]
            name = f"{self.root.name}_{told}_{split.name}.txt"  # one's own, whoever shares the dir
            path = self._write(folder / name, self.images(split.name, classes))
        prefix = split.name if self.halves else ""
        return dict(ann_file=str(path), data_prefix=dict(img_path=prefix))

    def set_evaluators(self, cfg: Config) -> None:
        """Among few classes count fewer best guesses: there is no top-5 of three."""
        count = len(cfg.train_dataloader.dataset.metainfo["classes"])
        parts = [cfg.model.get("head", {})]
        for evaluator in filter(None, map(cfg.get, ("val_evaluator", "test_evaluator"))):
            parts += evaluator if isinstance(evaluator, (list, tuple)) else [evaluator]
        for part in parts:
            if "topk" in part:
                given = part["topk"] if isinstance(part["topk"], (list, tuple)) else [part["topk"]]
                part["topk"] = tuple(k for k in given if k < count) or (1,)

    def pictures(self, split: Split) -> set[str]:
        below = f"{split.name}/" if self.halves else ""
        if split.list is None:
            images = self.images(split.name, self.classes(Split("train", None)))
        else:
            images = _listed(split.list)
        return {below + name for name, _ in images}

    def training_images(self, train: Split = ALL) -> list:
        self._check(train)
        if train.list is not None:
            return _listed(train.list)
        return self.images("train", self.classes(train))

    def write_list(self, out: Path, name: str, chosen: set, train: Split = ALL) -> Path:
        return self._write(out / f"{name}.txt", chosen)

    def images(self, name: str, classes: Sequence[str]) -> list[Labelled]:
        """The images of 'train' or 'val', with the numbers of their classes.

        Raises:
            BadInput: A class without a folder or image, or a folder of no class.
        """
        if self.halves:
            if name == "val":
                self._refuse_unknown()
            return _images(self._part(name), classes)
        images = _images(self.root, classes)
        held: set[Labelled] = set()
        for number, of in enumerate(classes):
            there = [path for path, label in images if label == number]
            if len(there) < 2:
                raise BadInput(f"{self.root / of} has one image; give at least two, one to test.")
            held |= {(path, number) for path in drawn(there)}
        return [image for image in images if (image in held) == (name == "val")]

    def _part(self, name: str) -> Path:
        return self.root / name if self.halves else self.root

    def _refuse_unknown(self) -> None:
        train, val = (set(_class_folders(self._part(name))) for name in ("train", "val"))
        if val - train:
            raise BadInput(
                f"{self._part('val')} has a class {min(val - train)!r} that {self._part('train')} "
                "does not have; give both the same class folders."
            )

    @staticmethod
    def _write(path: Path, images: Collection[Labelled]) -> Path:
        path = path.resolve()
        refuse_unlistable(name for name, _ in images)
        with replacing(path) as part:
            text = "".join(f"{name} {label}\n" for name, label in sorted(images))
            part.write_text(text, encoding="utf-8")
        return path


def _listed(path: Path) -> list[Labelled]:
    """The images of a list, a path and a class number in each line.

    Raises:
        BadInput: A line is not so.
    """
    pairs = [line.rpartition(" ") for line in lines_of(path)]
    for name, _, number in pairs:
        if not name or not number.isdecimal():
            line = f"{name} {number}".strip()
            raise BadInput(f"{path} has a line {line!r}; write a path and a class number in each.")
    return [(name, int(number)) for name, _, number in pairs]


def _class_folders(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    parts = [name for name in names if name.casefold() in _PARTS]
    if len(parts) > len(names) // 2:
        raise BadInput(
            f"{folder} has the folders {listing(names)}, which are parts of a data set and no "
            f"classes; name them train and val: {ClassFolder.layout}."
        )
    if len(names) < 2:
        raise BadInput(f"{folder} has {len(names)} folders, not two or more; {ClassFolder.layout}.")
    return names


def _images(folder: Path, classes: Sequence[str]) -> list[Labelled]:
    images = []
    for number, name in enumerate(classes):
        outside = Path(name).is_absolute() or ".." in Path(name).parts
        if outside or not (folder / name).is_dir():
            there = listing(_class_folders(folder))
            raise BadInput(f"{folder} has no class folder {name!r}; it has {there}.")
        paths = list(visible(folder / name, SUFFIXES))
        parts = {path.relative_to(folder / name).parts[0] for path in paths}
        if paths and all(part.casefold() in _PARTS for part in parts):
            raise BadInput(
                f"{folder / name} holds {listing(sorted(parts))}: a class within which the images "
                f"are parted; put the parts above the classes: {ClassFolder.layout}."
            )
        if not paths:
            raise BadInput(f"{folder / name} has no image that ends in {', '.join(SUFFIXES)}.")
        images += [(path.relative_to(folder).as_posix(), number) for path in paths]
    return images
