"""A few small pictures in COCO's own layout, for tests that need real data files.

    root/annotations/instances_{train,val}2017.json, root/{train,val}2017/*.png

Each picture is noise with bright rectangles, one box (and polygon) per rectangle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np


def make_toy_coco(
    root: str | Path,
    classes: Sequence[str],
    n_images: int = 4,
    size: tuple[int, int] = (96, 64),
    boxes: int = 2,
    seed: int = 0,
) -> Path:
    """Write a train and a val split of `n_images` pictures of `size` (width, height) each."""
    root = Path(root)
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for split in ("train2017", "val2017"):
        (root / split).mkdir(exist_ok=True)
        images, annotations = [], []
        for number in range(1, n_images + 1):
            width, height = size
            picture = rng.integers(0, 80, (height, width, 3), dtype=np.uint8)
            images.append(
                dict(id=number, file_name=f"{number:012d}.png", width=width, height=height)
            )
            for _ in range(boxes):
                w, h = (int(rng.integers(side // 4, side // 2)) for side in size)
                x, y = int(rng.integers(0, width - w)), int(rng.integers(0, height - h))
                category = int(rng.integers(len(classes)))
                picture[y : y + h, x : x + w] = 255 - category
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=category + 1,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
            cv2.imwrite(str(root / split / images[-1]["file_name"]), picture)
        categories = [dict(id=i + 1, name=name) for i, name in enumerate(classes)]
        (root / "annotations" / f"instances_{split}.json").write_text(
            json.dumps(dict(images=images, annotations=annotations, categories=categories))
        )
    return root


def toy_options(root: str | Path, scale: tuple[int, int] = (96, 64), batch: int = 2) -> dict:
    """What `Config.merge_from_dict` needs so that a COCO config reads the toy data.

    Image size, batch and data, nothing else; worker processes would outweigh the pictures.
    """
    options = {}
    for phase, split in (("train", "train2017"), ("val", "val2017"), ("test", "val2017")):
        loader = f"{phase}_dataloader"
        resize = 2 if phase == "train" else 1  # place of Resize in MMDetection's pipelines
        options |= {
            f"{loader}.num_workers": 0,
            f"{loader}.persistent_workers": False,
            f"{loader}.batch_size": batch,
            f"{loader}.dataset.data_root": f"{root}/",
            f"{loader}.dataset.pipeline.{resize}.scale": scale,
        }
        if phase != "train":
            options[f"{phase}_evaluator.ann_file"] = f"{root}/annotations/instances_{split}.json"
    return options
