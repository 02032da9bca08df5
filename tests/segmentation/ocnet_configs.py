"""The Cityscapes configs: which there are, and the figures of FixNorm's Table 3 and OCNet's README.

Typed from there, not read from our files, which are tested against them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Row:
    """A config: context, method, schedule, rate, and the published mIoU, None if there is none."""

    context: str
    method: str  # 'baseline', 'fixnorm', or the baseline on hard pixels, 'ohem_baseline'
    schedule: str
    rate: float
    figure: float | None
    paper: str

    @property
    def name(self) -> str:
        part = f"ocnet-{self.context}_r101-d8_{self.method}"
        return f"{part}_4xb2-{self.schedule}_cityscapes-769x769"

    @property
    def path(self) -> Path:
        return ROOT / "configs" / "ocnet" / f"{self.name}.py"

    @functools.cache  # noqa: B019  rows live as long as the tests
    def config(self) -> Config:
        """The whole config, read once: not to be changed."""
        return Config.fromfile(self.path)


ROWS = [
    Row("base", "baseline", "40k", 0.01, 78.7, "FixNorm"),
    Row("base", "baseline", "cosine-40k", 0.01, 78.3, "FixNorm"),
    Row("base", "fixnorm", "40k", 0.0335, 79.4, "FixNorm"),
    Row("base", "fixnorm", "cosine-40k", 0.043, 79.7, "FixNorm"),
    Row("asp", "baseline", "40k", 0.01, 79.5, "OCNet"),
    Row("pyramid", "baseline", "40k", 0.01, None, "OCNet"),
    Row("base", "ohem_baseline", "40k", 0.01, None, "OCNet"),
    Row("asp", "ohem_baseline", "40k", 0.01, 80.4, "OCNet"),
    Row("pyramid", "ohem_baseline", "40k", 0.01, None, "OCNet"),
]
