"""What an annotation file in COCO format holds: read once, checked entry by entry, counted.

Which boxes are trained on is MMDetection's rule (``CocoDataset.parse_data_info``): those marked
``ignore``, outside their picture, of area 0 or narrower than a pixel are dropped without a word,
crowds are regions that neither count as hit nor as missed. Everything here is a property of the
file alone, so it is remembered until the file changes.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from normfix_mm.datasets.coco_entries import (
    categories_of,
    explain,
    images_of,
    is_right,
    read_json,
    uncollected,
)
from normfix_mm.datasets.coco_masks import MaskCheck
from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of

USED, CROWD = "used", "crowd"
IGNORED, SMALL, OUTSIDE, AREA = "ignore", "narrower than a pixel", "outside the picture", "area 0"
_LARGE = 50 << 20  # bytes; reading as much takes a second

_seen: dict[tuple, Annotations] = {}  # of this process: two phases often read one file


@dataclass
class Annotations:
    """A file's contents in numbers. A category is an index into `categories`.

    `images` has for each picture: id, name, width, height, the categories that it has annotations
    of, and those it has boxes to train on of.
    """

    path: str
    categories: list[list] = field(default_factory=list)  # [id, name]
    images: list[list] = field(default_factory=list)
    boxes: list[dict[str, int]] = field(default_factory=list)  # per category: how many of what
    annotated: bool = True  # whether there is a list "annotations" at all
    byte_order_mark: bool = False
    crowd_unknown: int = 0  # annotations without `iscrowd`, which evaluation needs
    zero_id: bool = False  # an annotation 0, which pycocotools takes for "no match"
    beyond: int = 0  # boxes that reach more than a pixel out of their picture
    corners: bool = False  # whether the boxes are x1, y1, x2, y2
    fractions: bool = False  # whether they are in parts of the picture's size
    twice: int = 0  # boxes that another of the same picture and category equals
    areas: int = 0  # of boxes that are used: less than a pixel, or more than the box holds
    masks: dict[str, list] = field(default_factory=dict)  # what is wrong with some
    unused_masks: dict[str, list] = field(default_factory=dict)  # of boxes that training drops

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.categories]


def read_annotations(
    path: str | Path, say: Callable[[str], None] = lambda text: None
) -> Annotations:
    """Read and check a file, or take what was found when it was read before.

    Args:
        say: Called before a large file is read.

    Raises:
        BadInput: The first entry that is not as COCO has it.
    """
    path = os.path.abspath(path)
    stamp = stamp_of(path)
    key = (path, *stamp)
    if key in _seen:
        return _seen[key]
    kept = recall("annotations", path)
    if kept.get("stamp") == stamp:
        found = Annotations(**kept["found"])
    else:
        if stamp[0] > _LARGE:
            say(f"Reading {path} ({stamp[0] >> 20} MB) …")
        with uncollected():
            found = _counted(path)
        if settled(stamp):
            remember(dict(stamp=stamp, found=vars(found)), "annotations", path)
    _seen[key] = found
    return found


def read_categories(path: str | Path) -> list[str]:
    """The names of the categories alone, of a file whose entries follow rules of their own.

    Raises:
        BadInput: It is no JSON, or has no categories.
    """
    path = os.path.abspath(path)
    stamp = stamp_of(path)
    kept = recall("categories", path)
    if kept.get("stamp") != stamp:
        data, _ = read_json(path)
        kept = dict(stamp=stamp, names=[name for _, name in categories_of(data, path)])
        if settled(stamp):
            remember(kept, "categories", path)
    return kept["names"]


def _counted(path: str) -> Annotations:
    data, mark = read_json(path)
    categories = categories_of(data, path)
    images = images_of(data, path)
    found = Annotations(path, categories, byte_order_mark=mark, annotated="annotations" in data)
    found.boxes = [Counter() for _ in categories]
    index = {number: k for k, (number, _) in enumerate(categories)}
    any_of: dict = {}
    used_of: dict = {}
    masks, unused_masks = MaskCheck(), MaskCheck()
    seen, drawn = set(), set()
    corners = fractions = area_of_corners = area_of_sides = True
    for place, entry in enumerate(data.get("annotations", ())):
        if not is_right(entry, images, index, seen):
            explain(entry, place, path, images, index, seen)
        seen.add(entry["id"])
        image, category = entry["image_id"], index[entry["category_id"]]
        _, _, width, height = images[image]
        x, y, w, h = entry["bbox"]
        state = _state(entry, width, height)
        found.boxes[category][state] += 1
        any_of.setdefault(image, set()).add(category)
        if state == USED:
            used_of.setdefault(image, set()).add(category)
        (masks if state in (USED, CROWD) else unused_masks).look_at(entry, width, height)
        found.areas += state == USED and not 1 <= entry["area"] <= (w + 1) * (h + 1)
        drawn.add(hash((image, category, x, y, w, h)))
        found.crowd_unknown += "iscrowd" not in entry
        found.zero_id |= entry["id"] == 0
        found.beyond += x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1
        corners &= x < w <= width + 1 and y < h <= height + 1
        area_of_corners &= _is_about(entry["area"], (w - x) * (h - y))
        area_of_sides &= _is_about(entry["area"], w * h)
        fractions &= max(x, y, w, h) <= 1
    total = len(data.get("annotations", ()))
    # Boxes that reach out may be carelessly drawn; how many may be depends on what else agrees.
    least = 1 if area_of_corners else total / 3 if area_of_sides else total / 10
    found.corners = bool(total and corners and found.beyond >= max(least, 1))
    found.fractions = bool(total and fractions)
    found.twice = total - len(drawn)
    found.masks, found.unused_masks = masks.found(), unused_masks.found()
    found.boxes = [dict(each) for each in found.boxes]
    found.images = [
        [*image, sorted(any_of.get(number, ())), sorted(used_of.get(number, ()))]
        for number, image in images.items()
    ]
    return found


def _is_about(area: float, other: float) -> bool:
    return math.isclose(area, other, rel_tol=0.02, abs_tol=1)


def _state(entry: dict, width: float, height: float) -> str:
    """What MMDetection makes of an annotation."""
    x, y, w, h = entry["bbox"]
    if entry.get("ignore", False):
        return IGNORED
    if w < 1 or h < 1:
        return SMALL
    if min(x + w, width) <= max(x, 0) or min(y + h, height) <= max(y, 0):
        return OUTSIDE
    if entry["area"] <= 0:
        return AREA
    return CROWD if entry.get("iscrowd", False) else USED
