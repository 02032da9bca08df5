"""Data sets: a folder of the user's own, named once, and digits that this project generates itself.

Nothing is downloaded.
"""

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config


def folder_kind(cfg: "Config") -> ModuleType:
    """The module with ``use_folder`` and ``hold_out`` for folders that this config trains on."""
    from normfix_mm.datasets import class_folder, coco_folder, seg_folder

    kinds = {"mmseg": seg_folder, "mmpretrain": class_folder}
    return kinds.get(cfg.get("default_scope"), coco_folder)
