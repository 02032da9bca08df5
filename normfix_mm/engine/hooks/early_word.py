"""A word where a third of a training has taught nothing, while there is time to stop it.

Said are the loss at the beginning and now, what the validations found, and what to look at. The
training goes on: rarely, the rest of the schedule does what its beginning did not.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.typed import invocation

_FLAT = 0.9  # of the loss at the beginning


def word(losses: Sequence[float], values: Sequence[float], nothing: float) -> str | None:
    """What to say; None if something is learned, or nothing was validated yet.

    Args:
        losses: of the iterations so far.
        values: of the validations so far, of a metric of which more is better.
        nothing: what needs no learning.
    """
    if not values or max(values) > nothing or len(losses) < 2:
        return None
    part = max(1, len(losses) // 10)
    first, last = (statistics.fmean(each) for each in (losses[:part], losses[-part:]))
    how = "is flat" if last > _FLAT * first else "falls"
    advice = (
        f"look at the pictures with their labels ({invocation('test')} CONFIG CHECKPOINT "
        "--show-dir DIR), at the names of the classes, and try a "
        + ("higher or lower --lr" if last > _FLAT * first else "longer training or a larger --size")
    )
    return (
        f"After a third of the training nothing is found yet: the best validation gave "
        f"{max(values):.3g}, and the loss {how}, from {first:.3g} to {last:.3g}; {advice}."
    )


@HOOKS.register_module(force=True)
class EarlyWordHook(Hook):
    """Say it once.

    Args:
        metric: of the validations, as it is logged.
        nothing: what it is where nothing was learned.
        after: iterations.
    """

    priority = "VERY_LOW"

    def __init__(self, metric: str, nothing: float, after: int) -> None:
        self.metric, self.nothing, self.after = metric, nothing, after
        self._said = False

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        if self._said or runner.iter < self.after:
            return
        self._said = True
        # The message hub keeps those of the whole run, also of one that was resumed (but for the
        # validation after the checkpoint that it went on from).
        found = [0.0]  # an evaluator that was given no prediction at all reports nothing
        if f"val/{self.metric}" in runner.message_hub.log_scalars:
            found += runner.message_hub.get_scalar(f"val/{self.metric}").data[0].tolist()
        losses, _ = runner.message_hub.get_scalar("train/loss").data
        said = word([float(loss) for loss in losses], found, self.nothing)
        if said:
            runner.logger.log(logging.WARNING, said)
