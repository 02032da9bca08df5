"""Cityscapes' folder: whether it is whole, and the label files that training and evaluation read.

    leftImg8bit/{train,val,test}/CITY/CITY_…_leftImg8bit.png
    gtFine/{train,val}/CITY/CITY_…_gtFine_{polygons.json,labelIds.png,instanceIds.png}

is what leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip hold. Training reads
``*_gtFine_labelTrainIds.png``, with classes 0 to 18 and 255 for what does not count. Label ids come
from ``*_labelIds.png``, which the benchmark evaluates on, and from the polygons where there is none
(the files and polygons drawn anew differ along edges). cityscapesScripts knows the ids and draws.
"""

from __future__ import annotations

import contextlib
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

from normfix_mm.preflight import BadInput, listed, one_line

WHOLE = {"train": 2975, "val": 500, "test": 1525}  # images
LABELLED = ("train", "val")
CLASSES = 19
IGNORED = 255
_IMAGE, _TRUTH = "_leftImg8bit.png", "_gtFine_"
_TRAINING, _IDS, _INSTANCES, _POLYGONS = (
    "labelTrainIds.png",
    "labelIds.png",
    "instanceIds.png",
    "polygons.json",
)
_ALONE = 32  # so few images are not worth a second process


@dataclass(frozen=True)
class Picture:
    """An image, and where its annotations stand: `truth` + 'labelIds.png' and so on."""

    image: Path
    truth: str
    instances: bool  # whether the evaluation of single instances needs its file


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


def pictures(root: str | Path) -> dict[str, list[Picture]]:
    """The images of each split, sorted; 'test' only if it is there.

    Raises:
        BadInput: The folder has another layout, or images and annotations are not of each other.
    """
    root = Path(root).expanduser()
    _check_top(root)
    found = {}
    for split in WHOLE:
        folder = root / "leftImg8bit" / split
        images = sorted(folder.glob(f"*/*{_IMAGE}"))
        if split not in LABELLED:
            if images:
                found[split] = [Picture(image, "", False) for image in images]
            continue
        if not images:
            raise BadInput(
                f"{folder} {'holds no CITY/*' + _IMAGE if folder.is_dir() else 'does not exist'}; "
                "extract leftImg8bit_trainvaltest.zip once more."
            )
        truths = root / "gtFine" / split
        there = {
            f"{path.parent.name}/{path.name.removesuffix(kind)}"
            for kind in (_POLYGONS, _IDS)
            for path in truths.glob(f"*/*{_TRUTH}{kind}")
        }
        names = {
            image: f"{image.parent.name}/{image.name.removesuffix(_IMAGE)}{_TRUTH}"
            for image in images
        }
        _check_pairs(names, there, truths)
        found[split] = [
            Picture(image, str(truths / name), split == "val") for image, name in names.items()
        ]
    return found


def _check_top(root: Path) -> None:
    if not root.is_dir():
        raise BadInput(f"The folder {str(root)!r} does not exist; give that of leftImg8bit/.")
    for part in ("leftImg8bit", "gtFine"):
        if (root / part).is_dir():
            continue
        archives = sorted(path.name for path in root.glob(f"{part}*.zip"))
        if archives:
            raise BadInput(
                f"{root} holds {archives[0]} but no {part}/: the archive is not extracted; "
                f"run `unzip {archives[0]}` in that folder."
            )
        for level in ("*", "*/*"):
            for inner in sorted(root.glob(f"{level}/{part}")):
                raise BadInput(
                    f"{part}/ is not in {root} but in {inner.parent}; give the folder that holds "
                    "both leftImg8bit/ and gtFine/, or move it there."
                )
        if root.name in ("leftImg8bit", "gtFine"):
            raise BadInput(f"{root} is one part of Cityscapes; give its parent, {root.parent}.")
        raise BadInput(
            f"{root} has no {part}/; extract {part}_trainvaltest.zip of cityscapes-dataset.com "
            "there."
        )


def _check_pairs(names: dict[Path, str], there: set[str], truths: Path) -> None:
    bare = [image for image, name in names.items() if name not in there]
    if bare:
        raise BadInput(
            f"{len(bare)} of {len(names)} images have no annotation under {truths}, first "
            f"{bare[0].name}; extract gtFine_trainvaltest.zip once more."
        )
    lost = sorted(there - set(names.values()))
    if lost:
        raise BadInput(
            f"{len(lost)} of {len(there)} annotations under {truths} have no image, first "
            f"{lost[0]}*; extract leftImg8bit_trainvaltest.zip once more."
        )


# -- one image ----------------------------------------------------------------------------------


def _prepare(picture: Picture, table: np.ndarray) -> bool:
    """Whether the training's label file had to be written."""
    size = _image_size(picture.image)
    goal = Path(picture.truth + _TRAINING)
    ids = Path(picture.truth + _IDS)
    if not ids.is_file():
        _save(_draw(picture, "json2labelImg", "createLabelImage"), ids)
    instances = Path(picture.truth + _INSTANCES)
    drawable = Path(picture.truth + _POLYGONS).is_file()
    if picture.instances and drawable and not instances.is_file():
        drawn = np.asarray(_draw(picture, "json2instanceImg", "createInstanceImage"))
        # Of 32 bits, which Pillow 13 no longer writes; the numbers end at 33999.
        _save(Image.fromarray(drawn.astype(np.uint16)), instances)
    if goal.is_file() and _is_right(goal, size):
        return False
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
    _save(Image.fromarray(table[values]), goal)
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


def _is_right(path: Path, size: tuple[int, int]) -> bool:
    """Whether this is a label file for training, of the image's size."""
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except Exception:  # half-written by something else: it is written again
        return False
    if values.shape != size[::-1] or values.dtype != np.uint8:
        return False
    return not set(np.flatnonzero(np.bincount(values.ravel()))) - {*range(CLASSES), IGNORED}


def _draw(picture: Picture, module: str, function: str) -> Image.Image:
    """Label or instance ids of the polygons, by cityscapesScripts."""
    path = picture.truth + _POLYGONS
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
            f"{path} has labels that Cityscapes does not know ({listed(unknown)}); extract "
            "gtFine_trainvaltest.zip once more."
        )
    return getattr(scripts(f"preparation.{module}"), function)(annotation, "ids")


def _save(image: Image.Image, path: Path) -> None:
    part = path.with_name(f"{path.name}.part")
    try:
        image.save(part, format="PNG")
        part.replace(path)
    except OSError as error:
        raise BadInput(
            f"{path} cannot be written ({one_line(error, 120)}); free space on the disk, or make "
            "the folder writable."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()


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
            f"Cityscapes needs cityscapesScripts ({one_line(error, 80)}); run `make setup`, or pip "
            "install --no-deps cityscapesscripts pyquaternion."
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
