"""A training whose weights have become NaN or infinite stops, instead of going on to its end.

mmengine logs ``loss: nan``, trains on, writes checkpoints over the good ones and ends well. The
loss of each iteration has been read from the device by the time the hooks run; the weights are only
looked at where it was not finite twice in a row (by then on every rank, and no step that mixed
precision skips), and at the end of an epoch and of the training, before the checkpoint.
"""

from __future__ import annotations

import math

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.errors import Stopped, listing
from normfix_mm.optim.weights import unwrapped


@HOOKS.register_module(force=True)
class FiniteWeightsHook(Hook):
    """Stop a training that cannot recover.

    Raises:
        Stopped: Weights are not finite, or statistics of norms not a number.
    """

    priority = "LOW"  # after LoggerHook, before CheckpointHook

    _lost = 0  # iterations in a row without a finite loss

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        losses = runner.message_hub.log_scalars.get("train/loss")
        finite = losses is None or math.isfinite(losses.current())
        self._lost = 0 if finite else self._lost + 1
        if self._lost > 1 or self.is_last_train_iter(runner):
            self._check(runner, runner.iter + 1)

    def after_train_epoch(self, runner) -> None:
        self._check(runner, runner.iter)

    def _check(self, runner, iteration: int) -> None:
        model = unwrapped(runner.model)
        lost = [name for name, p in model.named_parameters() if not torch.isfinite(p).all()]
        # A buffer may be infinite on purpose, such as a mask of attention.
        lost += [name for name, buffer in model.named_buffers() if torch.isnan(buffer).any()]
        if lost:
            raise Stopped(
                f"The training has diverged: {listing(lost, 3)} became not finite in training "
                f"(iteration {iteration}); go on from an earlier checkpoint, or start anew, "
                "with a lower learning rate or gradient clipping."
            )
