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
    method: str  # '', 'fixnorm' or 'ohem'
    schedule: str
    rate: float
    figure: float | None
    paper: str

    @property
    def name(self) -> str:
        method = self.method and f"_{self.method}"
        return f"ocnet-{self.context}_r101-d8{method}_4xb2-{self.schedule}_cityscapes-769x769"

    @property
    def path(self) -> Path:
        return ROOT / "configs" / "ocnet" / f"{self.name}.py"

    @functools.cache  # noqa: B019  rows live as long as the tests
    def config(self) -> Config:
        """The whole config, read once: not to be changed."""
        return Config.fromfile(self.path)


ROWS = [
    Row("base", "", "40k", 0.01, 78.7, "FixNorm"),
    Row("base", "", "cosine-40k", 0.01, 78.3, "FixNorm"),
    Row("base", "fixnorm", "40k", 0.0335, 79.4, "FixNorm"),
    Row("base", "fixnorm", "cosine-40k", 0.043, 79.7, "FixNorm"),
    Row("asp", "", "40k", 0.01, 79.5, "OCNet"),
    Row("pyramid", "", "40k", 0.01, None, "OCNet"),
    Row("base", "ohem", "40k", 0.01, None, "OCNet"),
    Row("asp", "ohem", "40k", 0.01, 80.4, "OCNet"),
    Row("pyramid", "ohem", "40k", 0.01, None, "OCNet"),
]
