"""What a search will run and cost, and whether its trials are long enough to tell anything."""

from __future__ import annotations

import math

from mmengine.config import Config

from normfix_mm.tuning.measure import Cost
from normfix_mm.tuning.progress import duration
from normfix_mm.tuning.schedule import iterations, shortened, warm_up
from normfix_mm.tuning.search import Search

FEW = 50  # iterations


def outlook(search: Search, cfg: Config, cost: Cost, jobs: int = 1) -> str:
    """Every trial that a search runs, and what all of them cost."""
    tmax = iterations(cfg, cost.epoch_length)
    lines, seconds, units = [], 0.0, 0.0
    for phase, text, share in search.outlook():
        short = shortened(cfg, share, cost.epoch_length)
        count = iterations(short, cost.epoch_length)
        interval = short.train_cfg.get("val_interval", 1)
        total = short.train_cfg.get("max_epochs") or short.train_cfg.get("max_iters")
        seconds += cost.seconds(count, math.ceil(total / interval))
        units += count / tmax
        lines.append(f"{phase:8}  {count:>8} iterations  {count / tmax:.3g} Tmax  {text}")
    total = f"{len(lines)} trials, {units:.4g} Tmax of {tmax} iterations"
    time = f"about {seconds / 3600 / max(1, jobs):.2g} hours ({duration(seconds / max(1, jobs))})"
    at = f" with {jobs} at a time" if jobs > 1 else ""
    return "\n".join([*lines, f"{total}: {time}{at}, at {cost.iteration:.3g} s an iteration"])


def too_short(search: Search, cfg: Config, cost: Cost) -> str | None:
    """That the shortest trials are too short to tell rates apart, if so."""
    share = min(share for _, _, share in search.outlook())
    count = iterations(shortened(cfg, share, cost.epoch_length), cost.epoch_length)
    rise = warm_up(cfg, cost.epoch_length)
    if count >= max(FEW, rise):
        return None
    than = f", fewer than the {rise} of its warm-up" if count < rise else ""
    return (
        f"The shortest trials have {count} iterations ({share:g} of the config's length){than}: "
        f"so few may tell nothing about a rate; {search.longer(share)}."
    )
