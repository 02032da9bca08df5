"""Have the heads the classes of the data, and all datasets of a run the same ones?"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from torch import nn

from normfix_mm.datasets.config import classes_of, dataset_class, used_datasets
from normfix_mm.errors import BadInput, quoted
from normfix_mm.preflight.notes import warn


def check_same_classes(cfg, phases: Sequence[str]) -> None:
    """Compare the class names of all datasets of the run.

    Raises:
        BadInput: They are no lists of names, or a label means one class here and another there.
    """
    first = None
    for where, dataset in used_datasets(cfg, phases):
        classes = classes_of(dataset, where)
        if classes is None:
            continue
        if first is None:
            first = where, classes
            _warn_of_namesakes(classes, where)
        elif classes != first[1]:
            k = next((k for k, pair in enumerate(zip(classes, first[1])) if len({*pair}) > 1), -1)
            differ = (
                f"label {k} is {first[1][k]!r} in {first[0]}, {classes[k]!r} in {where}"
                if k >= 0
                else f"{first[0]} has {len(first[1])} classes, {where} {len(classes)}"
            )
            raise BadInput(
                f"The datasets have different classes ({differ}); give all the same "
                "metainfo=dict(classes=...), in the same order."
            )


def _warn_of_namesakes(classes: Sequence[str], where: str) -> None:
    """One class under two names is learned as two, which cannot be told apart."""
    alike: dict[str, list[str]] = {}
    for name in classes:
        plain = unicodedata.normalize("NFKC", name).casefold().strip()
        alike.setdefault(re.sub(r"(?<=\w)[\s_-]+(?=\w)", "", plain), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            warn(
                f"The classes {quoted(names)} of {where} differ in case, spaces or dashes alone; "
                "if they are one class, give it one name."
            )


def check_heads(cfg, phases: Sequence[str], model: nn.Module) -> None:
    """Compare ``num_classes`` of the heads with the classes of each dataset.

    Raises:
        BadInput: At the first head that has another number.
    """
    numbers = list(_numbers(model))
    for where, dataset in used_datasets(cfg, phases):
        classes = classes_of(dataset, where)
        if classes is None or "thing_classes" in getattr(dataset_class(dataset), "METAINFO", {}):
            continue  # panoptic: the heads know the things alone
        for name, number in numbers:
            if number != len(classes):
                raise BadInput(
                    f"model.{name} has num_classes={number}, but {where} has {len(classes)} "
                    f"classes ({quoted(classes)}); set model.{name}.num_classes={len(classes)}, or "
                    "the dataset's `metainfo=dict(classes=...)`."
                )


def _numbers(model: nn.Module):
    """Name and number of classes of each head that tells classes apart.

    A segmenter's decode heads and auxiliary heads; a detector's box heads, and mask heads of a RoI
    head with masks per class. RPNs know no class, and in a detector with a language model the
    classes are words.
    """
    if hasattr(model, "language_model"):
        return
    if hasattr(model, "decode_head"):
        from normfix_mm.preflight.segmentation_heads import heads_of

        for name, head in heads_of(model).items():
            yield name, head.num_classes
        return
    roi = getattr(model, "roi_head", None)
    heads = {
        "head": getattr(model, "head", None),  # of a classifier
        "bbox_head": getattr(model, "bbox_head", None),
        "mask_head": getattr(model, "mask_head", None),
        "panoptic_head": getattr(model, "panoptic_head", None),
        "roi_head.bbox_head": getattr(roi, "bbox_head", None),
        "roi_head.mask_head": getattr(roi, "mask_head", None),
    }
    for name, head in heads.items():
        for each in head if isinstance(head, nn.ModuleList) else [head]:
            if hasattr(each, "num_classes") and not getattr(each, "class_agnostic", False):
                yield name, each.num_classes
