"""Are the data there, whole, and what the config takes them for?

Folders and files of every dataset, classes, evaluators; then, in files in COCO format, annotations
and the pictures that they name. A segmenter's images and labels are the business of
``segmentation_data``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from normfix_mm.datasets.config import dataset_class, files_of, is_local, prefixes_of, used_datasets
from normfix_mm.errors import BadInput
from normfix_mm.preflight.coco import (
    annotations_of,
    check_annotations,
    check_names,
    is_coco,
    is_plain_coco,
    pictures_of,
)
from normfix_mm.preflight.evaluators import check_evaluator_files, check_evaluators
from normfix_mm.preflight.notes import note
from normfix_mm.preflight.pictures import (
    Pictures,
    check_pictures,
    check_sizes,
    loader_of,
    unnamed,
    warn_of_leak,
)
from normfix_mm.preflight.pipelines import check_pipeline
from normfix_mm.typed import invocation


def check_files(cfg, phases: Sequence[str]) -> None:
    """Check in the config's default scope that folders and files are there.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    for where, dataset in used_datasets(cfg, phases):
        _check_dataset(dataset, where)
    check_evaluator_files(cfg, phases)


def check_contents(cfg, phases: Sequence[str]) -> None:
    """Check annotations in COCO format and the pictures that they name.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    local = [
        (where, dataset)
        for where, dataset in used_datasets(cfg, phases)
        if is_coco(dataset) and is_local(files_of(dataset)[0]) and not dataset.get("backend_args")
    ]
    for where, dataset in local:
        check_names(dataset, where)
    plain = [(where, dataset) for where, dataset in local if is_plain_coco(dataset)]
    seen: dict[tuple, tuple[str, Pictures]] = {}
    named: dict[str, set[str]] = {}
    for where, dataset in plain:
        training = where.startswith("train")
        key = (training, repr(dataset))
        if key in seen:
            continue
        check_annotations(dataset, where, training)
        seen[key] = where, _check_pictures(dataset, where)
        check_pipeline(dataset, where, training, _is_of_masks(cfg.model))
        folder = files_of(dataset)[1]
        paths = (os.path.join(folder, image[1]) for image in annotations_of(dataset).images)
        named.setdefault(os.path.abspath(folder), set()).update(map(os.path.abspath, paths))
    for phase in phases:
        check_evaluators(cfg, phase)
    for folder, paths in named.items():
        more = unnamed(folder, paths) if _is_of_pictures(folder, plain) else 0
        if more:
            note(f"{more} pictures in {folder} are named by no annotation file of this run.")
    for where, pictures in seen.values():
        for train_where, trained in seen.values():
            if train_where.startswith("train") and not where.startswith("train"):
                warn_of_leak(trained, pictures, where)


def length_of(dataset) -> int | None:
    """How many pictures a dataset of the config has, below whatever wrappers; None if unknown."""
    if dataset.get("datasets") is not None:
        lengths = [length_of(each) for each in dataset["datasets"]]
        return None if None in lengths else sum(lengths)
    if "dataset" in dataset:
        inner = length_of(dataset["dataset"])
        known = inner is not None and "oversample_thr" not in dataset
        return inner * dataset.get("times", 1) if known else None
    if is_coco(dataset):
        if not is_plain_coco(dataset):
            return None
        return len(pictures_of(dataset, annotations_of(dataset)))
    return None


def _check_pictures(dataset, where: str) -> Pictures:
    source, folder = files_of(dataset)
    images = pictures_of(dataset, annotations_of(dataset))
    sizes = {os.path.join(folder, name): (width, height) for _, name, width, height, *_ in images}
    _refuse_exchanged([*sizes], folder, where, source)
    pictures = check_pictures([*sizes], folder, where, source, loader_of(dataset))
    check_sizes(pictures, sizes, where, source)
    return pictures


def _refuse_exchanged(paths: Sequence[str], folder: str, where: str, source: str) -> None:
    """Refuse a list whose missing pictures all lie in a folder beside theirs, as another split's.

    Unless those that are there have namesakes in it as well: then names say nothing.

    Raises:
        BadInput: With that folder.
    """
    absent = {os.path.relpath(path, folder) for path in paths if not os.path.isfile(path)}
    above, own = os.path.split(os.path.normpath(folder))
    if not absent or not os.path.isdir(above):
        return
    names = [os.path.relpath(path, folder) for path in paths]
    for other in sorted(os.listdir(above)):
        there = os.path.join(above, other)
        if other == own or not os.path.isdir(there):
            continue
        if all(os.path.isfile(os.path.join(there, name)) == (name in absent) for name in names):
            path = os.path.join(folder, min(absent))
            raise BadInput(
                f"{len(absent)} of {len(paths)} pictures of {where} that {source!r} names are not "
                f"there, first {path!r}; all of them are in {there!r}: is it the list of "
                f"{other!r}? Give each split its own list, or name that folder in data_prefix."
            )


def _is_of_masks(model: Mapping) -> bool:
    """Whether a detector has a head for masks, beside those for boxes."""
    return any((part or {}).get("mask_head") for part in (model, model.get("roi_head")))


def _is_of_pictures(folder: str, plain: list[tuple[str, dict]]) -> bool:
    """Whether a folder is one of pictures alone, not the root of everything."""
    roots = {os.path.abspath(dataset.get("data_root") or ".") for _, dataset in plain}
    return folder not in roots


def _check_dataset(dataset, where: str) -> None:
    if not isinstance(dataset, Mapping) or dataset.get("backend_args") is not None:
        return  # files live behind a client of the user's
    if dataset_class(dataset) is None:
        raise BadInput(
            f"There is no dataset type {dataset.get('type')!r}, which {where} names; correct it, "
            "or import the module that registers it with custom_imports."
        )
    root = dataset.get("data_root") or ""
    for folder in prefixes_of(dataset).values():
        folder = os.path.join(root, folder or "")
        if is_local(folder) and not os.path.isdir(folder):
            raise BadInput(
                f"The folder {folder!r} of {where} does not exist; put the data there or set "
                "`data_root` and `data_prefix` (for example with --cfg-options)."
            )
    if not dataset.get("ann_file"):
        if is_coco(dataset):
            raise BadInput(
                f"{where} names no annotations; a config of configs/coco_folder takes its data "
                f"from a folder: {invocation('train-folder')} CONFIG FOLDER (to test or fold, use "
                "the config in the run's work dir); in another, set `data_root` and `ann_file`."
            )
        return
    if not isinstance(dataset["ann_file"], str):
        raise BadInput(
            f"ann_file of {where} is no path but {dataset['ann_file']!r}; several files are "
            "several datasets: dict(type='ConcatDataset', datasets=[...])."
        )
    ann_file = os.path.join(root, dataset["ann_file"])
    if is_local(ann_file) and not os.path.exists(ann_file):
        raise BadInput(
            f"The annotation file {ann_file!r} of {where} does not exist; put the data there or "
            "set `data_root` and `ann_file` (for example with --cfg-options)."
        )
    if is_plain_coco(dataset) and "img" not in prefixes_of(dataset):
        raise BadInput(
            f"{where} does not say where its pictures are; set data_prefix=dict(img='FOLDER/')."
        )
