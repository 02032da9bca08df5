"""What can be known to be wrong with a segmenter's data before a run costs time.

Called by ``normfix_mm.preflight.check`` with the model that it has built: images, label files,
their sizes and values, and, in ``segmentation_heads``, what the heads are for. Labels are read as
the training reads them, by the ``LoadAnnotations`` of the pipeline; of a large dataset,
`MOST_READ` evenly spaced ones are.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence

import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image, UnidentifiedImageError
from torch import nn

from normfix_mm.datasets.config import LOADERS, datasets, transforms_named
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.segmentation_heads import (
    check_classes,
    check_crop,
    check_losses,
    heads_of,
)

MOST_READ = 1000  # label files of a dataset; those of Cityscapes take some 15 ms each
_ROTATED = 5  # EXIF orientations from this one on exchange width and height
_ORIENTATION = 0x0112


def check_segmentation(cfg, model: nn.Module, phases: Sequence[str]) -> None:
    """Check the data of these phases against the model, in the config's default scope.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    for loader in (LOADERS[phase][0] for phase in phases):
        if cfg.get(loader) is not None:
            for dataset in datasets(cfg[loader].dataset):
                check_dataset(dataset, model, where=f"{loader}.dataset")
    if "train" in phases:
        check_losses(model)
        check_crop(cfg, model)


def check_dataset(dataset: Mapping, model: nn.Module, where: str) -> None:
    """Check one dataset of the config against the heads of the model.

    Raises:
        BadInput: No image, a missing or unreadable label file, image and label of different size,
            a label that is no class, or another number of classes than a head has.
    """
    heads = heads_of(model)
    if not heads or dataset.get("backend_args") is not None:
        return
    try:
        data = _built(dataset)
    except Exception as error:  # a wrong option, classes that the dataset does not have, ...
        raise BadInput(f"The dataset of {where} cannot be built: {one_line(error)}") from None
    if not isinstance(data, BaseSegDataset):
        return
    check_classes(data.metainfo.get("classes"), model, where)
    if not len(data):
        raise BadInput(
            f"The dataset of {where} has no image that ends in {data.img_suffix!r} under "
            f"{data.data_prefix.get('img_path')!r}; correct `data_prefix` or `img_suffix`."
        )
    loads, annotates = (_step(dataset, name) for name in ("LoadImage", "LoadAnnotations"))
    if loads is None or annotates is None:
        return
    infos = [data.get_data_info(index) for index in range(len(data))]
    absent = [info for info in infos if not os.path.isfile(info.get("seg_map_path", ""))]
    if absent:
        raise BadInput(
            f"{len(absent)} of {len(infos)} images of {where} have no label file, first "
            f"{absent[0].get('seg_map_path')!r} for {absent[0]['img_path']!r}; add the files, or "
            "correct `data_prefix`, `img_suffix` or `seg_map_suffix`."
        )
    for info in infos[:: -(-len(infos) // MOST_READ)]:
        _check_label(info, loads, annotates, heads, where)


def _step(dataset: Mapping, name: str):
    """The transform of the pipeline whose type begins with this, None if there is none."""
    steps = transforms_named(dataset, name)
    return TRANSFORMS.build(copy.deepcopy(steps[0])) if steps else None


def _built(dataset: Mapping) -> BaseSegDataset:
    options = dict(copy.deepcopy(dataset), pipeline=[])
    try:
        # Serializing fails if there is nothing in it, which is ours to say.
        return DATASETS.build(dict(options, serialize_data=False))
    except TypeError as error:
        if "serialize_data" not in str(error):
            raise
        return DATASETS.build(options)


def _check_label(info: dict, loads, annotates, heads: dict[str, nn.Module], where: str) -> None:
    path = info["seg_map_path"]
    try:
        label = annotates(copy.deepcopy(info))["gt_seg_map"]
    except AssertionError as error:  # options of the dataset and of the step that contradict
        raise BadInput(
            f"The labels of {where} cannot be loaded ({one_line(error)}); give the option to the "
            "dataset alone."
        ) from None
    except Exception as error:  # each decoder has errors of its own
        raise BadInput(
            f"The label file {path!r} of {where} cannot be read ({one_line(error, 120)}); write it "
            "again."
        ) from None
    if label.ndim != 2:
        raise BadInput(
            f"The label file {path!r} of {where} has {label.shape[-1]} channels; labels are images "
            "of one channel that holds the class numbers: convert the colours."
        )
    size = _image_size(info, loads, where)
    if label.shape != size:
        raise BadInput(
            f"The label file {path!r} of {where} has {label.shape[1]}x{label.shape[0]} pixels, its "
            f"image {info['img_path']!r} {size[1]}x{size[0]}; write labels of the images' size."
        )
    values = np.unique(label).tolist()
    for name, head in heads.items():
        count, ignored = head.num_classes, head.ignore_index
        wrong = [value for value in values if value >= count and value != ignored]
        if wrong:
            from_one = "; if the labels count from 1, set reduce_zero_label=True of the dataset"
            raise BadInput(
                f"The label file {path!r} of {where} holds {quoted(wrong)}, for model.{name} "
                f"neither a class (0 to {count - 1}) nor the ignored {ignored}; correct the labels "
                f"or num_classes{from_one if wrong == [count] else ''}."
            )


def _image_size(info: dict, loads, where: str) -> tuple[int, int]:
    """Height and width as the training sees them; from the file's header where that is enough."""
    try:
        try:
            with Image.open(info["img_path"]) as image:
                width, height = image.size
                rotated = image.getexif().get(_ORIENTATION, 1) >= _ROTATED
            return (width, height) if rotated else (height, width)
        except UnidentifiedImageError:  # remote sensing has formats of its own
            return loads(copy.deepcopy(info))["img"].shape[:2]
    except Exception as error:  # absent, cut off, or whatever else a decoder says
        raise BadInput(
            f"The image {info['img_path']!r} of {where} cannot be read ({one_line(error, 120)}); "
            "fetch or write it again."
        ) from None
