"""What an annotation file in COCO format holds: read once, checked entry by entry, counted.

https://cocodataset.org/#format-data has the format, pycocotools reads the masks. Which boxes are
trained on is MMDetection's rule (``CocoDataset.parse_data_info``): those marked ``ignore``, outside
their picture, of area 0 or narrower than a pixel are dropped without a word, crowds are regions
that neither count as hit nor as missed. Everything here is a property of the file alone, so it is
remembered until the file changes.
"""

from __future__ import annotations

import gc
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from normfix_mm.datasets.coco_masks import MaskCheck
from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of
from normfix_mm.errors import BadInput, one_line, quoted

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
    masks: dict[str, list] | None = None  # what is wrong with some: [how many, the first]

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.categories]


def read_annotations(
    path: str | Path, masks: bool = False, say: Callable[[str], None] = lambda text: None
) -> Annotations:
    """Read and check a file, or take what was found when it was read before.

    Args:
        masks: Whether its masks are needed.
        say: Called before a large file is read.

    Raises:
        BadInput: The first entry that is not as COCO has it.
    """
    path = os.path.abspath(path)
    stamp = stamp_of(path)
    key = ("annotations", path, masks, *stamp)
    if key in _seen:
        return _seen[key]
    kept = recall("annotations", path, masks)
    if kept.get("stamp") == stamp:
        found = Annotations(**kept["found"])
    else:
        if stamp[0] > _LARGE:
            say(f"Reading {path} ({stamp[0] >> 20} MB) …")
        found = _counted(path, masks)
        if settled(stamp):
            remember(dict(stamp=stamp, found=vars(found)), "annotations", path, masks)
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
        kept = dict(stamp=stamp, names=[name for _, name in _categories(data, path)])
        if settled(stamp):
            remember(kept, "categories", path)
    return kept["names"]


def read_json(path: str | Path) -> tuple[dict, bool]:
    """The file's contents as they are, and whether a byte order mark stands before them.

    Raises:
        BadInput: It is no JSON, or no object with lists "images" and "categories".
    """
    with open(path, "rb") as file:
        text = file.read()
    mark = text.startswith(b"\xef\xbb\xbf")
    collecting = gc.isenabled()
    gc.disable()  # which would go through millions of small objects again and again
    try:
        data = json.loads(text[3 * mark :].decode())
    except UnicodeDecodeError:
        raise BadInput(
            f"The annotation file {str(path)!r} is no UTF-8, which JSON has to be; write it again "
            "with this encoding."
        ) from None
    except ValueError as error:
        where = "is empty" if not text.strip() else f"is no complete JSON ({one_line(error, 120)})"
        raise BadInput(
            f"The annotation file {str(path)!r} {where}; it was probably cut off, or is no JSON in "
            'COCO format with "images", "annotations" and "categories": fetch or write it again.'
        ) from None
    finally:
        if collecting:
            gc.enable()
    if not isinstance(data, dict):
        raise BadInput(
            f"The annotation file {str(path)!r} holds a {type(data).__name__}, not annotations in "
            'COCO format, an object with "images", "annotations" and "categories"; a file of '
            "detections or of another format has to be converted."
        )
    for key in ("images", "categories"):
        if not isinstance(data.get(key), list) or not data[key]:
            what = f"no list {key!r}" if not isinstance(data.get(key), list) else f"no {key}"
            raise BadInput(
                f"The annotation file {str(path)!r} has {what}; write it in COCO format with "
                '"images", "annotations" and "categories".'
            )
    if not isinstance(data.get("annotations", []), list):
        raise BadInput(
            f"The annotation file {str(path)!r} has an {type(data['annotations']).__name__} in "
            "place of the list 'annotations'; write it in COCO format."
        )
    return data, mark


# -- entry by entry -----------------------------------------------------------------------------


def _counted(path: str, masks: bool) -> Annotations:
    data, mark = read_json(path)
    categories = _categories(data, path)
    images = _images(data, path)
    found = Annotations(path, categories, byte_order_mark=mark, annotated="annotations" in data)
    found.boxes = [Counter() for _ in categories]
    index = {number: k for k, (number, _) in enumerate(categories)}
    any_of: dict = {}
    used_of: dict = {}
    checked = MaskCheck() if masks else None
    seen = set()
    corners, fractions, of_area = True, True, True
    for place, entry in enumerate(data.get("annotations", ())):
        _check_annotation(entry, place, path, images, index, seen)
        image, category = entry["image_id"], index[entry["category_id"]]
        _, _, width, height = images[image]
        x, y, w, h = entry["bbox"]
        state = _state(entry, width, height)
        found.boxes[category][state] += 1
        any_of.setdefault(image, set()).add(category)
        if state == USED:
            used_of.setdefault(image, set()).add(category)
        if checked and state in (USED, CROWD):
            checked.look_at(entry, width, height)
        found.crowd_unknown += "iscrowd" not in entry
        found.zero_id |= entry["id"] == 0
        found.beyond += x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1
        corners &= x < w <= width + 1 and y < h <= height + 1
        of_area &= math.isclose(entry["area"], (w - x) * (h - y), rel_tol=0.02, abs_tol=1)
        fractions &= max(x, y, w, h) <= 1
    total = len(data.get("annotations", ()))
    found.corners = bool(
        total and corners and found.beyond and (of_area or found.beyond * 10 > total)
    )
    found.fractions = bool(total and fractions)
    found.masks = checked and checked.found()
    found.boxes = [dict(each) for each in found.boxes]
    found.images = [
        [*image, sorted(any_of.get(number, ())), sorted(used_of.get(number, ()))]
        for number, image in images.items()
    ]
    return found


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


def _categories(data: dict, path: str) -> list[list]:
    found = []
    for place, entry in enumerate(data["categories"]):
        where = f"category {place + 1} of {path!r}"
        _need(entry, "id", _is_whole, "a whole number", where)
        _need(entry, "name", _is_name, "a name", where)
        found.append([entry["id"], entry["name"]])
    for k, what in enumerate(("id", "name")):
        twice = _twice(each[k] for each in found)
        if twice:
            raise BadInput(
                f"The annotation file {path!r} has several categories of {what} {quoted(twice)}; "
                f"give each a {what} of its own."
            )
    return found


def _images(data: dict, path: str) -> dict:
    """id → [id, file name, width, height]."""
    found: dict = {}
    for place, entry in enumerate(data["images"]):
        where = f"image {place + 1} of {path!r}"
        if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
            where = f"image {entry['file_name']!r} of {path!r}"
        _need(entry, "id", lambda v: _is_whole(v) or _is_name(v), "a number or a text", where)
        _need(entry, "file_name", _is_name, "the name of its file", where)
        for side in ("width", "height"):
            _need(entry, side, lambda v: _is_whole(v) and v > 0, "a whole number of pixels", where)
        number = entry["id"]
        if number in found:
            raise BadInput(
                f"The annotation file {path!r} has two images of id {number!r}, "
                f"{found[number][1]!r} and {entry['file_name']!r}; give each an id of its own."
            )
        found[number] = [number, entry["file_name"], entry["width"], entry["height"]]
    kinds = {isinstance(number, str) for number in found}
    if len(kinds) > 1:
        raise BadInput(
            f"The ids of the images of {path!r} are partly numbers, partly texts; write all as "
            "numbers."
        )
    return found


def _check_annotation(entry, place: int, path: str, images: dict, index: dict, seen: set) -> None:
    where = f"annotation {place + 1} of {path!r}"
    _need(entry, "id", _is_whole, "a whole number", where)
    number = entry["id"]
    where = f"annotation {number} of {path!r}"
    if number in seen:
        raise BadInput(
            f"The annotation file {path!r} has several annotations of id {number}; number them "
            "anew."
        )
    seen.add(number)
    _need(entry, "image_id", _is_key, "the id of an image", where)
    _need(entry, "category_id", _is_key, "the id of a category", where)
    _need(entry, "bbox", _is_box, "a list of four finite numbers, x, y, width, height", where)
    _need(entry, "area", _is_number, "a finite number of pixels", where)
    for flag in ("iscrowd", "ignore"):
        if flag in entry and (type(entry[flag]) not in (int, bool) or entry[flag] not in (0, 1)):
            raise BadInput(f"The {where} has {flag} {entry[flag]!r}; write 0 or 1.")
    if entry["image_id"] not in images:
        raise BadInput(
            f"The {where} is of the image_id {entry['image_id']!r}, but no image has this id; add "
            f"the image or take the annotation out{_as_number(entry['image_id'], images)}."
        )
    if entry["category_id"] not in index:
        raise BadInput(
            f"The {where} is of the category_id {entry['category_id']!r}, but the categories have "
            f"the ids {quoted(index)}; correct it{_as_number(entry['category_id'], index)}."
        )


def _need(entry, key: str, right: Callable, what: str, where: str) -> None:
    if not isinstance(entry, dict):
        raise BadInput(f"The {where} is {entry!r:.60}, not an object; write it in COCO format.")
    if key not in entry:
        raise BadInput(f"The {where} has no {key!r}; write {what}.")
    if not right(entry[key]):
        raise BadInput(f"The {where} has {key!r} {entry[key]!r:.80}; write {what}.")


def _as_number(value, there: Iterable) -> str:
    same = [key for key in there if str(key) == str(value)]
    return f" (as {same[0]!r}, of the same type as there)" if same else ""


def _twice(values: Iterable) -> list:
    return [value for value, count in Counter(values).items() if count > 1]


def _is_number(value) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_whole(value) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _is_name(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_key(value) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
