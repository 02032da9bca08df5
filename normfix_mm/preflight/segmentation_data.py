"""What can be known to be wrong with a segmenter's images and labels before a run costs time.

Called by ``normfix_mm.preflight.check`` with the model that it has built. All files are looked at
from outside (``pictures``). Labels are then read as the training reads them, by the
``LoadAnnotations`` of the pipeline; of a large dataset, `MOST_READ` evenly spaced ones are.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping, Sequence

import mmcv
import numpy as np
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image
from torch import nn

from normfix_mm.datasets.config import classes_of, transforms_named, used_datasets
from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.headers import DEEP, Header, read_headers
from normfix_mm.preflight.notes import Progress, note, warn
from normfix_mm.preflight.pictures import (
    Pictures,
    check_pictures,
    loader_of,
    unnamed,
    warn_of_leak,
)
from normfix_mm.preflight.pipelines import check_order
from normfix_mm.preflight.segmentation_heads import heads_of

MOST_READ = 1000  # label files of a dataset; those of Cityscapes take some 15 ms each


def check_labels(cfg, model: nn.Module, phases: Sequence[str]) -> None:
    """Check the images and labels of these phases against the model, in the default scope.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    heads = heads_of(model)
    padding = getattr(model.data_preprocessor, "seg_pad_val", None)
    for name, head in heads.items():
        if "train" in phases and padding is not None and padding != head.ignore_index:
            warn(
                f"model.data_preprocessor.seg_pad_val is {padding}, but model.{name} ignores "
                f"{head.ignore_index}: what is padded is trained as class {padding}."
            )
    seen: list[str] = []
    trained: list[Pictures] = []
    colours = _Colours()
    for where, dataset in used_datasets(cfg, phases):
        key = repr(dataset)
        if not heads or dataset.get("backend_args") is not None or key in seen:
            continue
        seen.append(key)
        pictures = _check_dataset(dataset, heads, where, colours)
        if pictures and where.startswith("train"):
            trained.append(pictures)
        elif pictures:
            for each in trained:
                warn_of_leak(each, pictures, where)


class _Colours:
    """What number each colour of paletted label files stands for.

    Programs that save a picture with a palette may number the colours of each file anew, by how
    often they occur or without those that do not: labels are read as these numbers.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, str]] = {}

    def compare(self, colours: Mapping[str, int], path: str, where: str) -> None:
        """Take the colours of one more file.

        Raises:
            BadInput: One of them has another number in a file before.
        """
        for colour, number in colours.items():
            before, other = self._known.setdefault(colour, (number, path))
            if before != number:
                raise BadInput(
                    f"The label file {path!r} of {where} has the colour #{colour} as number "
                    f"{number} of its palette, {other!r} as {before}: the same class would be "
                    "trained as two; write the class numbers, with one palette for all files."
                )


def _check_dataset(
    dataset: Mapping, heads: dict[str, nn.Module], where: str, colours: _Colours
) -> Pictures | None:
    """Check one dataset of the config; None if it is of another kind.

    Raises:
        BadInput: No image, a missing or unreadable file, image and label of different size, a label
            that is no class.
    """
    data = _build(dataset, where)
    if not isinstance(data, BaseSegDataset):
        return None
    if not len(data):
        raise BadInput(
            f"The dataset of {where} has no image that ends in {data.img_suffix!r} under "
            f"{data.data_prefix.get('img_path')!r}; correct `data_prefix` or `img_suffix`."
        )
    infos = [data.get_data_info(index) for index in range(len(data))]
    folder = data.data_prefix.get("img_path") or ""
    images = [info["img_path"] for info in infos]
    pictures = check_pictures(images, folder, where, data.ann_file or "", loader_of(dataset))
    annotates = _label_reader(dataset)
    if annotates is None:
        return pictures
    absent = [info for info in infos if not os.path.isfile(info.get("seg_map_path", ""))]
    if absent:
        raise BadInput(
            f"{len(absent)} of {len(infos)} images of {where} have no label file, first "
            f"{absent[0].get('seg_map_path')!r} for {absent[0]['img_path']!r}; add the files, or "
            "correct `data_prefix`, `img_suffix` or `seg_map_suffix`."
        )
    if where.startswith("train"):
        check_order(dataset, infos[0], where)
    more = unnamed(folder, images) if data.data_prefix.get("img_path") else 0
    if more:
        note(f"{more} pictures in {folder} are not used by {where}, which takes {data.img_suffix}.")
    labels = read_headers(
        [info["seg_map_path"] for info in infos],
        data.data_prefix.get("seg_map_path") or "",
        "label file",
        where,
        lambda path: mmcv.imread(path, flag="unchanged"),
    )
    maps = data.data_prefix.get("seg_map_path")
    lonely = unnamed(maps, labels) if maps and more == 0 else 0
    if lonely:
        warn(f"{lonely} label files in {maps} have no image of {where}.")
    for info in infos:
        _check_files(info, labels[info["seg_map_path"]], pictures, where)
    read = infos[:: -(-len(infos) // MOST_READ)]
    deep = {path for path, header in labels.items() if not _is_of_bytes(header)}
    paletted = {path for path, header in labels.items() if header.kind == "PNG P"}
    _check_values(read, annotates, heads, dataset, where, len(infos), deep, paletted, colours)
    return pictures


def _build(dataset: Mapping, where: str):
    options = dict(copy.deepcopy(dataset), pipeline=[])
    try:
        try:
            # Serializing fails if there is nothing in it, which is ours to say.
            return DATASETS.build(dict(options, serialize_data=False))
        except TypeError as error:
            if "serialize_data" not in str(error):
                raise
            return DATASETS.build(options)
    except Exception as error:  # a wrong option, classes that the dataset does not have, ...
        raise BadInput(f"The dataset of {where} cannot be built: {one_line(error)}") from None


def _label_reader(dataset: Mapping):
    steps = transforms_named(dataset, "LoadAnnotations")
    return TRANSFORMS.build(copy.deepcopy(steps[0])) if steps else None


def _check_files(info: dict, label: Header, pictures: Pictures, where: str) -> None:
    path = info["seg_map_path"]
    if label.kind.startswith("JPEG"):
        raise BadInput(
            f"The label file {path!r} of {where} is a JPEG file, which does not keep numbers; "
            "write labels as PNG from what the JPEG files were made of."
        )
    size = pictures.size(info["img_path"])
    if (label.width, label.height) != size:
        raise BadInput(
            f"The label file {path!r} of {where} has {label.width}x{label.height} pixels, its "
            f"image {info['img_path']!r} {size[0]}x{size[1]}; write labels of the images' size."
        )


def _check_values(
    infos: list[dict],
    annotates,
    heads: dict,
    dataset: Mapping,
    where: str,
    of: int,
    deep: set[str],
    paletted: set[str],
    colours: _Colours,
) -> None:
    """Read labels, compare them with the heads, say which classes there are.

    Args:
        infos: of the labels to read, of so many.
        deep: files that may hold numbers of more than 8 bits.
        paletted: files whose numbers have colours.
        colours: of the files that were read before.
    """
    how = json.dumps(
        [transforms_named(dataset, "LoadAnnotations"), infos[0].get("label_map")], default=str
    )
    how = (how, infos[0].get("reduce_zero_label"), os.path.dirname(infos[0]["seg_map_path"]))
    known, kept, there = recall("labels", *how), {}, set()
    ignored = {head.ignore_index for head in heads.values()}
    progress, blank = Progress(f"label files of {where}", len(infos)), 0
    for info in infos:
        path = info["seg_map_path"]
        stamp = stamp_of(path)
        if known.get(path, [None])[0] == stamp:
            _, values, palette = known[path]
        else:
            values = _values(info, annotates, where, path in deep)
            palette = _palette(path) if path in paletted else {}
        colours.compare(palette, path, where)
        _check_classes(values, heads, path, where)
        there.update(values)
        blank += not set(values) - ignored
        if settled(stamp):
            kept[path] = [stamp, values, palette]
        progress.step()
    if any(known.get(path) != each for path, each in kept.items()):
        remember(known | kept, "labels", *how)
    note(
        f"{where}: {of} images and labels"
        + (f", {len(infos)} of the labels read" if len(infos) < of else "")
        + (f"; {blank} labels have no pixel that counts" if blank else "")
        + "."
    )
    if blank == len(infos):
        raise BadInput(
            f"No label file of {where} has a pixel that counts: all hold "
            f"{quoted(sorted(ignored))}, which is ignored; write the class numbers 0, 1, …."
        )
    only = there - ignored
    if len(only) == 1 and where.startswith("train"):
        raise BadInput(
            f"All pixels that count in the label files of {where} are of class {only.pop()}, so "
            "that there is nothing to tell apart; write the class numbers 0, 1, … (of a mask of 0 "
            "and 255, where 255 does not count: 0 and 1)."
        )
    classes = classes_of(dataset, where) or ()
    absent = [name for k, name in enumerate(classes) if k not in there]
    if absent:
        what = "will not be learned" if where.startswith("train") else "is not evaluated"
        few = "" if len(infos) == of else f" in the {len(infos)} label files read"
        warn(f"No pixel of {where} is of class {quoted(absent)}{few}: what never occurs {what}.")


def _is_of_bytes(header: Header) -> bool:
    return not header.kind.endswith(DEEP) and not header.kind.startswith("other")


def _values(info: dict, annotates, where: str, deep: bool) -> list[int]:
    """The labels that occur in a file, as the training reads it."""
    path = info["seg_map_path"]
    try:
        label = annotates(copy.deepcopy(info))["gt_seg_map"]
        # LoadAnnotations wraps numbers of more bits around, so they are read again as they stand.
        backend = annotates.imdecode_backend
        stored = mmcv.imread(path, flag="unchanged", backend=backend) if deep else label
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
    if deep and not np.array_equal(stored, stored.astype(np.uint8)):
        number = stored[stored != stored.astype(np.uint8)].max()
        raise BadInput(
            f"The label file {path!r} of {where} holds {number:g}, and training reads labels as 8 "
            f"bits, where it becomes {np.asarray(number).astype(np.uint8)}; write class numbers "
            "from 0 to 254, and 255 where nothing counts."
        )
    return np.unique(label).tolist()


def _palette(path: str) -> dict[str, int]:
    """The number of each colour that occurs in a file, if it has but one."""
    with Image.open(path) as image:
        numbers, table = np.unique(np.asarray(image)).tolist(), image.getpalette() or []
    colours = [bytes(table[3 * number : 3 * number + 3]).hex() for number in numbers]
    return {c: n for c, n in zip(colours, numbers) if c and colours.count(c) == 1}


def _check_classes(values: list[int], heads: dict, path: str, where: str) -> None:
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
