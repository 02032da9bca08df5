"""Cityscapes' images and labels: whether they are whole, and the files that training reads.

Training reads ``*_gtFine_labelTrainIds.png``, with classes 0 to 18 and 255 for what does not count.
Label ids come from ``*_labelIds.png``, which the benchmark evaluates on, and where there is none
from the polygons (the files and polygons drawn anew differ along edges). cityscapesScripts knows
the ids and draws.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.cityscapes_layout import IDS, LABELLED, POLYGONS, Picture, pictures
from normfix_mm.errors import BadInput, one_line, quoted

CLASSES = 19
IGNORED = 255
_TRAINING, _INSTANCES = "labelTrainIds.png", "instanceIds.png"
_ALONE = 32  # so few images are not worth a second process


@dataclass(frozen=True)
class Split:
    """What was found and done in one of WHOLE."""

    name: str
    images: int
    cities: int
    written: int  # label files for training, those that were there already not counted


def prepare(root: str | Path, workers: int | None = None) -> Iterator[Split]:
    """Check the folder, write the label files that are missing, check them all; split by split.

    Each file is written whole or not at all, and what is there and right stays: call it again after
    an interruption. Nothing is written before the layout of the whole folder is found right.

    Args:
        root: folder that holds leftImg8bit/ and gtFine/.
        workers: processes; by default as many as there are cores.

    Raises:
        BadInput: The first thing that is wrong.
    """
    table = training_ids()
    splits = pictures(root)
    workers = workers or _cores()
    for name, found in splits.items():
        work = partial(_prepare, table=table) if name in LABELLED else _check_image
        cities = len({picture.image.parent for picture in found})
        written = sum(_each(work, found, workers))
        yield Split(name, len(found), cities, written)


# -- one image ----------------------------------------------------------------------------------


def _prepare(picture: Picture, table: np.ndarray) -> bool:
    """Whether the training's label file had to be written."""
    size = _image_size(picture.image)
    goal = Path(picture.truth + _TRAINING)
    ids = Path(picture.truth + IDS)
    if not ids.is_file():
        _save(_draw(picture, "json2labelImg", "createLabelImage"), ids)
    instances = Path(picture.truth + _INSTANCES)
    drawable = Path(picture.truth + POLYGONS).is_file()
    if picture.instances and drawable and not instances.is_file():
        drawn = np.asarray(_draw(picture, "json2instanceImg", "createInstanceImage"))
        # Of 32 bits, which Pillow 13 no longer writes; the numbers end at 33999.
        _save(Image.fromarray(drawn.astype(np.uint16)), instances)
    if picture.instances and instances.is_file():
        _image_size(instances)
    labels = _read(ids)
    if labels.size != size:
        raise BadInput(
            f"{ids} has {labels.width}x{labels.height} pixels, its image {size[0]}x{size[1]}; "
            "extract both archives once more."
        )
    values = np.asarray(labels)
    if values.ndim != 2 or values.dtype != np.uint8 or values.max() >= len(table):
        raise BadInput(
            f"{ids} is no image of label ids from 0 to {len(table) - 1}; extract "
            "gtFine_trainvaltest.zip once more."
        )
    classes = table[values]
    if goal.is_file() and _holds(goal, classes):
        return False
    _save(Image.fromarray(classes), goal)
    return True


def _check_image(picture: Picture) -> bool:
    _image_size(picture.image)
    return False


def _image_size(path: Path) -> tuple[int, int]:
    """Width and height, from a file whose checksums are right."""
    try:
        with Image.open(path) as image:
            size = image.size
            image.verify()
        return size
    except Exception as error:  # Pillow has many
        raise _unreadable(path, error) from None


def _read(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except Exception as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> BadInput:
    return BadInput(
        f"{path} cannot be read ({one_line(error, 120)}); it was probably cut off while being "
        "copied: extract its archive once more."
    )


def _holds(path: Path, classes: np.ndarray) -> bool:
    """Whether there is a label file at `path` that holds these classes."""
    try:
        with Image.open(path) as image:
            return np.array_equal(np.asarray(image), classes)
    except Exception:  # half-written by something else: it is written again
        return False


def _draw(picture: Picture, module: str, function: str) -> Image.Image:
    """Label or instance ids of the polygons, by cityscapesScripts."""
    path = picture.truth + POLYGONS
    annotation = scripts("helpers.annotation").Annotation()
    names = scripts("helpers.labels").name2label
    try:
        annotation.fromJsonFile(path)
        labels = {obj.label for obj in annotation.objects if not obj.deleted}
    except Exception as error:
        raise _unreadable(Path(path), error) from None
    unknown = sorted(n for n in labels if n not in names and n.removesuffix("group") not in names)
    if unknown:  # at which cityscapesScripts would end the process
        raise BadInput(
            f"{path} has labels that Cityscapes does not know ({quoted(unknown)}); extract "
            "gtFine_trainvaltest.zip once more."
        )
    return getattr(scripts(f"preparation.{module}"), function)(annotation, "ids")


def _save(image: Image.Image, path: Path) -> None:
    try:
        with replacing(path) as part:
            image.save(part, format="PNG")
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({one_line(error, 120)}); free space on the disk, or make "
            "the folder writable."
        ) from None


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


def _each(work: Callable[[Picture], bool], items: list[Picture], workers: int) -> list[bool]:
    if workers < 2 or len(items) <= _ALONE:
        return [work(item) for item in items]
    with ProcessPoolExecutor(workers) as pool:
        try:
            return list(pool.map(work, items, chunksize=8))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# -- what cityscapesScripts knows ---------------------------------------------------------------


def scripts(module: str) -> ModuleType:
    """A module of cityscapesScripts.

    Raises:
        BadInput: It is not installed.
    """
    try:
        return importlib.import_module(f"cityscapesscripts.{module}")
    except ImportError as error:
        raise BadInput(
            f"Cityscapes needs cityscapesScripts ({one_line(error, 80)}); pip install "
            "cityscapesscripts."
        ) from None


@cache
def training_ids() -> np.ndarray:
    """The class, or 255, of each label id, shape (34,)."""
    labels = [label for label in scripts("helpers.labels").labels if label.id >= 0]
    table = np.full(max(label.id for label in labels) + 1, IGNORED, np.uint8)
    for label in labels:
        table[label.id] = label.trainId
    return table


@cache
def label_ids() -> np.ndarray:
    """The label id of each class, shape (19,)."""
    table = training_ids()
    return np.array([np.flatnonzero(table == k)[0] for k in range(CLASSES)], np.uint8)
