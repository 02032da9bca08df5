"""The norms of a run, logged over all of it, and what they say in words.

For baselines as for our methods: under decay the joint norm drifts and a classifier's gain has no
cap, and both stand beside FixNorm's curves on one page, under the names that NormFixHook uses.
"""

from __future__ import annotations

import logging
import math

import torch
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import nn
from torch.optim import Optimizer

from normfix_mm.analysis import remarks, steps
from normfix_mm.analysis.metrics import effective_learning_rate
from normfix_mm.engine.hooks.as_trained import AsTrained
from normfix_mm.engine.hooks.norm_fix import NormFixHook, only_optimizer
from normfix_mm.engine.optim_wrapper_constructor import refuse_ignored_eps_shift
from normfix_mm.kernels.torch_versions import keep_step_hooks
from normfix_mm.layers.fixnorm import FixNormLayer
from normfix_mm.layers.fold import effective_weight
from normfix_mm.optim.claims import groups_of, owner_of, resting
from normfix_mm.optim.eps_shift import EpsShift
from normfix_mm.optim.weights import norm_fix_weights, unwrapped


@HOOKS.register_module(force=True)
class NormMonitorHook(AsTrained):
    """Log norms; change nothing.

    Every `interval` iterations 'train/joint_norm', 'train/effective_lr' and 'train/gain/<layer>',
    in the log as on the page; a gain is the norm of the layer's effective weight, which is what
    FixNorm's g is. Beside a NormFixHook, which logs norms, rate and g of FixNorm layers, only the
    gains of other layers.

    Every `each_layer` iterations, to the visualizer's backends (TensorBoard, …) and not to the
    console, for each weight: 'norm', 'smallest_filter', 'layer_lr', 'update', 'turn',
    'settled_turn' and 'leaning', each '/<weight>' (`normfix_mm.analysis.steps` defines them). That
    takes a copy of the weights for one step, some passes over them and two synchronizations.

    Says, once each: that decay has no time to act; that filters collapse; that a weight of fixed
    norm is none whose norm may be fixed; that the rate which the weights feel left the schedule's.

    Args:
        layers: names of layers whose gain is logged; a plain layer's is the norm of its weight.
        weights, exclude: which weights are looked at, as in NormFixHook.
        interval: in iterations.
        each_layer: in iterations; None leaves single weights out.

    Raises:
        ValueError: for an interval below 1; before training, if the model has no layer of such a
            name, no weight that trains, or more than one optimizer.
    """

    priority = 55  # as NormFixHook: before LoggerHook reads the message hub

    def __init__(
        self,
        layers: tuple[str, ...] = (),
        weights: str = "conv+classifier",
        exclude: str | list[str] | None = None,
        interval: int = 10,
        each_layer: int | None = 50,
    ) -> None:
        for name, value in (("interval", interval), ("each_layer", each_layer)):
            if value is not None and value < 1:
                raise ValueError(f"NormMonitorHook: {name}={value} must be at least 1.")
        self.layers = layers
        self.rules = dict(weights=weights, exclude=exclude)
        self.interval, self.each_layer = interval, each_layer

    def before_train(self, runner) -> None:
        refuse_ignored_eps_shift(runner.cfg.get("optim_wrapper"))
        model = unwrapped(runner.model)
        optimizer = only_optimizer(runner, "NormMonitorHook")
        held = groups_of(optimizer).keys() - resting(optimizer)
        self._infos = [i for i in norm_fix_weights(model, **self.rules) if i.param in held]
        self._weights = [info.param for info in self._infos]
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
        self._only_gains = any(isinstance(hook, NormFixHook) for hook in runner.hooks)
        self._layers = {
            name: modules[name]
            for name in self.layers
            if not (self._only_gains and isinstance(modules[name], FixNormLayer))
        }
        self._readings: dict[str, dict[str, list[float]]] = {}
        self._rates: list[tuple[float, float]] = []
        self._said: set[str] = set()
        self._due, self._taken = False, None
        if self.each_layer is not None:
            keep_step_hooks()
            before = torch.compiler.disable(self._before_step)
            handle = optimizer.register_step_pre_hook(before)
            # First of all: the ε-shift's edit is not the loss's gradient.
            optimizer._optimizer_step_pre_hooks.move_to_end(handle.id, last=False)
            self._handle = handle
        length = runner.max_iters / getattr(runner.optim_wrapper, "_accumulative_counts", 1)
        self._say(remarks.time_remark(self._time_to_act(length, optimizer)))

    def after_train(self, runner) -> None:
        if self.each_layer is not None:
            self._handle.remove()
        if self._rates:
            self._say(remarks.drift_remark(*zip(*self._rates)))

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        self._due |= self.each_layer is not None and runner.iter % self.each_layer == 0

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self._taken is not None:
            self._log_each_layer(runner)
        if not self.every_n_inner_iters(batch_idx, self.interval) and not self.end_of_epoch(
            runner.train_dataloader, batch_idx
        ):
            return
        scalars = {f"gain/{name}": _gain(layer) for name, layer in self._layers.items()}
        if not self._only_gains:
            rate = float(groups_of(runner.optim_wrapper.optimizer)[self._weights[0]]["lr"])
            felt = effective_learning_rate(rate, self._weights)
            scalars["joint_norm"] = steps.norms(self._weights).square().sum().sqrt()
            scalars["effective_lr"] = felt
            self._rates.append((rate, float(felt)))
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f"train/{name}", float(value))

    @torch.no_grad()
    def _before_step(self, optimizer: Optimizer, args, kwargs) -> None:
        """What is needed of the moment before a step; a step that AMP skips is not one."""
        if not self._due:
            return
        self._due = False
        infos = [i for i in self._infos if i.param.requires_grad and i.param.grad is not None]
        if infos:
            params = [info.param for info in infos]
            cosines = steps.leaning([p.grad for p in params], params)
            self._taken = infos, [p.detach().clone() for p in params], cosines

    @torch.no_grad()
    def _log_each_layer(self, runner) -> None:
        (infos, before, cosines), self._taken = self._taken, None
        optimizer = runner.optim_wrapper.optimizer
        groups = groups_of(optimizer)
        after = [info.param.detach() for info in infos]
        turned, moved = steps.turns(before, after)
        norms = steps.norms(after)
        names = ["norm", "update", "turn", "leaning"]
        table = torch.stack([norms, moved, turned, cosines.to(norms)]).tolist()
        if not all(map(math.isfinite, table[-1])):
            return  # fused optimizers skip a step themselves, after the hooks before it
        read = {name: dict(zip([i.name for i in infos], row)) for name, row in zip(names, table)}
        squares = {name: norm * norm for name, norm in read["norm"].items()}
        read["layer_lr"] = {
            i.name: float(groups[i.param]["lr"]) / squares[i.name] for i in infos if squares[i.name]
        }
        sizes = {i.name: steps.smallest_filter(i) for i in infos}
        sizes = {name: size for name, size in sizes.items() if size is not None}
        if sizes:
            values = torch.stack([size.double() for size in sizes.values()]).tolist()
            read["smallest_filter"] = dict(zip(sizes, values))
        settled = {
            i.name: steps.settled_turn(optimizer, groups[i.param], _decay(i.param, groups))
            for i in infos
        }
        read["settled_turn"] = {name: value for name, value in settled.items() if value}
        scalars = {
            f"{what}/{name}": value
            for what, of in read.items()
            for name, value in of.items()
            if math.isfinite(value)  # a weight that was zero has turned by no angle
        }
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        self._remark(infos, read)

    def _remark(self, infos, read: dict[str, dict[str, float]]) -> None:
        for what in ("smallest_filter", "leaning"):
            for name, value in read.get(what, {}).items():
                self._readings.setdefault(what, {}).setdefault(name, []).append(value)
        for info in infos:
            owner = owner_of(info.param)
            sizes = self._readings.get("smallest_filter", {}).get(info.name, [])
            eps = owner.eps if isinstance(owner, EpsShift) else None
            self._say(remarks.size_remark(info.name, sizes, eps), f"size {info.name}")
            if owner is not None and owner.treatment == "norm fixing":
                cosines = self._readings["leaning"][info.name]
                self._say(remarks.leaning_remark(info.name, cosines), f"leaning {info.name}")

    def _time_to_act(self, length: float, optimizer: Optimizer) -> float:
        groups = groups_of(optimizer)
        if any(not steps.shrinks_as_said(optimizer, groups[p]) for p in self._weights):
            return float("inf")
        acts = [
            steps.time_to_act(
                # OneCycleLR starts far below its highest rate, `max_lr`.
                float(groups[p].get("max_lr", groups[p].get("initial_lr", groups[p]["lr"]))),
                _decay(p, groups),
                length,
                groups[p].get("momentum", 0.0),
            )
            for p in self._weights
            if _decay(p, groups) > 0
        ]
        return max(acts, default=float("inf"))

    def _say(self, remark: str | None, once: str | None = None) -> None:
        if remark is None or once in self._said:
            return
        if once is not None:
            self._said.add(once)
        print_log(remark, logger="current", level=logging.WARNING)


def _gain(layer: nn.Module) -> torch.Tensor:
    return effective_weight(layer).detach().norm()


def _decay(param: nn.Parameter, groups: dict) -> float:
    """λ of this weight, by whoever applies it."""
    owner = owner_of(param)
    return owner.lam if isinstance(owner, EpsShift) else float(groups[param].get("weight_decay", 0))
