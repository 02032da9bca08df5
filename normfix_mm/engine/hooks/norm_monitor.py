"""The norms of a run without norm fixing, logged under the names that NormFixHook uses.

So that a baseline's curves stand beside FixNorm's on one page: its weight norm drifts, and its
classifier's gain has no cap.
"""

from __future__ import annotations

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.analysis.metrics import effective_learning_rate
from normfix_mm.engine.hooks.norm_fix import only_optimizer
from normfix_mm.engine.optim_wrapper_constructor import refuse_ignored_eps_shift
from normfix_mm.optim.claims import groups_of
from normfix_mm.optim.weights import norm_fix_weights, unwrapped


@HOOKS.register_module(force=True)
class NormMonitorHook(Hook):
    """Log 'train/joint_norm', 'train/effective_lr' and 'train/gain/<layer>'; change nothing.

    The gain logged is the norm of the layer's effective weight, which is what FixNorm's g is.

    Args:
        layers: names of layers whose gain is logged; a plain layer's is the norm of its weight.
        weights, exclude: which weights make up the joint norm, as in NormFixHook.
        interval: log every so many iterations.

    Raises:
        ValueError: before training, if the model has no layer of such a name, no weight that
            trains, or more than one optimizer.
    """

    priority = 55  # as NormFixHook: before LoggerHook reads the message hub

    def __init__(
        self,
        layers: tuple[str, ...] = (),
        weights: str = "conv+classifier",
        exclude: str | list[str] | None = None,
        interval: int = 10,
    ) -> None:
        self.layers = layers
        self.rules = dict(weights=weights, exclude=exclude)
        self.interval = interval

    def before_train(self, runner) -> None:
        refuse_ignored_eps_shift(runner.cfg.get("optim_wrapper"))
        model = unwrapped(runner.model)
        held = groups_of(only_optimizer(runner, "NormMonitorHook"))
        weights = [info.param for info in norm_fix_weights(model, **self.rules)]
        self._weights = [weight for weight in weights if weight in held]
        if not self._weights:
            raise ValueError(
                "NormMonitorHook: the model has no weight that trains and of which norm fixing "
                f"would hold the norm (weights={self.rules['weights']!r}); leave the hook out"
            )
        modules = dict(model.named_modules())
        for name in self.layers:
            if not hasattr(modules.get(name), "weight"):
                raise ValueError(
                    f"NormMonitorHook: the model has no layer {name!r} with a weight; correct "
                    "`layers`"
                )
        self._layers = {name: modules[name] for name in self.layers}

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if not self.every_n_inner_iters(batch_idx, self.interval) and not self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            return
        norms = [torch.linalg.vector_norm(w.detach(), dtype=torch.float64) for w in self._weights]
        rate = groups_of(runner.optim_wrapper.optimizer)[self._weights[0]]["lr"]
        scalars = {
            "joint_norm": torch.stack(norms).square().sum().sqrt(),
            "effective_lr": effective_learning_rate(rate, self._weights),
        }
        for name, layer in self._layers.items():
            normalized = hasattr(layer, "normalized_weight")
            weight = layer.normalized_weight() if normalized else layer.weight
            scalars[f"gain/{name}"] = weight.detach().norm()
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f"train/{name}", float(value))
