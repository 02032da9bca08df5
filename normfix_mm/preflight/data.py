"""Are the data there, and do they have the classes and masks that the model is for?

Looked at in the config and in the annotation files, before a dataset is built from them.
"""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Sequence

from torch import nn

from normfix_mm.datasets.config import LOADERS, transforms_named, used_datasets
from normfix_mm.errors import BadInput, quoted


def check_data(cfg, phases: Sequence[str]) -> None:
    """Check files, categories and masks of each dataset, in the config's default scope.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    for where, dataset in used_datasets(cfg, phases):
        _check_dataset(dataset, where)
    for phase in phases:
        _, evaluator = LOADERS[phase]
        if evaluator and cfg.get(evaluator) is not None:
            _check_evaluator(cfg[evaluator], evaluator)


def _check_dataset(dataset, where: str) -> None:
    if dataset.get("backend_args") is not None:
        return  # files live behind a client of the user's
    root = dataset.get("data_root") or ""
    prefix = dataset.get("data_prefix") or {}
    for folder in (prefix,) if isinstance(prefix, str) else prefix.values():
        folder = os.path.join(root, folder or "")
        if is_local(folder) and not os.path.isdir(folder):
            raise BadInput(
                f"The folder {folder!r} of {where} does not exist; put the data there or set "
                "`data_root` and `data_prefix` (for example with --cfg-options)."
            )
    if not dataset.get("ann_file"):
        if _is_coco(dataset):
            raise BadInput(
                f"{where} names no annotations; a config of configs/coco_folder takes its data "
                "from a folder: python tools/train_folder.py CONFIG FOLDER (to test or fold, use "
                "the config in the run's work dir); in another, set `data_root` and `ann_file`."
            )
        return
    ann_file = os.path.join(root, dataset["ann_file"])
    if not is_local(ann_file):
        return
    if not os.path.isfile(ann_file):
        raise BadInput(
            f"The annotation file {ann_file!r} of {where} does not exist; put the data there or "
            "set `data_root` and `ann_file` (for example with --cfg-options)."
        )
    wanted = _classes(dataset)
    if wanted is None:
        return
    names = _category_names(ann_file)
    absent = [name for name in wanted if name not in names]
    if absent:
        raise BadInput(
            f"The annotation file {ann_file!r} of {where} has no category {quoted(absent)} but "
            f"{quoted(sorted(names))}; set `metainfo=dict(classes=...)` of the dataset (and "
            "`num_classes` of the head) to the classes of the file."
        )
    first = _first_annotation(ann_file) if _wants_masks(dataset) else None
    if first and not first.get("segmentation"):
        raise BadInput(
            f"{ann_file} has no `segmentation`, which LoadAnnotations(with_mask=True) needs; use "
            "annotations with masks, or a config for boxes."
        )


def _check_evaluator(evaluator, where: str) -> None:
    for metric in evaluator if isinstance(evaluator, Sequence) else [evaluator]:
        ann_file = metric.get("ann_file")
        if ann_file and is_local(ann_file) and not os.path.isfile(ann_file):
            raise BadInput(
                f"The annotation file {ann_file!r} of {where} does not exist; set "
                f"`{where}.ann_file` to the file of the evaluated dataset."
            )


def _is_coco(dataset) -> bool:
    from mmdet.datasets import CocoDataset

    kind = _kind(dataset)
    return kind is not None and issubclass(kind, CocoDataset)


def _kind(dataset) -> type | None:
    from mmengine.registry import DATASETS

    kind = dataset["type"]
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(None) as present:  # two packages, one CityscapesDataset
        return present.get(kind)


def _classes(dataset) -> Sequence[str] | None:
    """Configured class names of a COCO-format dataset, None for other formats."""
    if not _is_coco(dataset):
        return None
    default = _kind(dataset).METAINFO.get("classes")
    classes = (dataset.get("metainfo") or {}).get("classes", default)
    return None if isinstance(classes, str) else classes  # a string names a file of classes


def _category_names(ann_file: str) -> set[str]:
    """Names under "categories", without parsing the rest: COCO's file has 450 MB."""
    unreadable = BadInput(
        f'The annotation file {ann_file!r} is not complete JSON in COCO format with "categories"; '
        "it was probably cut off: fetch or write it again."
    )
    if not os.path.getsize(ann_file):
        raise unreadable
    with open(ann_file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if not text[-64:].rstrip().endswith(b"}"):
            raise unreadable
        # The last "categories" is tried first; inside an annotation no list would follow it.
        start = text.rfind(b'"categories"')
        head = text[start : start + (1 << 20)] if start >= 0 else b""
    try:
        after = head.decode("utf-8", "ignore").split(":", 1)[1].lstrip()
        categories, _ = json.JSONDecoder().raw_decode(after)
        return {category["name"] for category in categories}
    except (IndexError, KeyError, TypeError, ValueError):
        pass
    try:
        with open(ann_file, encoding="utf-8") as file:
            return {category["name"] for category in json.load(file)["categories"]}
    except (KeyError, TypeError, ValueError):
        raise unreadable from None


def _wants_masks(dataset) -> bool:
    """Whether the pipeline asks for the masks of each annotation (panoptic ones lie elsewhere)."""
    return any(step.get("with_mask") for step in transforms_named(dataset, "LoadAnnotations"))


def _first_annotation(ann_file: str) -> dict | None:
    """The first under "annotations", without parsing the rest; None where it is not recognized."""
    with open(ann_file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for found in re.finditer(rb'"annotations"\s*:\s*\[\s*(?=\{)', text):
            head = text[found.end() : found.end() + (1 << 20)].decode("utf-8", "ignore")
            try:
                annotation, _ = json.JSONDecoder().raw_decode(head)
            except ValueError:
                continue
            if "image_id" in annotation:
                return annotation
    return None


def check_classes(cfg, phases: Sequence[str], model: nn.Module) -> None:
    """Compare ``num_classes`` of the heads with the classes of each dataset.

    Box heads, and mask heads of a RoI head with masks per class; RPNs know no class, and in a
    detector with a language model the classes are words.

    Raises:
        BadInput: At the first head that has another number.
    """
    if hasattr(model, "language_model"):
        return
    roi = getattr(model, "roi_head", None)
    heads = {
        "bbox_head": getattr(model, "bbox_head", None),
        "roi_head.bbox_head": getattr(roi, "bbox_head", None),
        "roi_head.mask_head": getattr(roi, "mask_head", None),
    }
    numbers = [
        (name, each.num_classes)
        for name, head in heads.items()
        for each in (head if isinstance(head, nn.ModuleList) else [head])
        if hasattr(each, "num_classes") and not getattr(each, "class_agnostic", False)
    ]
    for where, dataset in used_datasets(cfg, phases):
        classes = _classes(dataset)
        if classes and "thing_classes" in _kind(dataset).METAINFO:
            continue  # panoptic: the heads know the things alone
        for name, number in numbers:
            if classes and number != len(classes):
                raise BadInput(
                    f"model.{name} has num_classes={number}, but {where} has {len(classes)} "
                    f"classes ({quoted(list(classes))}); set num_classes={len(classes)}, or the "
                    "dataset's `metainfo=dict(classes=...)`."
                )


def is_local(path: str) -> bool:
    return "://" not in path
