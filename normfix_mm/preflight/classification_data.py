"""What can be known to be wrong with a classifier's data before a run costs time.

Are the images there and whole, are their labels classes of the head, do training and validation
mean the same classes by the same numbers? Sets that MMPretrain fetches by itself (CIFAR, MNIST and
the like) are left to it, and so are those that lie behind a client of the user's.
"""

from __future__ import annotations

import copy
import filecmp
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from mmpretrain.datasets import BaseDataset
from mmpretrain.models import ClsHead
from mmpretrain.registry import DATASETS
from torch import nn

from normfix_mm.datasets.config import type_name, used_datasets
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.evaluators import metrics_of
from normfix_mm.preflight.notes import note, warn
from normfix_mm.preflight.pictures import (
    Pictures,
    check_pictures,
    loader_of,
    unnamed,
    warn_of_leak,
)
from normfix_mm.typed import invocation

_FETCHED = ("CIFAR", "MNIST", "FashionMNIST")


def check_images(cfg, model: nn.Module, phases: Sequence[str]) -> None:
    """Check the images and labels of these phases, in the config's default scope.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    number = getattr(getattr(model, "head", None), "num_classes", None)
    first: tuple[str, Sequence[str]] | None = None
    trained: list[Pictures] = []
    seen: set[str] = set()
    folders: dict[str, set[str]] = {}
    for where, dataset in used_datasets(cfg, phases):
        if type_name(dataset).startswith(_FETCHED) or dataset.get("backend_args"):
            continue
        if (same := repr(dataset)) in seen:
            continue
        seen.add(same)
        data = _built(dataset, where)
        if data is None:
            continue
        classes = data.metainfo.get("classes")
        if classes is not None:
            first = first or (where, classes)
            _check_classes(classes, first, number, where)
        infos = [data.get_data_info(index) for index in range(len(data))]
        _check_labels(infos, number, where)
        paths = list(dict.fromkeys(info["img_path"] for info in infos if "img_path" in info))
        if not paths:
            continue
        folder = data.img_prefix or os.path.commonpath(paths)
        pictures = check_pictures(
            paths, folder, where, str(data.ann_file or ""), loader_of(dataset)
        )
        folders.setdefault(os.path.abspath(folder), set()).update(map(os.path.abspath, paths))
        _say(infos, classes, folder, where)
        _warn_of_two_classes(infos, pictures, where)
        if where.startswith("train"):
            trained.append(pictures)
        for each in () if where.startswith("train") else trained:
            warn_of_leak(each, pictures, where)
    for folder, used in folders.items():
        if more := unnamed(folder, used):
            warn(f"{more} pictures in {folder} are not used by this run.")


def check_guesses(cfg, model: nn.Module, phases: Sequence[str]) -> None:
    """Among three classes there is no top-5; mixed labels have as many places as classes.

    Raises:
        BadInput: An evaluator or the batch augmentation means another number of classes; or there
            is one class alone.
    """
    number = getattr(getattr(model, "head", None), "num_classes", None)
    if number is None:
        return
    if number == 1 and isinstance(model.head, ClsHead):
        raise BadInput(
            "model.head has one class, of which a softmax is always 1: nothing is learned, and "
            "every answer is right; give two classes or more."
        )
    for phase in phases:
        for where, metric in metrics_of(cfg, phase):
            most = max(_listed(metric.get("topk", 1)))
            if most > number:
                raise BadInput(
                    f"{where} counts the best {most} guesses of {number} classes; set its topk to "
                    f"(1,), or to {number} at most."
                )
    mixes = getattr(model.data_preprocessor, "batch_augments", None) is not None
    if "train" in phases and mixes and model.data_preprocessor.num_classes != number:
        raise BadInput(
            f"model.data_preprocessor has num_classes={model.data_preprocessor.num_classes}, "
            f"model.head {number}; Mixup and CutMix need the same in both."
        )


def _built(dataset: Mapping, where: str) -> BaseDataset | None:
    try:
        data = DATASETS.build(dict(copy.deepcopy(dataset), pipeline=[], serialize_data=False))
    except Exception as error:  # no such folder, no image in it, a wrong option, ...
        raise BadInput(
            f"The dataset of {where} cannot be read ({one_line(error)}); correct its `data_root`, "
            "`data_prefix` and `ann_file`, or name a folder of images by class to "
            f"{invocation('train-folder')}."
        ) from None
    return data if isinstance(data, BaseDataset) else None


def _check_classes(
    classes: Sequence[str], first: tuple[str, Sequence[str]], number: int | None, where: str
) -> None:
    """Class folders that MMPretrain finds for itself are in no config."""
    if number is not None and len(classes) != number:
        raise BadInput(
            f"model.head has num_classes={number}, but {where} has {len(classes)} classes "
            f"({quoted(classes)}); set model.head.num_classes={len(classes)}."
        )
    if tuple(classes) != tuple(first[1]):
        raise BadInput(
            f"{where} has the classes {quoted(classes)}, {first[0]} has {quoted(first[1])}: the "
            "same number would mean another class; give both the same class folders."
        )


def _check_labels(infos: Sequence[Mapping], number: int | None, where: str) -> None:
    for info in infos if number is not None else ():
        if any(not 0 <= int(label) < number for label in _listed(info.get("gt_label", 0))):
            raise BadInput(
                f"{info.get('img_path')!r} of {where} has the label {info['gt_label']!r}, which is "
                f"no class of model.head (0 to {number - 1}); correct the list or num_classes."
            )


def _say(infos: Sequence[Mapping], classes: Sequence[str] | None, folder: str, where: str) -> None:
    """Say how many pictures there are, and what of their classes is probably not meant."""
    counts = Counter(label for info in infos for label in _listed(info.get("gt_label", ())))
    note(f"{where}: {len(infos)} pictures of {len(counts)} classes.")
    absent = [name for label, name in enumerate(classes or ()) if counts and not counts[label]]
    if absent:
        what = "will not be learned" if where.startswith("train") else "are not evaluated"
        warn(f"No picture of {where} is of class {quoted(absent)}: these classes {what}.")
    outer: dict[str, set] = {}
    deep = []
    for info in infos:
        name = os.path.relpath(info.get("img_path", ""), folder)
        outer.setdefault(name.split(os.sep)[0], set()).update(_listed(info.get("gt_label", ())))
        deep += [name] if name.count(os.sep) > 1 else []
    if deep and len(outer) > 1 and all(len(labels) == 1 for labels in outer.values()):
        warn(
            f"{len(deep)} pictures of {where}, first {deep[0]!r}, lie in folders within the folder "
            "of their class, and are all of that one class."
        )


def _warn_of_two_classes(infos: Sequence[Mapping], pictures: Pictures, where: str) -> None:
    """Say which pictures are there twice, as of different classes."""
    first: dict[tuple[int, int], Mapping] = {}
    pairs = []
    for info in infos:
        other = first.setdefault(pictures.headers[info["img_path"]].fingerprint, info)
        if other.get("gt_label") != info.get("gt_label"):
            pairs.append((info["img_path"], other["img_path"]))
    if pairs and all(filecmp.cmp(*pair, shallow=False) for pair in pairs[:5]):
        warn(
            f"{len(pairs)} pictures of {where} are there as of two classes, first {pairs[0][0]!r} "
            f"and {pairs[0][1]!r}; take one of each out."
        )


def _listed(value) -> Iterator:
    yield from value if isinstance(value, (list, tuple)) else [value]
