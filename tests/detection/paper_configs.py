"""The configs of the papers: which there are, the figures of their tables, the stock model of each.

The figures are typed from the papers' tables, not read from our files, which are tested against
them.
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from pathlib import Path

import mmdet
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from torch import nn

ROOT = Path(__file__).parents[2]
COLUMNS = ("AP", "AP.5", "AP.75", "APs", "APm", "APl", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class Row:
    """A config: its detector and depth, its method, and its row of a table, None if in no table."""

    folder: str
    depth: int
    method: str
    schedule: str
    table: str
    figures: tuple[float, ...] | None

    @property
    def name(self) -> str:
        detector = self.folder.replace("_", "-")
        return f"{detector}_r{self.depth}_fpn_{self.method}_8xb2-{self.schedule}_coco"

    @property
    def path(self) -> Path:
        return ROOT / "configs" / self.folder / f"{self.name}.py"

    @property
    def two_stage(self) -> bool:
        return self.folder != "retinanet"

    @functools.cache  # noqa: B019  rows live as long as the tests
    def config(self) -> Config:
        """The whole config, read once: not to be changed."""
        return Config.fromfile(self.path)

    @functools.cache  # noqa: B019
    def stock_config(self) -> Config:
        """MMDetection's own config of the same detector, not to be changed either."""
        detector = self.folder.replace("_", "-")
        schedule = {"retinanet": "1x", "cascade_rcnn": "20e"}.get(self.folder, "2x")
        folder = Path(mmdet.__file__).parent / ".mim" / "configs" / self.folder
        return Config.fromfile(folder / f"{detector}_r{self.depth}_fpn_{schedule}_coco.py")

    def stock_model(self) -> nn.Module:
        """MMDetection's own model, without values."""
        return _stock_model(self.folder, self.depth)


def _rows(folder: str, schedule: str, table: str, figures: dict) -> list[Row]:
    return [Row(folder, d, m, schedule, table, f) for (d, m), f in figures.items()]


ROWS = [
    *_rows(
        "cascade_rcnn",
        "20e",
        "VII",
        {
            (50, "baseline"): (41.1, 59.3, 44.8, 22.6, 44.5, 54.9, 33.2, 58.8, 70.7),
            (50, "ws"): (41.6, 60.1, 45.2, 23.4, 44.7, 55.6, 34.2, 58.2, 71.0),
            (50, "ws-eps"): (41.8, 60.2, 45.5, 23.4, 45.0, 55.4, 33.9, 58.9, 71.8),
            (50, "fixnorm"): None,
            (101, "baseline"): (42.6, 60.9, 46.4, 23.7, 46.1, 56.9, 34.5, 59.8, 72.0),
            (101, "ws"): (43.2, 61.6, 47.2, 24.8, 46.7, 57.8, 34.8, 59.7, 72.2),
            (101, "ws-eps"): (43.5, 61.7, 47.5, 23.9, 47.1, 58.4, 33.4, 60.2, 72.4),
            (101, "fixnorm"): None,
        },
    ),
    *_rows(
        "faster_rcnn",
        "24e",
        "VIII",
        {
            (50, "baseline"): (37.7, 59.3, 41.1),
            (50, "ws-eps"): (37.9, 59.7, 40.9),
            (50, "fixnorm"): None,
            (101, "baseline"): (39.4, 60.7, 43.0),
            (101, "ws-eps"): (39.8, 60.8, 43.5),
            (101, "fixnorm"): None,
        },
    ),
    *_rows(
        "mask_rcnn",
        "24e",
        "VIII",
        {
            (50, "baseline"): (38.6, 60.0, 41.9),
            (50, "ws-eps"): (38.9, 60.1, 42.2),
            (50, "fixnorm"): None,
            (101, "baseline"): (40.4, 61.6, 44.2),
            (101, "ws-eps"): (41.1, 62.2, 45.0),
            (101, "fixnorm"): None,
        },
    ),
    *_rows("retinanet", "90k", "4", {(50, "wn"): (36.5,), (50, "fixnorm"): (36.9,)}),
    *_rows("retinanet", "cosine-90k", "4", {(50, "wn"): (36.2,), (50, "fixnorm"): (37.1,)}),
]


@functools.cache
def _stock_model(folder: str, depth: int) -> nn.Module:
    row = next(row for row in ROWS if (row.folder, row.depth) == (folder, depth))
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(copy.deepcopy(row.stock_config().model))  # detectors write into it
