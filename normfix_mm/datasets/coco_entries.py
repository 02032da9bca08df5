"""An annotation file in COCO format, entry by entry: is each as https://cocodataset.org has it?

Each refusal names the file, the entry and what belongs there.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from normfix_mm.errors import BadInput, one_line, quoted

_NUMBERS = {int, float}
_HUGE = 10**12  # what no picture has, neither pixels nor sides


def read_json(path: str | Path) -> tuple[dict, bool]:
    """The file's contents as they are, and whether a byte order mark stands before them.

    Raises:
        BadInput: It is no JSON, has a key twice in one object, or is no object with lists "images"
            and "categories".
    """
    try:
        with open(path, "rb") as file:
            mark = file.read(3) == b"\xef\xbb\xbf"
        with uncollected():
            text = Path(path).read_text(encoding="utf-8-sig")
            data = json.loads(text, object_pairs_hook=_with_keys_once)
    except UnicodeDecodeError:
        raise BadInput(
            f"The annotation file {str(path)!r} is no UTF-8, which JSON has to be; write it again "
            "with this encoding."
        ) from None
    except OSError as error:
        raise BadInput(
            f"The annotation file {str(path)!r} cannot be read ({error.strerror}); correct the "
            "path or its permissions."
        ) from None
    except _KeyTwice as error:
        raise BadInput(
            f"The annotation file {str(path)!r} has {error}, of which all but the last would be "
            "passed over without a word; put together what belongs together."
        ) from None
    except (ValueError, RecursionError) as error:
        empty = not os.path.getsize(path)
        where = "is empty" if empty else f"is no complete JSON ({one_line(error, 120)})"
        raise BadInput(
            f"The annotation file {str(path)!r} {where}; it was probably cut off, or is no JSON in "
            'COCO format with "images", "annotations" and "categories": fetch or write it again.'
        ) from None
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


class _KeyTwice(Exception):
    """An object of a JSON file has a key twice, as after two files were joined by hand."""


def _with_keys_once(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        key = _twice(key for key, _ in pairs)[0]
        entry = f"the entry of id {found['id']!r}" if "id" in found else "one object"
        raise _KeyTwice(f"the key {key!r} more than once in {entry}")
    return found


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the garbage collector, which would go through millions of entries again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def categories_of(data: dict, path: str) -> list[list]:
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


def images_of(data: dict, path: str) -> dict:
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


def is_right(entry, images: dict, index: dict, seen: set) -> bool:
    """Whether an annotation is as most are, quickly; if not, `_explain` has a closer look."""
    try:
        box, crowd = entry["bbox"], entry.get("iscrowd", 0)
        return (
            type(entry["id"]) is int
            and entry["id"] not in seen
            and entry["image_id"] in images
            and entry["category_id"] in index
            and type(crowd) is int
            and 0 <= crowd <= 1
            and "ignore" not in entry
            and type(box) is list
            and len(box) == 4
            and {*map(type, box), type(entry["area"])} <= _NUMBERS
            and all(-_HUGE < value < _HUGE for value in (*box, entry["area"]))  # nor NaN
        )
    except (AttributeError, KeyError, OverflowError, TypeError):
        return False


def explain(entry, place: int, path: str, images: dict, index: dict, seen: set) -> None:
    where = f"annotation {place + 1} of {path!r}"
    _need(entry, "id", _is_whole, "a whole number", where)
    number = entry["id"]
    where = f"annotation {number} of {path!r}"
    if number in seen:
        raise BadInput(
            f"The annotation file {path!r} has several annotations of id {number}; number them "
            "anew."
        )
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
    return type(value) in _NUMBERS and abs(value) < _HUGE  # not NaN either


def _is_whole(value) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _is_name(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_key(value) -> bool:
    return _is_whole(value) or isinstance(value, str)


def _is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))
