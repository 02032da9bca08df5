"""Masks in COCO format, polygons or run lengths: can they be read, do they lie in their boxes?

Absent ones, broken ones, those that share less than a third with their box, and masks without a
pixel are told apart. Run lengths that go by rows, or that count the object as background, decode
to other masks without an error; most such do not lie in their boxes.
"""

from __future__ import annotations

import math

import numpy as np


class MaskCheck:
    """Collects what is wrong with the masks of a file's annotations."""

    def __init__(self) -> None:
        self._absent: list[int] = []
        self._broken: list[tuple[int, str]] = []
        self._aside: list[int] = []
        self._empty: list[int] = []

    def look_at(self, entry: dict, width: float, height: float) -> None:
        """Take one annotation of a picture of this size."""
        mask = entry.get("segmentation")
        if not mask:
            self._absent.append(entry["id"])
            return
        reason = (
            self._polygons(mask, entry)
            if isinstance(mask, list)
            else self._runs(mask, entry, width, height)
        )
        if reason:
            self._broken.append((entry["id"], reason))

    def found(self) -> dict[str, list]:
        """What is wrong with some: [how many, id of the first, why]."""
        absent, aside, empty = (
            [len(ids), ids[0] if ids else None, ""]
            for ids in (self._absent, self._aside, self._empty)
        )
        first = self._broken[0] if self._broken else (None, "")
        return dict(absent=absent, broken=[len(self._broken), *first], aside=aside, empty=empty)

    def _polygons(self, mask: list, entry: dict) -> str:
        if not all(isinstance(part, list) for part in mask):
            return "it is not a list of polygons, each a list x1, y1, x2, y2, …"
        parts = [part for part in mask if len(part) >= 6 and len(part) % 2 == 0]
        if not parts:  # some odd parts are passed over, by MMDetection too
            return "no polygon of it has three or more points x, y"
        if len(mask[0]) < 5:  # at which pycocotools stops, after training; it passes over others
            return f"its first polygon has {len(mask[0])} numbers, fewer than three points x, y"
        try:
            finite = all(math.isfinite(sum(part)) for part in parts)
        except (OverflowError, TypeError):
            finite = False
        if not finite:
            return "its polygons hold what is no finite number"
        left, right = (f(f(part[::2]) for part in parts) for f in (min, max))
        top, bottom = (f(f(part[1::2]) for part in parts) for f in (min, max))
        if left == right or top == bottom:
            self._empty.append(entry["id"])
        self._compare(entry, left, right, top, bottom)
        return ""

    def _runs(self, mask, entry: dict, width: float, height: float) -> str:
        if not isinstance(mask, dict) or "counts" not in mask or "size" not in mask:
            return "it is neither a list of polygons nor run lengths with 'counts' and 'size'"
        counts, size = mask["counts"], mask["size"]
        if size != [height, width]:
            return f"its size is {size!r}, the picture's [height, width] {[height, width]!r}"
        if isinstance(counts, str):
            counts = run_lengths(counts)
        if not isinstance(counts, list) or not all(type(v) is int and v >= 0 for v in counts):
            return "its counts are no run lengths"
        if sum(counts) != width * height:
            return f"its counts do not add up to the {width * height} pixels of the picture"
        if sum(counts[1::2]):
            self._compare(entry, *_extent(counts, int(height)))
        else:
            self._empty.append(entry["id"])
        return ""

    def _compare(self, entry: dict, left: float, right: float, top: float, bottom: float) -> None:
        """With the box of the entry, what the mask extends over."""
        x, y, w, h = entry["bbox"]
        shared = _overlap(left, right, x, x + w) * _overlap(top, bottom, y, y + h)
        either = max(right - left, 1) * max(bottom - top, 1) + w * h - shared
        if shared < either / 3:
            self._aside.append(entry["id"])


def _overlap(low: float, high: float, least: float, most: float) -> float:
    """Of two stretches, with a pixel more at both ends."""
    return max(0.0, min(high, most) - max(low, least) + 2)


def _extent(counts: list[int], height: int) -> tuple[int, int, int, int]:
    """Left, right, top and bottom of runs of which every second one is of the mask.

    They go down the columns of a picture, from the left.
    """
    ends = np.cumsum(counts)
    first, last = ends[:-1:2], ends[1::2] - 1  # pixels of each run of the mask
    first, last = first[first <= last], last[first <= last]
    whole = (first // height != last // height).any()  # a run from one column to the next
    top, bottom = (0, height) if whole else ((first % height).min(), (last % height).max() + 1)
    return int(first[0] // height), int(last[-1] // height) + 1, int(top), int(bottom)


def run_lengths(text: str) -> list[int] | None:
    """The run lengths that COCO's compressed text holds; None if it is none.

    pycocotools' decoder gives unwritten memory for a text that was cut off, and does not say so.
    Five bits a character, the sixth says that more follow; from the third number on they are
    differences to the one before the last (``rleFrString`` in its maskApi.c).
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return None if shift else counts
