"""Small folders of real images in the layouts that the tools take, and the configs for them."""

import json
import shutil
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = [
    p
    for kind in ("class", "coco", "seg")
    for p in sorted((ROOT / f"configs/{kind}_folder").glob("*.py"))
]
DETECTORS = ("retinanet_r18_fpn", "mask-rcnn_r18_fpn", "cascade-mask-rcnn_r18_fpn")
SEGMENTERS = ("ocnet_r18-d8",)
CLASSIFIERS = ("resnet_r18",)
METHODS = ("baseline", "ws-eps", "fixnorm")
CAMVID = (
    "Sky", "Building", "Pole", "Road", "Pavement", "Tree",
    "SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist",
)  # fmt: skip


def config_of(model: str, method: str) -> Path:
    (config,) = (path for path in CONFIGS if path.name.startswith(f"{model}_{method}_"))
    return config


def some_coco(source: Path, folder: Path) -> Path:
    """Eight training and four validation images of a set, in the same layout."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 4)):
        data = json.loads((source / f"annotations/instances_{split}.json").read_text())
        data["images"] = data["images"][:count]
        kept = {image["id"] for image in data["images"]}
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(data))
        (folder / "images" / split).mkdir(parents=True)
        for image in data["images"]:
            shutil.copy(source / "images" / split / image["file_name"], folder / "images" / split)
    return folder


def some_streets(source: Path, folder: Path) -> Path:
    """Eight training and four validation images of CamVid, in the same layout."""
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
            for path in sorted((source / kind / split).iterdir())[:count]:
                shutil.copy(path, folder / kind / split)
    return folder


def some_classes(
    source: Path, folder: Path, train: int = 4, val: int = 2, classes: int = 3
) -> Path:
    """So many training and validation images of each of the first classes of CIFAR-10."""
    for split, archive, count in (("train", "train.zip", train), ("val", "test.zip", val)):
        with zipfile.ZipFile(source / archive) as images:
            names = sorted(name for name in images.namelist() if name.endswith(".jpg"))
            kinds = sorted({name.split("/")[0] for name in names})[:classes]
            for kind in kinds:
                for name in [n for n in names if n.startswith(f"{kind}/")][:count]:
                    images.extract(name, folder / split)
    return folder
