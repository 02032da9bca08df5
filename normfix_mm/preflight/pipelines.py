"""Does a pipeline prepare a picture, and do labels and predictions lie on its objects?

Each detector's is tried out step by step on the first picture, with one made-up object in its
middle. What fails there would fail in the first batch, or in the first evaluation, after an epoch.
What MMDetection never finds: labels that are loaded after the picture was resized, flipped or
cropped stay where they were, and predictions on pictures that an evaluation flips or crops are
compared with the annotations of those that it does not. Of a segmenter's the order is looked at.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import random
import tempfile
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from mmengine.registry import TRANSFORMS

from normfix_mm.datasets.config import classes_of, transforms_named, type_name
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.coco import annotations_of, pictures_of
from normfix_mm.typed import invocation

_TRIES = 8  # of a pipeline with a step that is left to chance
_NEEDED = ("img_id", "img_shape", "ori_shape", "scale_factor")  # to compare predictions


def check_pipeline(dataset: Mapping, where: str, training: bool, masks: bool = False) -> None:
    """Try out the pipeline of a dataset in COCO format; one that cannot be built is left alone.

    Args:
        masks: whether the model is trained on masks.

    Raises:
        BadInput: At the first step that fails or moves the picture at the wrong time, or what comes
            out is not what is needed.
    """
    data = _of_one_picture(dataset)
    if data is None:
        return
    chance = any(
        type(step).__name__.startswith("Random") or hasattr(step, "prob")
        for step in data.pipeline.transforms
    )
    with _same_chance():
        for _ in range(_TRIES if chance else 1):
            sample = _prepared(data, where, training)
            if training and transforms_named(dataset, "LoadAnnotations"):
                _check_labels(sample, where, masks)
            elif not training:
                _check_comparable(sample, where)


def _of_one_picture(dataset: Mapping):
    """The dataset with its first picture alone; None if it cannot be built."""
    from mmdet.registry import DATASETS

    if dataset.get("proposal_file"):  # which goes with all pictures
        return None
    found = annotations_of(dataset)
    number, name, width, height, *_ = pictures_of(dataset, found)[0]
    classes = classes_of(dataset, "") or found.names
    x, y, w, h = width / 4, height / 4, width / 2, height / 2
    content = dict(
        images=[dict(id=number, file_name=name, width=width, height=height)],
        categories=[dict(id=number, name=name) for number, name in found.categories],
        annotations=[
            dict(
                id=1,
                image_id=number,
                category_id=next(number for number, name in found.categories if name in classes),
                bbox=[x, y, w, h],
                area=w * h,
                iscrowd=0,
                segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
            )
        ],
    )
    options = copy.deepcopy(dict(dataset)) | dict(serialize_data=False, indices=None)
    options.pop("filter_cfg", None)
    with tempfile.TemporaryDirectory() as folder:
        options["ann_file"] = os.path.join(folder, "one.json")
        with open(options["ann_file"], "w", encoding="utf-8") as file:
            json.dump(content, file)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
                return DATASETS.build(options)
        except Exception:  # a name or option that the run will say
            return None


def _prepared(data, where: str, training: bool):
    """What the pipeline makes of the picture; None if it makes nothing of it, as a crop may."""
    results, name = data.get_data_info(0), ""
    for step in data.pipeline.transforms:
        name = type(step).__name__
        if training and name.startswith("LoadAnnotations"):
            _check_order(results, name, where)
        try:
            results = step(results)
        except Exception as error:
            raise BadInput(
                f"The pipeline of {where} fails at {name}, on a picture of "
                f"{data.get_data_info(0)['width']}x{data.get_data_info(0)['height']} pixels with "
                f"one box ({type(error).__name__}: {one_line(error, 200)}); correct this step or "
                "those before it."
            ) from None
        if results is None:
            return None
        if not training and _is_turned(results):
            raise BadInput(
                f"The pipeline of {where} flips or crops the picture ({name}), but what is "
                "predicted on it is compared with the annotations of the picture as it is: take "
                f"{name} out (flips of test-time augmentation: {invocation('test')} --tta)."
            )
    if name.startswith("Pack") and "inputs" not in results:
        raise BadInput(
            f"The pipeline of {where} loads no picture; begin it with "
            "dict(type='LoadImageFromFile')."
        )
    return results


def check_order(dataset: Mapping, info: dict, where: str) -> None:
    """Try out a segmenter's pipeline for training as far as the labels are loaded.

    Args:
        info: of one picture, as the dataset gives it.

    Raises:
        BadInput: The picture was moved before.
    """
    results = copy.deepcopy(info)
    with _same_chance():
        for step in dataset["pipeline"]:
            if type_name(step).startswith("LoadAnnotations"):
                return _check_order(results, type_name(step), where)
            try:
                results = TRANSFORMS.build(copy.deepcopy(step))(results)
            except Exception:  # the run says it, in its first batch
                return None
            if results is None:
                return None


def _check_order(results: Mapping, name: str, where: str) -> None:
    """Refuse labels of a picture whose pixels may lie elsewhere by now than in the file."""
    sizes = [tuple(results.get(key, ())[:2]) for key in ("img_shape", "ori_shape")]
    scaled = not np.allclose(results.get("scale_factor", 1), 1)
    if scaled or "flip" in results or sizes[0] != sizes[1]:
        raise BadInput(
            f"The pipeline of {where} loads the labels ({name}) after it has resized, flipped or "
            f"cropped the picture, so that they would not lie on their objects: put {name} right "
            "behind the step that loads the picture."
        )


def _is_turned(results: Mapping) -> bool:
    """Whether the picture is another than that of the file, enlarged or made smaller."""
    if not isinstance(results, Mapping) or "ori_shape" not in results:
        return False
    scale = np.array(results.get("scale_factor", (1, 1)))  # of width and height
    matrix = results.get("homography_matrix")
    if matrix is not None and not np.allclose(matrix, np.diag([*scale, 1]), rtol=0.02, atol=0.02):
        return True
    size = np.array(results["ori_shape"][1::-1]) * scale
    return bool((np.array(results["img_shape"][1::-1]) < size - 2).any())


def _check_labels(sample, where: str, masks: bool) -> None:
    packed = _packed(sample)
    if packed is None:
        return
    loaded = " ".join(packed.gt_instances.keys())
    for name, what in dict(bbox="boxes", mask="masks").items():
        if name not in loaded and (masks or name == "bbox"):
            raise BadInput(
                f"The pipeline of {where} loads no {what}; write with_{name}=True in its "
                "LoadAnnotations."
            )


def _check_comparable(sample, where: str) -> None:
    packed = _packed(sample)
    if packed is None:
        return
    absent = [key for key in _NEEDED if key not in packed.metainfo]
    if "border" in packed.metainfo:  # of CenterNet and the like, which scale nothing
        absent = [key for key in absent if key != "scale_factor"]
    if absent:
        raise BadInput(
            f"The pipeline of {where} does not hand on {quoted(absent)}, which predictions are "
            "compared by; add it to the meta_keys of PackDetInputs"
            + (", and have a step Resize, which writes it." if "scale_factor" in absent else ".")
        )


def _packed(sample):
    """What the last step has packed; None for what others pack, and semi-supervised training."""
    packed = sample.get("data_samples") if isinstance(sample, Mapping) else None
    return packed if hasattr(packed, "metainfo") else None


@contextlib.contextmanager
def _same_chance() -> Iterator[None]:
    """Leave the random numbers that follow as they would have been."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
