"""Does the evaluation compare with the annotations of the pictures that are predicted?"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator, Sequence

from torch import nn

from normfix_mm.datasets.coco_annotations import read_annotations
from normfix_mm.datasets.config import (
    LOADERS,
    classes_of,
    datasets,
    files_of,
    is_local,
    type_name,
)
from normfix_mm.datasets.reported import coco_kinds, names_reported
from normfix_mm.errors import BadInput, quoted
from normfix_mm.preflight.coco import is_plain_coco, pictures_of, refuse_byte_order_mark
from normfix_mm.preflight.coco_entries import check_masks
from normfix_mm.preflight.notes import note, warn


def metrics_of(cfg, phase: str) -> Iterator[tuple[str, dict]]:
    """Name and config of each metric of a phase."""
    _, name = LOADERS[phase]
    evaluator = cfg.get(name) if name else None
    if evaluator is not None:
        for metric in evaluator if isinstance(evaluator, Sequence) else [evaluator]:
            for each in metric.get("metrics") or [metric]:  # an Evaluator of several
                if isinstance(each, dict):
                    yield name, each


def check_reported(cfg, name: str, where: str) -> None:
    """Is there a metric of this name, letter by letter, as mmengine looks it up after validation?

    Raises:
        BadInput: All evaluators are known ones, and none reports it.
    """
    found: list[str] = []
    for _, metric in metrics_of(cfg, "val"):
        reported = names_reported(metric)
        if not reported:
            return
        found += reported
    if name not in ("auto", *found) and found:
        raise BadInput(
            f"{where} is {name!r}, which no evaluator of the config reports; write one of "
            f"{quoted(found, 12)}."
        )


def check_predicted(cfg, phases: Sequence[str], model: nn.Module) -> None:
    """Refuse to evaluate masks of a detector without them: no part of it has `mask` in its name.

    Raises:
        BadInput: What MMDetection says after the first prediction, with a KeyError.
    """
    parts = (f"{name} {type(part).__name__}".lower() for name, part in model.named_modules())
    if any("mask" in part or "solo" in part for part in parts):
        return
    for phase in phases:
        for where, metric in metrics_of(cfg, phase):
            if type_name(metric) == "CocoMetric" and "segm" in coco_kinds(metric):
                raise BadInput(
                    f"{where} evaluates masks (metric='segm'), but the model predicts boxes alone; "
                    "write metric='bbox', or take a config for masks."
                )


def check_evaluator_files(cfg, phases: Sequence[str]) -> None:
    """Are the files there that the evaluators name?

    Raises:
        BadInput: The first that is not.
    """
    for phase in phases:
        for where, metric in metrics_of(cfg, phase):
            ann_file = metric.get("ann_file")
            if ann_file and is_local(ann_file) and not os.path.isfile(ann_file):
                raise BadInput(
                    f"The annotation file {ann_file!r} of {where} does not exist; set "
                    f"`{where}.ann_file` to the file of the evaluated dataset."
                )


def check_evaluators(cfg, phase: str) -> None:
    """Compare the files of the evaluators with those of the datasets they judge.

    Raises:
        BadInput: Another file, or one that pycocotools cannot evaluate with.
    """
    loader, _ = LOADERS[phase]
    judged = list(datasets(cfg[loader].dataset)) if cfg.get(loader) is not None else []
    if not judged or not all(map(is_plain_coco, judged)):
        return
    for where, metric in metrics_of(cfg, phase):
        path = metric.get("ann_file")
        if type_name(metric) != "CocoMetric" or metric.get("format_only"):
            continue
        if not path or not is_local(path):
            continue
        if _repeats(cfg[loader].dataset):
            raise BadInput(
                f"{loader} has pictures more than once, or mixed (RepeatDataset, "
                f"ClassBalancedDataset, MultiImageMixDataset): {where} would count most of what is "
                "detected on them as wrong; evaluate each picture once, as it is."
            )
        _check_file(path, where, masks="segm" in coco_kinds(metric))
        _check_pictures(path, judged, where, loader)


def _repeats(dataset) -> bool:
    """Whether a wrapper gives pictures of a dataset several times, or makes others of them."""
    inner = dataset.get("datasets", [dataset["dataset"]] if "dataset" in dataset else [])
    again = dataset.get("times", 1) != 1 or "oversample_thr" in dataset
    again |= "pipeline" in dataset and bool(inner)
    return again or any(map(_repeats, inner))


def _check_file(path: str, where: str, masks: bool) -> None:
    found = read_annotations(path, note)
    if not found.annotated:
        raise BadInput(
            f"The annotation file {path!r} of {where} has no list 'annotations' to compare with; "
            "take a file that has, or write predictions alone with format_only=True and "
            "outfile_prefix."
        )
    refuse_byte_order_mark(found, where)
    if found.crowd_unknown:
        raise BadInput(
            f"{found.crowd_unknown} annotations of {path!r} have no `iscrowd`, which the "
            f"evaluation by {where} needs; write iscrowd 0."
        )
    if found.zero_id:
        warn(
            f"{path!r} of {where} has an annotation of id 0, which pycocotools takes for missed "
            "however well it is found; number annotations from 1."
        )
    if masks:
        check_masks(found, where, evaluated=True)


def _check_pictures(path: str, judged: list, where: str, loader: str) -> None:
    truth = read_annotations(path, note)
    ids = sorted(str(image[0]) for image in truth.images)
    predicted, names = [], []
    for dataset in judged:
        found = read_annotations(files_of(dataset)[0], note)
        classes = classes_of(dataset, loader) or tuple(found.names)
        names = [name for name in found.names if name in classes]
        predicted += [str(image[0]) for image in pictures_of(dataset, found)]
        if [name for name in truth.names if name in classes] != names:
            raise BadInput(
                f"{where}.ann_file, {path!r}, has the categories in another order than "
                f"{found.path!r} of {loader}, so that classes would be compared with others; name "
                "the same file in both."
            )
    other = [files_of(dataset)[0] for dataset in judged]
    if len(judged) == 1 and not _same_file(path, other[0]):
        full = sorted(str(image[0]) for image in found.images)
        if ids != full:
            raise BadInput(
                f"{where}.ann_file is {path!r}, which has other pictures than {other[0]!r}, the "
                f"ann_file of {loader}; name the same file in both."
            )
        warn(
            f"{where}.ann_file is {path!r}, {loader} reads {other[0]!r}: the same pictures, but "
            "other annotations."
        )
    if len(set(predicted)) < len(predicted):
        raise BadInput(
            f"The datasets of {loader} have pictures of one id, which {where} would take for one; "
            "evaluate them apart (MultiDatasetsEvaluator)."
        )
    if sorted(predicted) != ids:
        warn(
            f"{loader} predicts {len(predicted)} of the {len(ids)} pictures that {where} counts in "
            f"{path!r}; objects on the others count as missed."
        )


def _same_file(one: str, other: str) -> bool:
    return os.path.samefile(one, other) or filecmp.cmp(one, other, shallow=False)
