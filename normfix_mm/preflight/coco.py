"""Do annotations in COCO format teach what the config says? Looked at before training.

What a file holds is counted in ``normfix_mm.datasets.coco_annotations``; here it is compared with a
dataset of the config. How many boxes and pictures are used is said in any case.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

from normfix_mm.datasets.coco_annotations import (
    AREA,
    CROWD,
    IGNORED,
    OUTSIDE,
    SMALL,
    USED,
    Annotations,
    read_annotations,
    read_categories,
)
from normfix_mm.datasets.config import (
    classes_of,
    dataset_class,
    files_of,
    is_local,
    transforms_named,
)
from normfix_mm.errors import BadInput, quoted
from normfix_mm.preflight.coco_entries import check_masks, warn_of_entries
from normfix_mm.preflight.notes import note, warn
from normfix_mm.typed import invocation

_REMEDIES = {
    CROWD: "write iscrowd 0 for single objects",
    IGNORED: "write ignore 0",
    SMALL: "write bbox as x, y, width, height in pixels",
    OUTSIDE: "write bbox as x, y, width, height in pixels, from the upper left corner on",
    AREA: "write the object's area in pixels, for example the box's width times its height",
}


def is_coco(dataset) -> bool:
    """Whether this is a dataset in COCO format, or in one made of it."""
    from mmdet.datasets import CocoDataset

    kind = dataset_class(dataset)
    return isinstance(kind, type) and issubclass(kind, CocoDataset)


def is_plain_coco(dataset) -> bool:
    """Whether its file is read by MMDetection's own rules, and lies on this machine."""
    from mmdet.datasets import CocoDataset

    kind = dataset_class(dataset)
    same = ("load_data_list", "parse_data_info", "filter_data")
    return (
        is_coco(dataset)
        and all(getattr(kind, name) is getattr(CocoDataset, name) for name in same)
        and dataset.get("backend_args") is None
        and is_local(files_of(dataset)[0])
    )


def check_names(dataset, where: str) -> None:
    """Have the classes of a dataset a category each?

    Raises:
        BadInput: With those that have none.
    """
    path = files_of(dataset)[0]
    classes = classes_of(dataset, where)
    if is_plain_coco(dataset):
        names = annotations_of(dataset).names
    else:
        names = read_categories(path)
    absent = [name for name in classes or () if name not in names]
    if absent:
        raise BadInput(
            f"The annotation file {path!r} of {where} has no category {quoted(absent)} but "
            f"{quoted(sorted(names))}; set `metainfo=dict(classes=...)` of the dataset (and "
            "`num_classes` of the head) to the classes of the file."
        )


def annotations_of(dataset) -> Annotations:
    """What the file of a plain dataset holds."""
    return read_annotations(files_of(dataset)[0], note)


def wants_masks(dataset) -> bool:
    """Whether the pipeline asks for the masks of each annotation (panoptic ones lie elsewhere)."""
    return any(step.get("with_mask") for step in transforms_named(dataset, "LoadAnnotations"))


def check_annotations(dataset, where: str, training: bool) -> None:
    """Check what is trained on, or evaluated on, against the config; and say how much it is.

    Raises:
        BadInput: Labels that mean other classes, no box that counts, masks that cannot be read.
    """
    found = annotations_of(dataset)
    path, names = found.path, found.names
    classes = classes_of(dataset, where) or tuple(names)
    order = [name for name in names if name in classes]
    if order != list(classes):
        raise BadInput(
            f"{where} names its classes {quoted(classes)}, but MMDetection numbers them in the "
            f"order of the categories of {path!r}, {quoted(order)}, so that labels would get the "
            "names of others; give the classes in that order, and let the categories of all files "
            "stand in it."
        )
    refuse_byte_order_mark(found, where)
    if training and not transforms_named(dataset, "LoadAnnotations"):
        return  # pictures without labels, of semi-supervised training
    if not found.annotated:
        if training:
            raise BadInput(
                f"The annotation file {path!r} of {where} has no list 'annotations'; it can only "
                "be predicted on."
            )
        return
    _check_boxes(found, where)
    boxes = Counter()
    for name, counts in zip(names, found.boxes):
        boxes.update(counts if name in classes else {"of other classes": sum(counts.values())})
    if wants_masks(dataset):
        check_masks(found, where)
    total = sum(boxes.values())
    if not training:  # which leaves out crowds alone
        boxes[USED] += sum(boxes.pop(state, 0) for state in (IGNORED, SMALL, OUTSIDE, AREA))
    used = boxes.pop(USED, 0)
    lost = ", ".join(f"{count} {_said(state)}" for state, count in sorted(boxes.items()) if count)
    kept = pictures_of(dataset, found)
    wanted = {k for k, name in enumerate(names) if name in classes}
    bare = sum(not wanted.intersection(image[5 if training else 4]) for image in kept)
    note(
        f"{where}: {used} of {total} boxes and {len(kept)} of {len(found.images)} pictures of "
        f"{os.path.basename(path)} are used"
        + (f"; not used: {lost}" if lost else "")
        + (f"; {bare} pictures have no box" if bare else "")
        + "."
    )
    if not used:
        most = max((s for s in _REMEDIES if boxes[s]), key=lambda s: boxes[s], default=None)
        remedy = _REMEDIES.get(most, "name classes that it has boxes of")
        why = f" ({lost})" if lost else ""
        raise BadInput(f"Of the {total} boxes of {path!r} none counts for {where}{why}; {remedy}.")
    if not kept:
        raise BadInput(
            f"Of the {len(found.images)} pictures of {path!r} none is used by {where}; correct its "
            "filter_cfg or indices."
        )
    dropped = sum(boxes[s] for s in _REMEDIES if s != CROWD)
    if training and dropped * 10 > total:
        warn(f"{where} drops {dropped} of {total} boxes of {path!r} ({lost}).")
    empty = [
        name
        for name, counts in zip(names, found.boxes)
        if name in classes
        and not (counts.get(USED) if training else sum(counts.values()) - counts.get(CROWD, 0))
    ]
    if empty:
        what = "will not be learned" if training else "are not evaluated"
        warn(f"{path!r} of {where} has no box of {quoted(empty)}: these classes {what}.")
    warn_of_entries(found, where, total)
    files = Counter(os.path.normpath(image[1]) for image in found.images)
    twice = [name for name, count in files.items() if count > 1]
    if twice:
        warn(f"{path!r} names {len(twice)} pictures more than once, first {twice[0]!r}.")


def pictures_of(dataset, found: Annotations) -> list[list]:
    """Those of the file's images that the dataset keeps, as it filters them."""
    images = found.images
    options = dataset.get("filter_cfg")
    if options and not dataset.get("test_mode"):
        classes = classes_of(dataset, "") or tuple(found.names)
        wanted = {k for k, name in enumerate(found.names) if name in classes}
        if options.get("filter_empty_gt"):
            images = [image for image in images if wanted.intersection(image[4])]
        least = options.get("min_size", 0)
        images = [image for image in images if min(image[2], image[3]) >= least]
    some = dataset.get("indices")
    if isinstance(some, int):
        images = images[:some] if some >= 0 else images[some:]
    elif isinstance(some, Sequence):
        images = [images[k] for k in some if -len(images) <= k < len(images)]
    return images


def refuse_byte_order_mark(found: Annotations, where: str) -> None:
    """Refuse what pycocotools cannot read.

    Raises:
        BadInput: The file begins so.
    """
    if found.byte_order_mark:
        raise BadInput(
            f"The annotation file {found.path!r} of {where} begins with a byte order mark, at "
            f"which pycocotools stops; write it as UTF-8 without "
            f"({invocation('train-folder')} does so)."
        )


def _check_boxes(found: Annotations, where: str) -> None:
    if found.fractions:
        raise BadInput(
            f"All boxes of {found.path!r} of {where} are smaller than a pixel; they seem to be in "
            "parts of the picture's size: write bbox as x, y, width, height in pixels."
        )
    if found.corners:
        raise BadInput(
            f"{found.beyond} boxes of {found.path!r} of {where} reach out of their pictures, and "
            "all would fit as x1, y1, x2, y2; COCO's bbox is x, y, width, height: convert them."
        )
    if found.beyond:
        warn(
            f"{found.beyond} boxes of {found.path!r} reach out of their pictures; see that bbox is "
            "x, y, width, height in pixels of the picture as it is stored."
        )


def _said(state: str) -> str:
    return {IGNORED: "marked as ignored", CROWD: "crowd", AREA: "of area 0"}.get(state, state)
