"""A miniature Cityscapes in the exact layout, as the two archives leave it: names, JSON, PNG."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

SIZE = (128, 64)  # width and height; the real images have 2048 and 1024
CITIES = {"train": {"aachen": 2, "bochum": 2}, "val": {"frankfurt": 3}, "test": {"berlin": 2}}
# In the order of drawing; what comes later covers what was there.
SCENE = (
    ("sky", (0, 0, 128, 30)),
    ("building", (10, 8, 60, 40)),
    ("vegetation", (70, 5, 120, 38)),
    ("road", (0, 36, 128, 64)),
    ("sidewalk", (0, 34, 30, 50)),
    ("car", (40, 34, 66, 52)),
    ("cargroup", (80, 36, 110, 48)),
    ("license plate", (48, 46, 56, 49)),  # id -1: never drawn
    ("person", (14, 30, 20, 48)),
    ("static", (100, 50, 112, 60)),  # an id that does not count
    ("ego vehicle", (0, 58, 128, 64)),
)


def make_toy_cityscapes(root: Path) -> Path:
    """Write leftImg8bit/ and gtFine/ under `root`, of the annotations the polygons alone."""
    random = np.random.default_rng(0)
    for split, cities in CITIES.items():
        for city, count in cities.items():
            for folder in ("leftImg8bit", "gtFine"):
                (root / folder / split / city).mkdir(parents=True)
            for frame in range(count):
                name = f"{split}/{city}/{city}_{frame:06}_000019"
                objects = shifted(int(random.integers(0, 9)))
                write_image(root / f"leftImg8bit/{name}_leftImg8bit.png", objects, random)
                truth = f"{root}/gtFine/{name}_gtFine_"
                if split == "test":
                    continue
                polygons = dict(imgHeight=SIZE[1], imgWidth=SIZE[0], objects=objects)
                Path(f"{truth}polygons.json").write_text(json.dumps(polygons))
    return root


def shifted(by: int) -> list[dict]:
    """The scene's objects, moved to the right by some pixels."""
    objects = []
    for label, (left, top, right, bottom) in SCENE:
        corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
        polygon = [[min(x + by, SIZE[0]), y] for x, y in corners]
        objects.append(dict(label=label, polygon=polygon))
    deleted = dict(label="train", polygon=[[0, 0], [50, 0], [50, 50]], deleted=1)
    return [*objects, deleted]


def write_image(path: Path, objects: list[dict], random: np.random.Generator) -> None:
    """The colours of the classes, and noise."""
    pixels = np.full((*SIZE[::-1], 3), 90.0)
    for obj in objects:
        (left, top), _, (right, bottom), *_ = [*obj["polygon"], obj["polygon"][-1]]
        label = obj["label"].removesuffix("group")
        if name2label[label].id >= 0 and not obj.get("deleted"):
            pixels[top:bottom, left:right] = name2label[label].color
    noisy = pixels + random.normal(0, 20, pixels.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)


def small_options(root: Path, **more: object) -> dict[str, object]:
    """Settings that make a config of configs/ocnet narrow and point it at the folder."""
    options: dict[str, object] = {
        f"{phase}_dataloader.{key}": value
        for phase in ("train", "val", "test")
        for key, value in (
            ("dataset.data_root", str(root)),
            ("num_workers", 0),
            ("persistent_workers", False),
        )
    }
    options |= {
        "train_dataloader.dataset.pipeline.3.crop_size": (65, 65),
        "model.data_preprocessor.size": (65, 65),
        "model.backbone.depth": 50,
        "model.backbone.base_channels": 4,
        "model.backbone.stem_channels": 8,
        "model.backbone.init_cfg": None,
        "model.decode_head.in_channels": 128,
        "model.decode_head.channels": 16,
        "model.auxiliary_head.in_channels": 64,
        "model.auxiliary_head.channels": 16,
        "train_cfg.max_iters": 3,
        "train_cfg.val_interval": 3,
        "default_hooks.logger.interval": 1,
        "default_hooks.checkpoint.interval": 3,
        "randomness": dict(seed=1),
    }
    return options | more
