"""A plain grid over settings of a config: the yardstick for the searches that are cleverer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from normfix_mm.errors import BadInput
from normfix_mm.tuning.search import Scores, Search, Trial, in_full, name_of


@dataclass(frozen=True)
class Grid(Search):
    """Every combination of the values.

    Args:
        axes: values by name: 'lr', 'alpha', 'lam', 'eps', 'seed' or the dotted name of a setting.
        share: the length of every trial, as a share of Tmax.

    Raises:
        BadInput: nothing to try, a value twice, or one that is not finite or, of a rate, not
            positive.
    """

    axes: Mapping[str, Sequence[float]]
    share: float = 1.0
    sampled = False
    length_option = "--share"

    def __post_init__(self) -> None:
        if not self.axes or not all(self.axes.values()):
            raise BadInput("The grid is empty; give values such as lr=0.01,0.02.")
        for name, values in self.axes.items():
            wrong = [v for v in values if not math.isfinite(v) or (v < 0 and "." not in name)]
            wrong += [v for v in values if v == 0 and name in ("lr", "alpha")]
            if wrong:
                raise BadInput(f"The grid's {name}={wrong[0]:g} is no value to train with.")
            if len(set(values)) < len(values):
                raise BadInput(f"The grid's {name} has a value twice: {list(values)}.")

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {name: (min(values), max(values)) for name, values in self.axes.items()}

    def plan(self, scores: Scores) -> list[Trial]:
        points = [dict(zip(self.axes, point)) for point in product(*self.axes.values())]
        return [Trial(name_of(p, self.share), p, self.share, "grid") for p in points]

    def remarks(self, scores: Scores) -> list[str]:
        best = self.best(scores)
        if best is None:
            return []
        return [
            f"The best {name}, {best.values[name]:g}, is at the edge of the grid."
            for name, values in self.axes.items()
            if name != "seed"
            and len(values) > 1
            and best.values[name] in (min(values), max(values))
        ]

    def cost(self) -> float:
        return self.share * math.prod(map(len, self.axes.values()))

    def outlook(self) -> list[tuple[str, str, float]]:
        return [
            (
                t.phase,
                ", ".join(f"{key} {in_full(value)}" for key, value in t.values.items()),
                t.share,
            )
            for t in self.plan({})
        ]
