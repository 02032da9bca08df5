"""Norm fixing: after every optimizer step, W ← W · ‖W₀‖ / ‖W‖.

FixNorm, Algorithm 1: all fixed weights are ONE vector, whose norm is restored; the norms of single
layers stay free to move against each other. ``mode='layer'`` restores each weight's own norm
instead, as Hoffer et al.'s norm-bounded weight normalization does; the paper only discusses it.

The weights must be scale-invariant, or fixing them changes the network: see
:func:`normfix_mm.find_scale_variant`. The target is the norm at construction. What the paper does
not need: a weight that is frozen leaves the vector with its share of the norm, and one that thaws
joins it with its own.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from normfix_mm.errors import Stopped, listing
from normfix_mm.kernels.norms import rescale, squared_norms
from normfix_mm.kernels.scalars import on_device
from normfix_mm.layers.gain import end_start, settle_before_training, settle_gains
from normfix_mm.optim.claims import claim, decay_of, owner_of, release, resting
from normfix_mm.optim.norm_state import adopt_state, moved_target, pack_state
from normfix_mm.optim.other_optimizers import watch
from normfix_mm.optim.residence import Residence
from normfix_mm.optim.step_hooks import (
    keep_going,
    refuse_closure,
    refuse_decay,
    refuse_optimizer,
    refuse_sharded,
    refuse_sharded_since,
)
from normfix_mm.optim.weights import WeightInfo, norm_fix_weights

MODES = ("joint", "layer")


class NormFix:
    r"""Hold the norm of the weights of ``model`` at its present value, from now on.

    Args:
        optimizer: holds every selected weight that trains, in groups whose ``weight_decay`` is 0.
        model: where the weights come from.
        mode: 'joint' (one vector, Algorithm 1) or 'layer' (each weight by itself).
        weights: 'conv+classifier' (FixNorm and WN linear layers too) or 'conv'.
        include, exclude: regular expressions on parameter names that narrow the selection.

    Attributes:
        target (Tensor): float64, 0-dim for 'joint', one entry a selected weight for 'layer'.
        infos: the weights that are held at present: those selected that train.

    The norm is exact to 1e-6 relative after every real step. The step itself costs one pass for
    the norm and one for the rescale, and no synchronization. Weights must be float32 or
    float64: half precision cannot hold a rescale by less than 2⁻⁹ (train those under autocast).
    A frozen weight keeps its bits, also one whose learning rate is 0. Weights that
    `load_state_dict` brings in afterwards are held at the norm that they come with.

    Raises:
        ValueError: unknown mode, nothing to fix, half-precision weights, a norm of zero or
            not finite, a weight that is computed (pruned, parametrized, torch's weight_norm), used
            past its layer, not in the optimizer or under another treatment, a sharded model, an
            optimizer that wraps another or is differentiable.
        Stopped (a RuntimeError): at a step, for a closure, a weight sharded, replaced or normalized
            since, stepped by another optimizer or no longer float32, a weight decay that came back,
            or a norm that became zero or not finite (on a GPU one step later, since the step does
            not wait for it).

    Example:
        >>> fixing = NormFix(optimizer, model)
        >>> optimizer.step()  # ‖W‖ is fixing.target again
    """

    treatment = "norm fixing"

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        model: nn.Module,
        mode: str = "joint",
        *,
        weights: str = "conv+classifier",
        include: str | list[str] | None = None,
        exclude: str | list[str] | None = None,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f"NormFix: mode must be 'joint' or 'layer', got {mode!r}.")
        refuse_optimizer("NormFix", optimizer)
        refuse_sharded("NormFix", model)
        self._home = Residence(
            "NormFix",
            model,
            optimizer,
            lambda: norm_fix_weights(model, weights, include, exclude, frozen=True),
        )
        selected = self._home.infos
        if not selected:
            raise ValueError(
                f"NormFix: the model has no weight to fix (weights={weights!r}): it needs"
                " convolutions, or FixNorm or WN linear layers."
            )
        _refuse_half([i for i in selected if i.param.requires_grad], ValueError)
        self.optimizer, self.mode, self.selected = optimizer, mode, selected
        claim(self, selected)
        try:
            settle_gains(model)
            settle_before_training(model)
            self.infos = self._training()
            self.target = self._checked_norms()
        except ValueError:
            release(self)
            raise
        self._untrained: nn.Module | None = model  # until the first step, which ends its start
        # Whether to take the target anew at the next step. Among several processes DDP may only now
        # come and give all ranks the weights of one; their targets must be one as well.
        self._reloaded = dist.is_available() and dist.is_initialized()
        noted = _NoteReload(self)
        self._handles = [m.register_load_state_dict_post_hook(noted) for m in self._modules()]
        # Where the whole step is compiled (mmengine's compile=...), this part of it runs as it is.
        before, after = map(torch.compiler.disable, (self._before_step, self._after_step))
        self._handles += [
            optimizer.register_step_pre_hook(before),
            optimizer.register_step_post_hook(after),
        ]
        watch()
        # 1 once a norm was zero or not finite. A GPU writes it here while the step goes on, and the
        # next step reads it, so that none waits.
        on_gpu = any(info.param.is_cuda for info in selected)
        self._report = torch.zeros((), dtype=torch.uint8, pin_memory=on_gpu)
        self._broken = self._report.numpy()

    @property
    def names(self) -> list[str]:
        """Names of the weights that are held at present."""
        return [info.name for info in self.infos]

    def remove(self) -> None:
        """Detach from the optimizer; the weights are free for another treatment."""
        for handle in self._handles:
            handle.remove()
        release(self)

    def joint_norm(self) -> Tensor:
        """The present norm of all held weights as one vector, float64, 0-dim, on the device."""
        return squared_norms(self._params()).sum().sqrt()

    def norms_and_targets(self) -> list[tuple[str, float, float]]:
        """What is held, in words, its present norm and its target; waits for the device.

        Nothing while weights have been loaded whose norm the next step will take as the target.
        """
        if not self.infos or self._reloaded:
            return []
        joint = self.mode == "joint"
        what = ["the joint norm"] if joint else [f"the norm of {name}" for name in self.names]
        norms, targets = self._norms().view(-1).tolist(), self._targets().view(-1).tolist()
        return list(zip(what, norms, targets, strict=True))

    def retarget(self) -> None:
        """Take the present norms as the target (after replacing weights by hand)."""
        self.follow_freezing()
        self.target = self._checked_norms()
        self._report.zero_()

    def state_dict(self) -> dict[str, Any]:
        """Version, mode, names and target: all that a resumed run needs."""
        return pack_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the target. Raises ValueError if the state belongs to other weights."""
        self.follow_freezing()
        self.target = adopt_state(self, state)
        self._reloaded = False
        self._report.zero_()  # a run that went wrong goes on from its checkpoint

    @torch.no_grad()
    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        refuse_closure("NormFix", args, kwargs)
        refuse_sharded_since("NormFix", self.selected)
        if self._reloaded:
            self._reloaded = False
            self.retarget()
        self._stop_if_broken()
        if self._untrained is not None:
            end_start(self._untrained)
            self._untrained = None
        self.follow_freezing()
        _refuse_half(self.infos, Stopped)
        for group in optimizer.param_groups:  # load_state_dict makes new ones
            if decay_of(group):
                for info in self.infos:
                    if any(info.param is p for p in group["params"]):
                        refuse_decay("norm fixing", group, info)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if not self.infos:
            return
        scale = self._targets() / self._norms()
        usable = (scale > 0) & scale.isfinite()
        self._report.copy_(usable.logical_not().any(), non_blocking=True)
        going = keep_going(optimizer)
        if going is not None:
            usable = usable & (on_device(going, scale.device) != 0)
        rescale(self._params(), torch.where(usable, scale, 1.0))
        self._stop_if_broken()

    def _params(self) -> list[Tensor]:
        return [info.param for info in self.infos]

    def _modules(self) -> list[nn.Module]:
        return list(dict.fromkeys(info.module for info in self.selected))

    def _training(self) -> list[WeightInfo]:
        """Of the selected weights those that this optimizer trains at present."""
        rests, held = resting(self.optimizer), self._home.held
        return [
            i
            for i in self.selected
            if i.param.requires_grad and i.param in held and i.param not in rests
        ]

    def follow_freezing(self) -> None:
        """Weights that were frozen leave with their norm, weights that thawed join with theirs."""
        if self._home.look():
            held = [i for i in self.selected if i.param in self._home.held]
            claim(self, [i for i in held if owner_of(i.param) is not self])
        training = self._training()
        if training == self.infos:
            return
        if self.mode == "joint":
            self.target = moved_target(self.target, self.infos, training)
        else:
            for k, info in enumerate(self.selected):
                if info in training and info not in self.infos:
                    self.target[k] = squared_norms([info.param]).sqrt()[0].to(self.target)
        self.infos = training

    def _norms(self) -> Tensor:
        """Present norms, 0-dim for 'joint', one entry a held weight for 'layer'."""
        squared = squared_norms(self._params())
        return squared.sum().sqrt() if self.mode == "joint" else squared.sqrt()

    def _targets(self) -> Tensor:
        """The target in the shape of `_norms`."""
        if self.mode == "joint" or len(self.infos) == len(self.selected):
            return self.target
        held = [k for k, info in enumerate(self.selected) if info in self.infos]
        return self.target[held]

    def _checked_norms(self) -> Tensor:
        """Present norms in the shape of the target; once, so it may synchronize."""
        infos = self.infos if self.mode == "joint" else self.selected
        if not infos:
            return torch.zeros((), dtype=torch.float64)
        squared = squared_norms([info.param for info in infos])
        norms = squared.sum().sqrt() if self.mode == "joint" else squared.sqrt()
        if norms.is_meta:
            raise ValueError(
                "NormFix: the model is on the meta device, where weights have no norm: create its "
                "weights first."
            )
        good = (norms > 0) & norms.isfinite()
        if self.mode == "layer":
            good = good[[k for k, info in enumerate(infos) if info in self.infos]]
        if not bool(good.all()):
            raise ValueError(
                "NormFix: the norm to hold is zero or not finite (look at "
                f"{_no_norms(self.infos)}): initialize or load the weights before fixing their "
                "norm."
            )
        return norms

    def _stop_if_broken(self) -> None:
        if self._broken:
            raise Stopped(
                f"NormFix: the norm of {_no_norms(self.infos) or 'the weights'} became zero or not"
                " finite in training: go on from an earlier checkpoint with a lower learning rate"
                " or gradient clipping."
            )


class _NoteReload:
    """Hook of a layer's `load_state_dict`: the target is to be taken anew.

    A copy of the layer, also a pickled one, has no owner: NormFix holds the original's weight.
    """

    def __init__(self, owner: NormFix | None = None) -> None:
        self.owner = weakref.ref(owner) if owner is not None else None

    def __call__(self, module: nn.Module, incompatible_keys: Any) -> None:
        owner = None if self.owner is None else self.owner()
        if owner is not None:
            owner._reloaded = True

    def __reduce__(self) -> tuple:
        return _NoteReload, ()


def _no_norms(infos: list[WeightInfo]) -> str:
    """Names of the first weights whose norm is zero or not finite."""
    each = squared_norms([info.param for info in infos]).tolist()
    bad = [i.name for i, value in zip(infos, each, strict=True) if not 0 < value < float("inf")]
    return listing(bad, 5) if bad else ""


def _refuse_half(infos: list[WeightInfo], error: type[Exception]) -> None:
    half = [i for i in infos if i.param.dtype not in (torch.float32, torch.float64)]
    if half:
        raise error(
            f"NormFix: {half[0].name} is {half[0].param.dtype}, which cannot hold a small rescale:"
            " keep the weights in float32 and use autocast for half-precision arithmetic."
        )
