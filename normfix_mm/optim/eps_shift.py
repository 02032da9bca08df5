"""The ε-shifted L2 regularizer, attached to any torch optimizer.

Li, Chen, Xia and Yang, "Understanding the Disharmony between Weight Normalization Family and Weight
Decay: ε-shifted L2 Regularizer" (eqs 25, 27), as the authors' code runs it: not a loss term but an
edit of each output filter's gradient, after unscaling and clipping, before the optimizer's update:

    WS   λ · [(1 − ε/s)(w − μ) + μ]         of the potential (λ/2) Σ [(n−1)(s − ε)² + n μ²]
    WN   λ · (1 − ε/‖w‖) · w                                 (λ/2) Σ (‖w‖ − ε)²
    CWN  λ · [(1 − ε/‖w−μ‖)(w − μ) + μ]                      (λ/2) Σ [(‖w−μ‖ − ε)² + n μ²]

with n the fan-in, μ the mean and s the unbiased standard deviation of a filter. ε = 0 is plain L2.

Departures: weights are selected by the type of their layer, not by shape, which in the reference
also hits convolutions that nobody standardized; filters where the shift has no direction (s = 0,
‖w‖ = 0, n = 1) get plain L2 instead of NaN; decoupled decay (AdamW) has no reference.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.errors import Stopped
from normfix_mm.kernels.filter_edits import add_edits, edited
from normfix_mm.layers.gain import end_start, settle_before_training, settle_gains
from normfix_mm.layers.options import as_number
from normfix_mm.optim.claims import claim, owner_of, release
from normfix_mm.optim.decoupling import is_decoupled, refuse_unknown
from normfix_mm.optim.other_optimizers import watch
from normfix_mm.optim.residence import Residence
from normfix_mm.optim.step_hooks import (
    is_nested,
    keep_going,
    refuse_closure,
    refuse_decay,
    refuse_optimizer,
    refuse_sharded,
    refuse_sharded_since,
)
from normfix_mm.optim.weights import WeightInfo, eps_shift_weights, weights_of


class EpsShift:
    r"""Regularize the normalized weights of ``model`` through ``optimizer``, from now on.

    Args:
        optimizer: holds every selected weight, in groups whose ``weight_decay`` is 0.
        model: its WS, WN and CWN convolutions (and mmcv's ConvWS, ConvAWS) are regularized.
        lam: λ ≥ 0; takes the place of weight decay for these weights.
        eps: ε ≥ 0; 1e-3 for large ImageNet models (section 6.3, Table IV), 1e-8 for most small ones
            (the authors' repository), 1e-2 on CIFAR.
        include, exclude: regular expressions on parameter names that narrow the selection.
        decoupled: False adds the edit to the gradient, as SGD and Adam do with decay; True
            subtracts lr · edit from the weight before the update, as AdamW does. None follows
            the optimizer, parameter group by parameter group, if it is one of torch's own.

    Learning rates are read at each step, so schedules (and tensors) work. A weight that is frozen
    or has no gradient is left alone; one that thaws is regularized from then on. `.grad` is after
    the step what it was before. Statistics are float32 or better. A copied or unpickled optimizer
    has no hooks: attach anew.

    Raises:
        ValueError: ``lam`` or ``eps`` that is no number ≥ 0, nothing to regularize, a weight that
            is computed (pruned, parametrized), used past its layer, shared by layers of two forms,
            missing from the optimizer or already under another decay or treatment, a sharded
            model, an optimizer that wraps another, is differentiable or whose decay is not known.
        Stopped (a RuntimeError): at a step, for a closure, a sparse gradient, a weight sharded,
            replaced or normalized since, or stepped by another optimizer, or a ``weight_decay``
            that came back (``optimizer.load_state_dict`` restores the groups of the checkpoint).

    Example:
        >>> optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        >>> EpsShift(optimizer, model, lam=1e-4, eps=1e-3)
        >>> optimizer.step()  # regularized
    """

    treatment = "ε-shift"

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        lam: float = 1e-4,
        eps: float = 1e-3,
        *,
        include: str | list[str] | None = None,
        exclude: str | list[str] | None = None,
        decoupled: bool | None = None,
    ) -> None:
        for name, value in (("lam", lam), ("eps", eps)):
            if not 0 <= as_number(value) < float("inf"):
                raise ValueError(f"EpsShift: {name} must be a finite number ≥ 0, got {value!r}.")
        refuse_optimizer("EpsShift", optimizer)
        if decoupled not in (None, True, False):
            raise ValueError(f"EpsShift: decoupled={decoupled!r} must be True, False or None.")
        if decoupled is None:
            refuse_unknown("EpsShift", optimizer)
        refuse_sharded("EpsShift", model)
        self._home = Residence(
            "EpsShift",
            model,
            optimizer,
            lambda: eps_shift_weights(model, include, exclude, frozen=True),
        )
        infos = self._home.infos
        if not infos:
            raise ValueError(f"EpsShift: no normalized weight to regularize; {_census(model)}")
        self.optimizer, self.lam, self.eps = optimizer, float(lam), float(eps)
        self.decoupled = decoupled
        self.infos = infos
        settle_gains(model)
        claim(self, infos)
        settle_before_training(model)
        self._untrained: nn.Module | None = model
        self._by_id = {id(info.param): info for info in infos}
        self._lent: list[tuple[nn.Parameter, Tensor, Tensor, int]] = []
        self._decayed = False  # the weights themselves, for a step that has not ended
        # Where the whole step is compiled (mmengine's compile=...), this part of it runs as it is.
        before, after = map(torch.compiler.disable, (self._before_step, self._after_step))
        self._handles = [
            optimizer.register_step_pre_hook(before),
            optimizer.register_step_post_hook(after),
        ]
        # The first after the step: others, which may set gradients to zero, find the real ones.
        hooks: Any = optimizer._optimizer_step_post_hooks  # an OrderedDict
        hooks.move_to_end(self._handles[1].id, last=False)
        watch()

    def remove(self) -> None:
        """Detach from the optimizer; the weights are free for another treatment."""
        for handle in self._handles:
            handle.remove()
        self._take_back()  # in the middle of a step, whose end nobody will tell now
        release(self)

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if is_nested(optimizer):
            return
        refuse_closure("EpsShift", args, kwargs)
        refuse_sharded_since("EpsShift", self.infos)
        if self._untrained is not None:
            end_start(self._untrained)
            self._untrained = None
        if self._home.look():
            held = [i for i in self.infos if i.param in self._home.held]
            claim(self, [i for i in held if owner_of(i.param) is not self])
        self._take_back(failed=True)  # after a step that an error has ended
        decayed, self._decayed = self._decayed, False
        for group in optimizer.param_groups:
            infos = [self._by_id[id(p)] for p in group["params"] if id(p) in self._by_id]
            infos = [i for i in infos if i.param.grad is not None and i.param.requires_grad]
            if not infos:
                continue
            refuse_decay("EpsShift", group, infos[0])
            _refuse_sparse(infos)
            params, forms = [i.param for i in infos], [str(i.form) for i in infos]
            factors: list[float | Tensor | None]
            if self._is_decoupled(optimizer, group):
                # found_inf: a fused optimizer skips this step, and so must we.
                factors = [-1.0, group["lr"], keep_going(optimizer)]
                given = [f for f in factors if f is not None]
                if not decayed:
                    add_edits(params, [p.data for p in params], forms, self.lam, self.eps, given)
                self._decayed = True
            else:
                # A fused optimizer unscales inside its kernel: what is added must be scaled too.
                # maximize: the update adds the gradient, and the penalty still has to shrink.
                factors = [-1.0 if group.get("maximize") else 1.0]
                factors.append(getattr(optimizer, "grad_scale", None))
                given = [f for f in factors if f is not None]
                grads = [p.grad for p in params if p.grad is not None]
                self._lend(params, edited(params, grads, forms, self.lam, self.eps, given))

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not is_nested(optimizer):
            self._take_back()
            self._decayed = False

    def _lend(self, params: list[nn.Parameter], edits: list[Tensor]) -> None:
        """Put edited gradients in the place of the real ones, for this step."""
        for param, copy in zip(params, edits):
            assert param.grad is not None
            self._lent.append((param, param.grad, copy, copy._version))
            param.grad = copy

    def _take_back(self, failed: bool = False) -> None:
        """The gradients as they were; the penalty would pile up in those that are kept.

        After a step that has failed somebody may have set the copies to zero and filled them anew.
        """
        for param, original, copy, version in reversed(self._lent):  # a parameter may stand twice
            if param.grad is copy and not (failed and copy._version != version):
                param.grad = original
        self._lent.clear()

    def _is_decoupled(self, optimizer: torch.optim.Optimizer, group: dict) -> bool:
        if self.decoupled is not None:
            return self.decoupled
        return bool(is_decoupled(optimizer, group))


def _refuse_sparse(infos: list[WeightInfo]) -> None:
    for info in infos:
        grad = info.param.grad
        if grad is not None and grad.layout is not torch.strided:
            raise Stopped(f"EpsShift: {info.name} has a sparse gradient: use dense gradients.")


def _census(model: nn.Module) -> str:
    """What the model has instead, as the end of an error sentence."""
    kinds = Counter(
        type(info.module).__name__ for info in weights_of(model) if info.kind in ("conv", "linear")
    )
    found = ", ".join(f"{count} {name}" for name, count in kinds.most_common()) or "none at all"
    return (
        f"its weighted layers are: {found} (WSConv2d, WNConv2d, CWNConv2d or mmcv ConvWS"
        " wanted): build them through conv_cfg or normalize_layers."
    )
