"""FixNorm's cross-boundary risk (eq. 9) of the training images, logged over a run.

Decay holds it down through the classifier's norm; without decay and without a bound it grows, and
accuracy falls (FixNorm, section 2.3 and Fig. 2).
"""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.analysis.metrics import mean_cross_boundary_risk
from normfix_mm.optim.weights import unwrapped


@HOOKS.register_module(force=True)
class CrossBoundaryRiskHook(Hook):
    """Log 'train/cross_boundary_risk' of the last batch; change nothing.

    Batches whose labels are mixed (Mixup, CutMix) have no class and no risk.

    Args:
        layer: name of the classification layer, plain or normalized: linear, on features (N, D).
        interval: log every so many iterations.

    Raises:
        ValueError: before training, if the model has no layer of such a name.
    """

    priority = 55  # before LoggerHook reads the message hub

    def __init__(self, layer: str = "head.fc", interval: int = 10) -> None:
        if interval < 1:
            raise ValueError(f"CrossBoundaryRiskHook: interval={interval} must be at least 1.")
        self.layer, self.interval = layer, interval
        self._features: torch.Tensor | None = None

    def before_train(self, runner) -> None:
        modules = dict(unwrapped(runner.model).named_modules())
        if not hasattr(modules.get(self.layer), "weight"):
            raise ValueError(
                f"CrossBoundaryRiskHook: the model has no layer {self.layer!r} with a weight; "
                "correct `layer`."
            )
        self._layer = modules[self.layer]
        self._handle = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        # Hooked on for the iterations that are logged alone: the others pay nothing.
        if self._is_due(runner, batch_idx):
            self._handle = self._layer.register_forward_pre_hook(self._keep)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._handle is None:
            return
        self._handle.remove()
        self._handle, features, self._features = None, self._features, None
        samples = data_batch["data_samples"]
        if features is None or unwrapped(runner.model).data_preprocessor.batch_augments is not None:
            return
        labels = torch.cat([sample.gt_label for sample in samples]).to(features.device)
        risk = mean_cross_boundary_risk(features, labels, self._layer.weight).mean()
        runner.message_hub.update_scalar("train/cross_boundary_risk", float(risk))

    def _keep(self, layer, inputs) -> None:
        self._features = inputs[0].detach()

    def _is_due(self, runner, batch_idx: int) -> bool:
        last = self.end_of_epoch(runner.train_dataloader, batch_idx)
        return self.every_n_inner_iters(batch_idx, self.interval) or last
