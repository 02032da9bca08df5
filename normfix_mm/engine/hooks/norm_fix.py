"""FixNorm's norm fixing (Algorithm 1) in an mmengine run.

Takes the target norm before training, restores it after every real optimizer step, carries it in
the checkpoints, and refuses weights whose rescaling would change the network. The rescaling itself
is a step hook of the torch optimizer (`normfix_mm.NormFix`), so it is right under accumulation and
skipped AMP steps, and every mmengine hook that runs after an iteration sees rescaled weights.
An EMA copy is not rescaled; an average of points on a sphere lies inside it: its norm is logged.
"""

import logging

import torch
from mmengine.hooks import EMAHook, LoggerHook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapperDict
from mmengine.registry import HOOKS
from torch import nn
from torch.optim import Optimizer

from normfix_mm.analysis.gains import gain_remark
from normfix_mm.analysis.metrics import effective_learning_rate
from normfix_mm.analysis.tables import joint_norm_table
from normfix_mm.engine.hooks.as_trained import AsTrained
from normfix_mm.engine.hooks.invariance_check import check_scale_invariance
from normfix_mm.engine.optim_wrapper_constructor import refuse_ignored_eps_shift
from normfix_mm.errors import BadInput, listing
from normfix_mm.layers.fixnorm import FixNormLayer
from normfix_mm.optim.claims import decay_of, groups_of
from normfix_mm.optim.norm_fix import NormFix
from normfix_mm.optim.weights import NORMS, WeightInfo, norm_fix_weights, unwrapped

_KEY = "norm_fix"
_RULE = {
    "conv": "every trainable convolution before the classifier",
    "conv+classifier": "every trainable convolution, FixNorm and weight-normalized linear layer",
}


@HOOKS.register_module(force=True)
class NormFixHook(AsTrained):
    """Keep the joint norm of a model's weights where training found it.

    Args:
        mode: 'joint' (Algorithm 1) or 'layer' (each weight's own norm, which the paper discusses).
        weights: 'conv+classifier', or 'conv' to leave the classifier to ordinary decay.
        include, exclude: regular expressions on parameter names.
        check: whether weights that are not scale-invariant stop the run (True), are only listed
            ('warn'), or are not looked for (False). Looked for on the first batch, and again when
            a norm changes its mode or the set of weights that train changes.
        interval: log every so many iterations; None takes the LoggerHook's.

    Logs 'train/joint_norm', 'train/effective_lr', for each FixNorm layer 'train/gain/<layer>' and
    'train/cap/<layer>', and 'train/ema_joint_norm' where an EMAHook runs; of a second such hook in
    the run 'train/joint_norm_1' and so on. Says at the end where a
    gain never left its cap, or was still on its way; and once, in between, if the norm is not what
    the last step has left.

    Raises:
        BadInput (a ValueError): before training, for a bad option, a weight the optimizer also
            decays, or a resumed checkpoint without a target; on a batch, for scale-variant weights.
    """

    # After EMAHook (50) has averaged, before LoggerHook (60) reads the message hub.
    priority = 55

    def __init__(
        self,
        mode: str = "joint",
        weights: str = "conv+classifier",
        include: str | list[str] | None = None,
        exclude: str | list[str] | None = None,
        check: bool | str = True,
        interval: int | None = None,
    ) -> None:
        if check not in (True, False, "warn"):
            raise ValueError(f"NormFixHook: unknown check={check!r}; take True, 'warn' or False.")
        if interval is not None and interval < 1:
            raise ValueError(f"NormFixHook: interval={interval} must be at least 1, or None.")
        self.options = dict(mode=mode, weights=weights, include=include, exclude=exclude)
        self.check = check
        self.interval = interval
        self.norm_fix: NormFix | None = None
        self._saved: dict | None = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        self._saved = checkpoint.get(self._key(runner))

    def before_train(self, runner) -> None:
        model, optimizer = unwrapped(runner.model), only_optimizer(runner, "NormFixHook")
        refuse_ignored_eps_shift(runner.cfg.get("optim_wrapper"))
        if self.norm_fix is not None:  # trained before, and now trained on
            self._saved = self.norm_fix.state_dict()
            self.norm_fix.remove()
        self.norm_fix = self.attach(model, optimizer)
        # A run that goes on (not one that merely loaded weights) keeps the norms it started with.
        if runner.iter > 0:
            self._resume_target()
        table = joint_norm_table(self.norm_fix.infos)
        rule = _RULE[self.options["weights"]]
        print_log(f"NormFixHook holds the norm of {rule} not excluded:\n{table}", logger="current")
        self._norms = [module for module in model.modules() if isinstance(module, NORMS)]
        self._checked: tuple | None = None
        self._warned = False
        loggers = [hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._log_interval = self.interval or next(iter(loggers), 10)
        self._ema = next((hook for hook in runner.hooks if isinstance(hook, EMAHook)), None)
        self._capped = {
            name: layer for name, layer in model.named_modules() if isinstance(layer, FixNormLayer)
        }

    def attach(self, model: nn.Module, optimizer: Optimizer) -> NormFix:
        """Norm fixing of this model by this optimizer, after all that can be refused without data.

        Raises:
            BadInput: for an option, a pattern that matches nothing, or a decayed weight.
        """
        selection = {k: v for k, v in self.options.items() if k != "mode"}
        try:
            _refuse_decay(optimizer, norm_fix_weights(model, **selection), self.options["weights"])
            return NormFix(optimizer, model, **self.options)
        except ValueError as error:
            raise BadInput(str(error)) from None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        if not self.check:
            return
        self.norm_fix.follow_freezing()
        # A norm that stops using its batch's statistics, and a weight that thaws, are looked at.
        present = tuple(norm.training for norm in self._norms), tuple(self.norm_fix.names)
        if present != self._checked:
            self._checked = present
            check_scale_invariance(
                unwrapped(runner.model), data_batch, self.norm_fix.names, self.check == "warn"
            )

    @torch.no_grad()
    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        # Reading a norm waits for the device, so only when the LoggerHook is about to log.
        due = self.every_n_inner_iters(batch_idx, self._log_interval)
        if not due and not self.end_of_epoch(runner.train_dataloader, batch_idx):
            return
        params = [info.param for info in self.norm_fix.infos]
        if not params:  # all are frozen by now
            return
        self._warn_of_others()
        rate = groups_of(runner.optim_wrapper.optimizer)[params[0]]["lr"]
        scalars = {
            "joint_norm": self.norm_fix.joint_norm(),
            "effective_lr": effective_learning_rate(rate, params),
        }
        if self._ema is not None:
            copies = dict(self._ema.ema_model.module.named_parameters())
            norms = [copies[name].double().norm() for name in self.norm_fix.names]
            scalars["ema_joint_norm"] = torch.stack(norms).norm()
        place = self._place(runner)
        if place:
            scalars = {f"{name}_{place}": value for name, value in scalars.items()}
        for name, layer in self._capped.items():
            scalars[f"gain/{name}"] = layer.g.detach()
            scalars[f"cap/{name}"] = layer.cap
        for name, value in scalars.items():
            runner.message_hub.update_scalar(f"train/{name}", float(value))

    def _warn_of_others(self) -> None:
        """Say once that the norm is not what the last step has left."""
        found = [] if self._warned else self.norm_fix.norms_and_targets()
        for what, norm, target in found:
            if not abs(norm / target - 1) < 1e-5:
                self._warned = True
                print_log(
                    f"NormFixHook: {what} is {norm:.6g} and its target {target:.6g}, although the "
                    "step has restored it: something else writes the weights afterwards (a hook, "
                    "an optimizer that averages them), and norm fixing undoes that at the next "
                    "step.",
                    logger="current",
                    level=logging.WARNING,
                )
                return

    def after_train(self, runner) -> None:
        logged = runner.message_hub.log_scalars
        for name, layer in self._capped.items():
            if f"train/gain/{name}" not in logged:
                continue
            gains, _ = logged[f"train/gain/{name}"].data
            remark = gain_remark(name, gains.tolist(), layer.cap)
            if remark:
                print_log(f"NormFixHook: {remark}", logger="current", level=logging.WARNING)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self.norm_fix is not None:
            checkpoint[self._key(runner)] = self.norm_fix.state_dict()

    def _key(self, runner) -> str:
        """The entry in checkpoints, one for each such hook of the run."""
        place = self._place(runner)
        return f"{_KEY}_{place}" if place else _KEY

    def _place(self, runner) -> int:
        """Which of the run's hooks of this kind it is."""
        return [hook for hook in runner.hooks if isinstance(hook, NormFixHook)].index(self)

    def _resume_target(self) -> None:
        if self._saved is None:
            raise BadInput(
                "NormFixHook: the resumed checkpoint carries no target norm, because the run that "
                "wrote it had no NormFixHook; start from its weights with load_from instead."
            )
        try:
            self.norm_fix.load_state_dict(self._saved)
        except ValueError as error:
            raise BadInput(str(error)) from None
        for what, norm, target in self.norm_fix.norms_and_targets():
            if not 0.9 < norm / target < 1.1:
                raise BadInput(
                    f"NormFixHook: {what} of the resumed checkpoint is {norm:.4g}, and its target "
                    f"is {target:.4g}: one of them was changed or damaged; go on from another "
                    "checkpoint, or start from its weights with load_from."
                )


def only_optimizer(runner, who: str) -> Optimizer:
    """The run's optimizer. Raises BadInput if there are several."""
    if isinstance(runner.optim_wrapper, OptimWrapperDict):
        raise BadInput(
            f"{who}: the joint norm belongs to one optimizer, but this run has an "
            "OptimWrapperDict of several; train with a single OptimWrapper, or attach "
            "normfix_mm.NormFix to one of its optimizers yourself."
        )
    return runner.optim_wrapper.optimizer


def _refuse_decay(optimizer, infos: list[WeightInfo], weights: str) -> None:
    groups = groups_of(optimizer)
    decayed = [info for info in infos if decay_of(groups.get(info.param, {}))]
    if decayed:
        option = decay_of(groups[decayed[0].param])
        keep = (
            ", or keep it for the classifier with paramwise_cfg=dict(custom_keys={'': dict("
            "decay_mult=0.), '<classifier>': dict(decay_mult=1.)})"
        )
        raise BadInput(
            f"NormFixHook: the optimizer decays {len(decayed)} of the {len(infos)} weights whose "
            f"norm is to be fixed ({listing(decayed, 3)}), which would undo each other; set the "
            f"optimizer's {option}=0.{keep if weights == 'conv' else ''}."
        )
