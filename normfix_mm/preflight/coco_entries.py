"""Masks and other entries of a file in COCO format that are wrong, or are mostly not meant so.

They are counted in ``normfix_mm.datasets.coco_annotations``; here they are said.
"""

from __future__ import annotations

from normfix_mm.datasets.coco_annotations import Annotations
from normfix_mm.errors import BadInput
from normfix_mm.preflight.notes import warn


def check_masks(found: Annotations, where: str, evaluated: bool = False) -> None:
    """Refuse masks that are absent or cannot be decoded.

    Args:
        evaluated: by pycocotools, which decodes also those of boxes that training drops.

    Raises:
        BadInput: With the first of them.
    """
    for masks in [found.masks, found.unused_masks] if evaluated else [found.masks]:
        _check_decodable(masks, found, where)
    total = _total(found)
    if found.masks["aside"][0] == total:
        raise BadInput(
            f"None of the {total} masks of {found.path!r} of {where} lies where its box is; write "
            "`segmentation` as x1, y1, x2, y2, … and bbox as x, y, width, height, both in pixels, "
            "and run lengths down the columns, the background first."
        )


def _check_decodable(masks: dict[str, list], found: Annotations, where: str) -> None:
    total = _total(found)
    count, first, _ = masks["absent"]
    if count:
        raise BadInput(
            f"{count} of {total} annotations of {found.path!r} have no `segmentation`, first "
            f"annotation {first}, but {where} needs masks (LoadAnnotations(with_mask=True) or "
            "metric='segm'); add them, take these annotations out, or take a config for boxes."
        )
    count, first, why = masks["broken"]
    if count:
        raise BadInput(
            f"The `segmentation` of {count} of {total} annotations of {found.path!r} of {where} "
            f"cannot be read, first that of annotation {first}: {why}; write polygons as "
            "[[x1, y1, x2, y2, x3, y3, …], …], or run lengths as pycocotools encodes them."
        )


def _total(found: Annotations) -> int:
    return sum(count for each in found.boxes for count in each.values())


def warn_of_entries(found: Annotations, where: str, total: int) -> None:
    """Say what can be meant so, but mostly is not."""
    count, first, _ = found.masks["aside"]
    if count:
        warn(
            f"{count} of {total} masks of {found.path!r} do not lie where their boxes are, first "
            f"that of annotation {first}; see that bbox is x, y, width, height, points are x, y, "
            "and run lengths go down the columns, the background first."
        )
    count, first, _ = found.masks["empty"]
    if count:
        warn(
            f"{count} of {total} masks of {found.path!r} hold no pixel, first that of annotation "
            f"{first}."
        )
    if found.twice:
        warn(
            f"{found.path!r} has {found.twice} boxes that another of the same picture and category "
            "equals: each is counted as an object of its own; take the copies out."
        )
    if found.areas * 10 > total:
        warn(
            f"{found.areas} of {total} areas of {found.path!r} of {where} are less than a pixel or "
            "more than their box; AP of small, medium and large objects goes by `area`, which is "
            "in pixels."
        )
