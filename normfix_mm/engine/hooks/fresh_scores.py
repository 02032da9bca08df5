"""No evaluation is logged with the score of one before it.

mmengine logs the last value that each metric has had. A detector that finds nothing any more gets
none from CocoMetric, and its log would go on with the AP of an earlier evaluation, which then looks
like its own: on the page, to a search, to whoever reads the curve.
"""

from __future__ import annotations

from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module(force=True)
class FreshScoresHook(Hook):
    """Take out of the log what this evaluation did not come to."""

    def after_val_epoch(self, runner, metrics: dict | None = None) -> None:
        now = {f"val/{name}" for name in (*(metrics or {}), "time", "data_time")}
        logged = runner.message_hub.log_scalars
        for name in [name for name in logged if name.startswith("val/") and name not in now]:
            del logged[name]
