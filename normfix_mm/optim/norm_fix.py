"""Norm fixing: after every optimizer step, W ← W · ‖W₀‖ / ‖W‖.

FixNorm, Algorithm 1: all fixed weights are ONE vector, whose norm is restored; the norms of single
layers stay free to move against each other. ``mode='layer'`` restores each weight's own norm
instead (Hoffer et al.'s norm-bounded weight normalization), the paper's ablation.

The weights must be scale-invariant, or fixing them changes the network: see
:func:`normfix_mm.find_scale_variant`. Departures: none; the target is the norm at construction.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.kernels.norms import rescale, squared_norms
from normfix_mm.kernels.scalars import on_device
from normfix_mm.optim.claims import claim, release
from normfix_mm.optim.step_hooks import (
    keep_going,
    refuse_closure,
    refuse_sharded,
    refuse_sharded_since,
)
from normfix_mm.optim.weights import norm_fix_weights

TREATMENT = "norm fixing"
VERSION = 1
MODES = ("joint", "layer")


class NormFix:
    r"""Hold the norm of the weights of ``model`` at its present value, from now on.

    Args:
        optimizer: holds every selected weight, in groups whose ``weight_decay`` is 0.
        model: where the weights come from; frozen ones (``requires_grad=False``) do not count.
        mode: 'joint' (one vector, Algorithm 1) or 'layer' (each weight by itself).
        weights: 'conv+classifier' (FixNorm and WN linear layers too) or 'conv'.
        include, exclude: regular expressions on parameter names that narrow the selection.

    Attributes:
        target (Tensor): float64, 0-dim for 'joint', one entry a weight for 'layer'.

    The norm is exact to 1e-6 relative after every real step. The step itself costs one pass for
    the norm and one for the rescale, and no synchronization. Weights must be float32 or
    float64: half precision cannot hold a rescale by less than 2⁻⁹ (train those under autocast).
    A norm that becomes zero or non-finite in training leaves the weights as they are.

    Raises:
        ValueError: unknown mode, nothing to fix, half-precision weights, a norm of zero or
            not finite, a weight that is not in the optimizer or has another treatment, a sharded
            model.
        RuntimeError: at a step, for a closure or a weight sharded since.

    Example:
        >>> fixing = NormFix(optimizer, model)
        >>> optimizer.step()  # ‖W‖ is fixing.target again
    """

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
        refuse_sharded("NormFix", model)
        infos = norm_fix_weights(model, weights, include, exclude)
        if not infos:
            raise ValueError(
                f"NormFix: the model has no trainable weight to fix (weights={weights!r}): it needs"
                " convolutions, or FixNorm or WN linear layers."
            )
        _refuse_half(infos)
        self.optimizer, self.mode, self.infos = optimizer, mode, infos
        self.names = [info.name for info in infos]
        self._params = [info.param for info in infos]
        self.target = self._checked_norms()
        claim(optimizer, infos, TREATMENT)
        # Where the whole step is compiled (mmengine's compile=...), this part of it runs as it is.
        self._handle = optimizer.register_step_post_hook(torch.compiler.disable(self._after_step))

    def remove(self) -> None:
        """Detach from the optimizer; the weights are free for another treatment."""
        self._handle.remove()
        release(self.optimizer, TREATMENT)

    def joint_norm(self) -> Tensor:
        """The present norm of all fixed weights as one vector, float64, 0-dim, on the device."""
        return squared_norms(self._params).sum().sqrt()

    def retarget(self) -> None:
        """Take the present norms as the target (after loading other weights)."""
        self.target = self._checked_norms()

    def state_dict(self) -> dict[str, Any]:
        """Version, mode, names and target: all that a resumed run needs."""
        return {
            "version": VERSION,
            "mode": self.mode,
            "names": list(self.names),
            "target": self.target.detach().clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the target. Raises ValueError if the state belongs to other weights."""
        lacking = sorted({"version", "mode", "names", "target"} - set(state))
        if lacking:
            raise ValueError(f"NormFix: the state lacks {lacking}: it is no state of NormFix.")
        if state["version"] != VERSION:
            raise ValueError(
                f"NormFix: the state has version {state['version']}, this package reads {VERSION}:"
                " resume with the package version that wrote it."
            )
        if state["mode"] != self.mode:
            raise ValueError(
                f"NormFix: the state was written with mode={state['mode']!r}, this run has"
                f" mode={self.mode!r}: resume with the same mode, or start without resuming."
            )
        if list(state["names"]) != self.names:
            only_there = [n for n in state["names"] if n not in set(self.names)]
            only_here = [n for n in self.names if n not in set(state["names"])]
            raise ValueError(
                f"NormFix: the state fixes other weights (only there: {only_there[:5]}, only here:"
                f" {only_here[:5]}, or in another order): resume with the same model and selection."
            )
        target = torch.as_tensor(state["target"]).to(self.target)
        if target.shape != self.target.shape or not bool(
            (target > 0).all() & target.isfinite().all()
        ):
            raise ValueError("NormFix: the state's target is not a positive norm: it is damaged.")
        self.target = target.clone()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        refuse_closure("NormFix", args, kwargs)
        refuse_sharded_since("NormFix", self.infos)
        norms = self._norms()
        scale = self.target / norms
        usable = (norms > 0) & norms.isfinite()
        going = keep_going(optimizer)
        if going is not None:
            usable = usable & (on_device(going, scale.device) != 0)
        scale = torch.where(usable, scale, 1.0)
        rescale(self._params, scale)

    def _norms(self) -> Tensor:
        """Present norms in the shape of the target."""
        squared = squared_norms(self._params)
        return squared.sum().sqrt() if self.mode == "joint" else squared.sqrt()

    def _checked_norms(self) -> Tensor:
        """Present norms in the shape of the target; once, so it may synchronize."""
        norms = self._norms()
        good = (norms > 0) & norms.isfinite()
        if not bool(good.all()):
            each = squared_norms(self._params).tolist()
            bad = [n for n, value in zip(self.names, each) if not 0 < value < float("inf")]
            raise ValueError(
                f"NormFix: the norm to hold is zero or not finite (look at {bad[:5]}): initialize"
                " or load the weights before fixing their norm."
            )
        return norms


def _refuse_half(infos: list) -> None:
    half = [i.name for i in infos if i.param.dtype not in (torch.float32, torch.float64)]
    if half:
        raise ValueError(
            f"NormFix: {half[0]} is {infos[0].param.dtype}, which cannot hold a small rescale: keep"
            " the weights in float32 and use autocast for half-precision arithmetic."
        )
