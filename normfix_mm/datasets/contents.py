"""What a folder of one's own holds: for which tasks, how many pictures, how large things are on it.

COCO annotations are for detection and, where they have masks that are more than the boxes' own
rectangles, for instances; label maps for segmentation; folders of images by class for
classification.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from normfix_mm.datasets.class_folder import ClassFolder
from normfix_mm.datasets.coco_annotations import read_annotations
from normfix_mm.datasets.coco_entries import read_json
from normfix_mm.datasets.coco_folder import CocoFolder
from normfix_mm.datasets.folder import Folder, Split, lines_of, refuse_part
from normfix_mm.datasets.seg_folder import SUFFIXES, SegFolder, visible
from normfix_mm.errors import BadInput

DETECT, INSTANCES, SEGMENT, CLASSIFY = TASKS = ("detect", "instances", "segment", "classify")
_LOOKED_AT = 200  # pictures whose sizes are read from their files
_FEW_MASKS = 0.9  # of the boxes that have to have a mask for a folder of instances
_OUTLINES = 0.5  # of the masks that have to be more than the rectangle of their box


@dataclass(frozen=True)
class Contents:
    """A folder's training part in numbers.

    Attributes:
        tasks: those that it has data for, the most telling first.
        pictures: to train on.
        width, height: of the picture in the middle.
        sides: of the objects, √(width · height) in parts of the picture's longer side, ascending;
            empty where nothing has a box.
    """

    tasks: tuple[str, ...]
    pictures: int
    width: int
    height: int
    sides: tuple[float, ...] = ()


def folder_for(task: str, root: str | Path) -> Folder:
    """The folder as a task takes it."""
    kinds: dict[str, type[Folder]] = {SEGMENT: SegFolder, CLASSIFY: ClassFolder}
    return kinds.get(task, CocoFolder)(root)


def contents_of(
    root: str | Path,
    task: str | None = None,
    train_list: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> Contents:
    """Look into a folder.

    Args:
        task: look at the data of this task; by default of the most telling one.
        train_list: annotations, where it ends in .json, or names, to train on in place of all that
            the folder has.
        classes: those that are trained on; by default all.

    Raises:
        BadInput: It is no folder, has none of the layouts, or nothing for this task.
    """
    root = Path(root).expanduser()
    if task != CLASSIFY:
        refuse_part(root.resolve())
    annotated = CocoFolder(root)
    train = Split("train", None)
    annotations = annotated.annotations(train)
    if train_list is not None and not Path(train_list).is_file():
        raise BadInput(f"--train-list {train_list} is no file; correct the path.")
    if train_list is not None and Path(train_list).suffix == ".json":
        annotations = Path(train_list)
        train = Split("train", annotations)
    found, data = None, None
    if annotations.is_file():
        found = read_annotations(annotations)  # which refuses what is not as COCO has it
        data, _ = read_json(annotations)
    tasks = tasks_of(root, data)
    if task is not None and task not in tasks:
        raise BadInput(
            f"{root} has nothing for --task {task}: it holds data for {' and '.join(tasks)}; "
            f"{folder_for(task, root).layout}{', with masks' if task == INSTANCES else ''}."
        )
    task = task or tasks[0]
    if found is not None and data is not None and task in (DETECT, INSTANCES):
        sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
        sides = tuple(sorted(_sides(data.get("annotations", ()), sizes)))
        chosen = {k for k, name in enumerate(found.names) if not classes or name in classes}
        trained = [each for each in annotated.images(train) if chosen.intersection(each[-1])]
        return Contents(tasks, len(trained), *_middle(sizes.values()), sides)
    named = None if train_list is None else lines_of(Path(train_list))
    files = _label_mapped(root, named) if task == SEGMENT else _classified(root, named, classes)
    if not files and named is not None:
        raise BadInput(f"--train-list {train_list} names no picture of {root} to train on.")
    step = max(1, len(files) // _LOOKED_AT)
    return Contents(tasks, len(files), *_middle(_sizes(files[::step])))


def _label_mapped(root: Path, named: list[str] | None) -> list[Path]:
    folder = root / "images/train"
    files = list(visible(folder, SUFFIXES))
    if named is None:
        return files
    chosen = set(named)
    return [p for p in files if p.relative_to(folder).with_suffix("").as_posix() in chosen]


def _classified(root: Path, named: list[str] | None, classes: Sequence[str] | None) -> list[Path]:
    folder = ClassFolder(root)
    if named is not None:
        names = [line.rpartition(" ")[0] for line in named]  # a number behind each
    else:
        images = folder.images("train", classes) if classes else folder.training_images()
        names = [name for name, _ in images]
    return [root / ("train" if folder.halves else "") / name for name in names]


def refuse_within(root: str | Path, *places: str | Path) -> None:
    """Refuse to make folders where each folder is a class.

    Args:
        places: that are going to be written.

    Raises:
        BadInput: The first of them that lies in a folder of class folders without `train`.
    """
    root = Path(root).expanduser().resolve()
    if ClassFolder(root).halves or (root / "images").is_dir() or not _has_classes(root):
        return
    for place in map(Path, places):
        if place.resolve().is_relative_to(root):
            raise BadInput(
                f"{place} would lie in {root}, where each folder is a class: start in another "
                "folder and name another --work-dir, or move the classes into train/ and val/."
            )


def tasks_of(root: Path, annotations: dict | None) -> tuple[str, ...]:
    """The tasks that a folder has data for, by what lies where.

    Args:
        annotations: what its annotation file holds; None without one.

    Raises:
        BadInput: It is no folder, or has none of the layouts.
    """
    if not root.is_dir():
        raise BadInput(f"{root} is no folder; name the one that holds your images.")
    tasks: list[str] = []
    if annotations is not None:
        tasks += [INSTANCES, DETECT] if _has_masks(annotations) else [DETECT]
    if (root / "labels/train").is_dir():
        tasks.append(SEGMENT)
    if not tasks and not (root / "images").is_dir() and _has_classes(root):
        tasks.append(CLASSIFY)
    if not tasks:
        CocoFolder(root).refuse_unnamed()
        layouts = "; ".join(kind.layout for kind in (CocoFolder, SegFolder, ClassFolder))
        raise BadInput(f"{root} holds nothing that can be trained on: {layouts}.")
    return tuple(tasks)


def _has_masks(data: dict) -> bool:
    """Whether the annotations have masks, and not only the rectangles of their boxes."""
    entries = [entry for entry in data.get("annotations", ()) if not entry.get("iscrowd")]
    masks = [entry for entry in entries if entry.get("segmentation")]
    outlines = sum(not _is_rectangle(entry["segmentation"]) for entry in masks)
    return bool(
        masks and len(masks) >= _FEW_MASKS * len(entries) and outlines >= _OUTLINES * len(masks)
    )


def _is_rectangle(mask: list | dict) -> bool:
    """Whether a polygon has two values of x and two of y, as converters make of a box."""
    if not isinstance(mask, list) or len(mask) != 1 or not isinstance(mask[0], list):
        return False
    return len(set(mask[0][::2])) <= 2 and len(set(mask[0][1::2])) <= 2


def _has_classes(root: Path) -> bool:
    part = root / "train" if ClassFolder(root).halves else root
    if not part.is_dir():
        return False
    folders = (path for path in part.iterdir() if path.is_dir() and path.name[0] != ".")
    return any(next(visible(folder, SUFFIXES), None) for folder in folders)


def _sides(entries: Iterable[dict], sizes: dict) -> Iterable[float]:
    for entry in entries:
        width, height = entry["bbox"][2:]
        if width >= 1 and height >= 1 and not entry.get("iscrowd"):
            yield math.sqrt(width * height) / max(sizes[entry["image_id"]])


def _middle(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Width and height of the picture in the middle."""
    sizes = list(sizes)
    if not sizes:
        raise BadInput("The folder has no picture to train on.")
    widths, heights = zip(*sizes)
    return round(statistics.median(widths)), round(statistics.median(heights))


def _sizes(files: Iterable[Path]) -> Iterable[tuple[int, int]]:
    for path in files:
        try:
            with Image.open(path) as image:
                yield image.size
        except (OSError, Image.DecompressionBombError):
            continue  # said by the checks, with the file's name
