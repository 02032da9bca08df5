"""A folder of images and label images as the data of a segmentation config.

FOLDER/images/{train,val}/NAME.jpg    FOLDER/labels/{train,val}/NAME.png

A label image has one channel: the class number 0, 1, … of each pixel, 255 where it does not count.
Files whose names begin with a dot are none, as for MMSegmentation: macOS leaves such beside others.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.folder import (
    ALL,
    Folder,
    Split,
    lines_of,
    refuse_part,
    refuse_unlistable,
)
from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of
from normfix_mm.errors import BadInput

if TYPE_CHECKING:
    from mmengine.config import Config

IGNORED = 255
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
LABELS = (".png",)
_INNER = 0.1  # of a class's pixels lie inside of it, however thin it is; of a picture's shade, none
_MANY = 8  # so few numbers are no shades


class SegFolder(Folder):
    """Images, and the class of each of their pixels."""

    layout = "a segmentation folder has images/{train,val} and labels/{train,val}"

    def parts(self, split: Split) -> list[Path]:
        folders = [self.root / kind / split.name for kind in ("images", "labels")]
        return [*folders, split.list] if split.list else folders

    def classes(self, split: Split) -> Sequence[str]:
        return [str(k) for k in range(_count(self.root / "labels" / split.name))]

    def settings(self, split: Split, classes: Sequence[str], cfg: Config) -> dict:
        labels = self.root / "labels" / split.name
        return dict(
            ann_file=str(split.list or ""),
            data_prefix=dict(img_path=f"images/{split.name}", seg_map_path=f"labels/{split.name}"),
            img_suffix=_suffix(self.root / "images" / split.name, SUFFIXES),
            seg_map_suffix=_suffix(labels, LABELS) if any(visible(labels, LABELS)) else LABELS[0],
        )

    def set_evaluators(self, cfg: Config) -> None:
        """Label images are compared with those that the dataset loads."""

    def pictures(self, split: Split) -> set[str]:
        return {f"images/{split.name}/{name}" for name in self._names(split)}

    def training_images(self, train: Split = ALL) -> list:
        folder = self.root / "images/train"
        if not folder.is_dir():
            refuse_part(self.root)
            raise BadInput(f"{folder} does not exist; {self.layout}.")
        _suffix(folder, SUFFIXES)
        return self._names(train)

    def write_list(self, out: Path, name: str, chosen: set, train: Split = ALL) -> Path:
        refuse_unlistable(chosen)
        with replacing(out / f"{name}.txt") as part:
            part.write_text("".join(f"{each}\n" for each in sorted(chosen)), encoding="utf-8")
        return out / f"{name}.txt"

    def _check(self, *splits: Split) -> None:
        refuse_part(self.root)
        super()._check(*splits)

    def _names(self, split: Split) -> list[str]:
        """The images of a split, as a list names them: without endings."""
        if split.list is not None:
            return lines_of(split.list)
        folder = self.root / "images" / split.name
        files = visible(folder, SUFFIXES)
        return [path.relative_to(folder).with_suffix("").as_posix() for path in files]


def visible(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files that end so, in folders of the folder, too; none that is hidden, or lies hidden.

    Links to folders are followed, as by MMSegmentation.
    """
    yield from sorted(path for path in _files(folder) if path.suffix.lower() in suffixes)


def _files(folder: Path, above: tuple[str, ...] = ()) -> Iterator[Path]:
    real = os.path.realpath(folder)
    for entry in os.scandir(folder) if real not in above else ():  # a link back has no end
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(Path(entry.path), (*above, real))
        else:
            yield Path(entry.path)


def _suffix(folder: Path, suffixes: Sequence[str]) -> str:
    found = sorted({path.suffix for path in visible(folder, suffixes)})
    if len(found) != 1:
        kinds = ", ".join(found) or f"none of {', '.join(suffixes)}"
        raise BadInput(f"{folder} has images ending in {kinds}; give images of one kind.")
    return found[0]


def _count(folder: Path) -> int:
    """One more than the largest label, if the labels look like class numbers."""
    known = recall("numbers in labels", folder)
    found: dict[str, list] = {}
    for path in visible(folder, LABELS):
        name, stamp = path.relative_to(folder).as_posix(), stamp_of(path)
        kept = known.get(name)
        found[name] = [kept[0] if kept and kept[1] == stamp else _numbers(path), stamp]
    kept = {name: each for name, each in found.items() if settled(each[1])}
    remember(kept, "numbers in labels", folder)
    pixels: Counter[int] = Counter()
    inner: Counter[int] = Counter()
    for numbers, _ in found.values():
        for number, count, within in numbers:
            pixels[number] += count
            inner[number] += within
    count = 1 + max(pixels, default=-1)
    if not count:
        raise BadInput(f"{folder} has no .png file with a label other than {IGNORED}.")
    if count == 1:
        raise BadInput(
            f"The labels of {folder} hold no class but 0, beside {IGNORED}, which does not count; "
            "write the class numbers 0, 1, … (of a mask of 0 and 255: 0 and 1)."
        )
    thin = sum(inner[number] < pixels[number] * _INNER for number in pixels)
    if count >= _MANY and (len(pixels) * 2 < count or thin * 2 > len(pixels)):
        raise BadInput(
            f"The labels of {folder} hold {len(pixels)} numbers up to {count - 1}"
            + (f", {thin} of them on scattered pixels alone" if thin else "")
            + ", which look like the shades of a picture, as after JPEG or a resizing that is not "
            "by nearest neighbour, and not like class numbers 0, 1, …; write these, or, if they "
            "are so many classes, name them with --classes."
        )
    return count


def _numbers(path: Path) -> list[list[int]]:
    """Each class number, on how many pixels, and on how many whose right and lower ones have it."""
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except (OSError, SyntaxError, UnidentifiedImageError) as error:
        raise BadInput(f"{path} cannot be read ({error}); write it again.") from None
    if labels.ndim != 2 or labels.dtype not in (np.uint8, np.bool_):
        raise BadInput(
            f"{path} is no label image: it has {labels.dtype} of shape {labels.shape}, not one "
            "channel of 8 bits; write the class numbers so."
        )
    labels = labels.astype(np.uint8)
    corner = labels[:-1, :-1]
    within = corner[(corner == labels[1:, :-1]) & (corner == labels[:-1, 1:])]
    pixels, inner = (np.bincount(each.ravel(), minlength=256) for each in (labels, within))
    there = [int(number) for number in np.flatnonzero(pixels) if number != IGNORED]
    return [[number, int(pixels[number]), int(inner[number])] for number in there]
