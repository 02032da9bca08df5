"""Data sets: a folder of the user's own, Cityscapes, and digits that this project generates itself.

Nothing is downloaded.

    config              the datasets that a config names
    folder              a folder of the user's own, named once: what both kinds share
    coco_folder         … with boxes and masks in COCO format
    seg_folder          … with label images
    class_folder        … with images by class
    coco_annotations    what an annotation file holds; coco_entries, coco_masks: its parts
    remembered          what has been found in files, kept until they change
    cityscapes          the benchmark's folder
    digits              generated pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

    from normfix_mm.datasets.folder import Folder


def folder_of(cfg: Config, path: str | Path) -> Folder:
    """The folder of one's own as this config's framework takes it.

    Args:
        cfg: a config of a detector, a segmenter or a classifier.
        path: the folder.

    Example:
        >>> folder_of(cfg, "tomatoes").use(cfg, classes=("tomato", "plum"))
    """
    from normfix_mm.datasets.class_folder import ClassFolder
    from normfix_mm.datasets.coco_folder import CocoFolder
    from normfix_mm.datasets.seg_folder import SegFolder

    kinds = dict(mmseg=SegFolder, mmpretrain=ClassFolder)
    return kinds.get(cfg.get("default_scope"), CocoFolder)(path)
