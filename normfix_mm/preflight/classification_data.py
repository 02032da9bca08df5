"""What can be known to be wrong with a classifier's data before a run costs time.

Called by ``normfix_mm.preflight.check`` with the model that it has built: are the images there, are
their labels classes of the head, do training and validation mean the same classes by the same
numbers? Of each dataset `MOST_READ` evenly spaced images are opened. Sets that MMPretrain fetches
by itself (CIFAR, MNIST and the like) are left to it.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence

from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS
from PIL import Image
from torch import nn

from normfix_mm.datasets.config import LOADERS, datasets, type_name
from normfix_mm.errors import BadInput, one_line, quoted

MOST_READ = 2000
_FETCHED = ("CIFAR", "MNIST", "FashionMNIST")


def check_classification(cfg, model: nn.Module, phases: Sequence[str]) -> None:
    """Check the data and metrics of these phases against the model, in the config's scope.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    head = getattr(model, "head", None)
    number = getattr(head, "num_classes", None)
    named: dict[str, Sequence[str]] = {}
    for loader in (LOADERS[phase][0] for phase in phases):
        if cfg.get(loader) is None:
            continue
        for dataset in datasets(cfg[loader].dataset):
            where = f"{loader}.dataset"
            if type_name(dataset).startswith(_FETCHED) or dataset.get("backend_args"):
                continue
            classes = _check_dataset(dataset, number, where)
            if classes is not None:
                named[where] = classes
    for where, classes in named.items():
        first, others = next(iter(named.items()))
        if tuple(classes) != tuple(others):
            raise BadInput(
                f"{where} has the classes {quoted(classes)}, {first} has {quoted(others)}: the "
                "same number would mean another class; give both the same class folders, or the "
                "same metainfo=dict(classes=...)."
            )
    for phase in phases:
        _check_guesses(cfg, LOADERS[phase][1], number)
    _check_mixing(model, number)


def _check_dataset(dataset: Mapping, number: int | None, where: str) -> Sequence[str] | None:
    try:
        data = DATASETS.build(dict(copy.deepcopy(dataset), pipeline=[], serialize_data=False))
    except Exception as error:  # no such folder, no image in it, a wrong option, ...
        raise BadInput(
            f"The dataset of {where} cannot be read ({one_line(error)}); correct its `data_root`, "
            "`data_prefix` and `ann_file`, or train on a folder of images by class with "
            "tools/train_folder.py."
        ) from None
    if not isinstance(data, BaseDataset):
        return None
    classes = data.metainfo.get("classes")
    infos = [data.get_data_info(index) for index in range(len(data))]
    if classes is not None and number is not None and len(classes) != number:
        raise BadInput(
            f"model.head has num_classes={number}, but {where} has {len(classes)} classes "
            f"({quoted(classes)}); set num_classes={len(classes)}."
        )
    wrong = [i for i in infos if not _is_class(i.get("gt_label"), number)]
    if wrong:
        raise BadInput(
            f"{wrong[0]['img_path']!r} of {where} has the label {wrong[0].get('gt_label')!r}, "
            f"which is no class of model.head (0 to {number - 1}); correct the list or num_classes."
        )
    absent = [i["img_path"] for i in infos if "img_path" in i and not os.path.isfile(i["img_path"])]
    if absent:
        raise BadInput(
            f"{len(absent)} of {len(infos)} images of {where} do not exist, first {absent[0]!r}; "
            "put them there, or correct the list."
        )
    for info in infos[:: -(-len(infos) // MOST_READ) or 1]:
        _check_image(info.get("img_path"), where)
    return classes


def _is_class(label, number: int | None) -> bool:
    if number is None or label is None:
        return True
    labels = label if isinstance(label, (list, tuple)) else [label]
    return all(0 <= int(each) < number for each in labels)


def _check_image(path: str | None, where: str) -> None:
    if path is None:
        return
    try:
        with Image.open(path) as image:
            image.load()
    except Exception as error:  # each decoder has errors of its own
        raise BadInput(
            f"The image {path!r} of {where} cannot be read ({one_line(error, 120)}); fetch or "
            "write it again, or take it out."
        ) from None


def _check_guesses(cfg, evaluator: str | None, number: int | None) -> None:
    """Among three classes there is no top-5, which MMPretrain finds at the first evaluation."""
    metrics = cfg.get(evaluator) if evaluator else None
    for metric in [metrics] if isinstance(metrics, Mapping) else metrics or ():
        topk = metric.get("topk", 1)
        most = max(topk) if isinstance(topk, (list, tuple)) else topk
        if number is not None and most > number:
            raise BadInput(
                f"{evaluator} counts the best {most} guesses of {number} classes; set topk to "
                f"(1,) or at most {number}."
            )


def _check_mixing(model: nn.Module, number: int | None) -> None:
    """Mixup and CutMix make one-hot labels, as long as the data_preprocessor says."""
    preprocessor = getattr(model, "data_preprocessor", None)
    if getattr(preprocessor, "batch_augments", None) is None or number is None:
        return
    if preprocessor.num_classes != number:
        raise BadInput(
            f"model.data_preprocessor has num_classes={preprocessor.num_classes}, model.head "
            f"{number}; batch augmentations such as Mixup need the same in both."
        )
