"""A folder in COCO format as the data of a detection config.

FOLDER/images/{train,val}/…            FOLDER/annotations/instances_{train,val}.json

MMDetection numbers the classes in the order of each file's categories, whatever order the config
names them in, and its evaluation wants `iscrowd` of each annotation. Files are taken as people have
them: where one is not in order, a copy of it that is stands in the work dir, and is what the config
names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.coco_annotations import Annotations, read_annotations
from normfix_mm.datasets.coco_entries import read_json
from normfix_mm.datasets.folder import Folder, Split
from normfix_mm.errors import BadInput, listing

if TYPE_CHECKING:
    from mmengine.config import Config


class CocoFolder(Folder):
    """Images, and boxes or masks of what is on them."""

    layout = (
        "a COCO-format folder has images/{train,val} and annotations/instances_{train,val}.json"
    )

    def parts(self, split: Split) -> list[Path]:
        return [self.root / "images" / split.name, self._annotations(split)]

    def classes(self, split: Split) -> Sequence[str]:
        return read_annotations(self._annotations(split)).names

    def settings(self, split: Split, classes: Sequence[str], cfg: Config) -> dict:
        path = self._annotations(split)
        there = read_annotations(path)
        missing = [name for name in classes if name not in there.names]
        if missing:
            raise BadInput(f"{path} has no class {missing[0]!r}; it has {listing(there.names)}.")
        if _wants_order(there, classes):
            path = _in_order(path, classes, Path(cfg.get("work_dir") or "work_dirs"), split.name)
        return dict(ann_file=str(path), data_prefix=dict(img=f"images/{split.name}/"))

    def set_evaluators(self, cfg: Config) -> None:
        for phase in ("val", "test"):
            loader, evaluator = cfg.get(f"{phase}_dataloader"), cfg.get(f"{phase}_evaluator")
            if loader is None or evaluator is None:
                continue
            dataset = loader.dataset
            while "ann_file" not in dataset:
                dataset = dataset.dataset
            for each in evaluator if isinstance(evaluator, list) else [evaluator]:
                each.ann_file = dataset.ann_file

    def training_images(self) -> list:
        path = self._annotations(Split("train", None))
        if not path.exists():
            raise BadInput(f"{path} does not exist; {self.layout}.")
        return [image[0] for image in read_annotations(path).images]

    def write_list(self, out: Path, name: str, chosen: set) -> Path:
        data, _ = read_json(self._annotations(Split("train", None)))
        data["images"] = [image for image in data["images"] if image["id"] in chosen]
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] in chosen]
        with replacing(out / f"instances_{name}.json") as part:
            part.write_text(json.dumps(data))
        return out / f"instances_{name}.json"

    def _annotations(self, split: Split) -> Path:
        return split.list or self.root / f"annotations/instances_{split.name}.json"


def _wants_order(there: Annotations, classes: Sequence[str]) -> bool:
    """Whether MMDetection would misread the file, or its evaluation fail on it."""
    order = [name for name in there.names if name in classes]
    return bool(
        order != list(classes) or there.byte_order_mark or there.crowd_unknown or there.zero_id
    )


def _in_order(path: Path, classes: Sequence[str], work_dir: Path, name: str) -> Path:
    """A copy in the work dir with categories in the order of `classes` and all that is needed."""
    data, _ = read_json(path)
    place = {each: k for k, each in enumerate(classes)}
    data["categories"].sort(key=lambda category: place.get(category["name"], len(place)))
    free = max((a["id"] for a in data.get("annotations", ())), default=0) + 1
    for annotation in data.get("annotations", ()):
        annotation.setdefault("iscrowd", 0)
        annotation["id"] = annotation["id"] or free
    mark = hashlib.sha256(repr((str(path), classes)).encode()).hexdigest()[:8]
    copy = (work_dir / "annotations" / f"{name}_{path.stem}_{mark}.json").resolve()
    text = json.dumps(data)
    if not copy.is_file() or copy.read_text() != text:  # else what was found in it is still known
        with replacing(copy) as part:
            part.write_text(text)
        times = path.stat()
        os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))  # as old as what it holds
    return copy
