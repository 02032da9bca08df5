"""What the optimizer step hooks of :mod:`eps_shift` and :mod:`norm_fix` share.

Both edit tensors around ``Optimizer.step``, so both meet the same things: optimizers whose step is
not where the weights change, a closure (which recomputes gradients after the pre-hook), sharded
parameters (whose local norms are wrong), decay that comes back, and fused optimizers under a
``GradScaler``, which are called even when the step is to be skipped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.errors import Stopped
from normfix_mm.optim.claims import decay_of
from normfix_mm.optim.decoupling import sharded_inside
from normfix_mm.optim.weights import WeightInfo

_OPTIMIZER_FILE = torch.optim.Optimizer.__init__.__code__.co_filename


def refuse_optimizer(who: str, optimizer: Any) -> None:
    """Raise for what has no steps of its own that could be hooked.

    SAM, Lookahead and accelerate's optimizer wrap another, whose step is the one that counts (a
    ZeroRedundancyOptimizer passes its own on). Schedule-free optimizers keep the weights at another
    point between steps.
    """
    name = type(optimizer).__name__
    if not isinstance(optimizer, torch.optim.Optimizer):
        inner = " (a wrapper's is its .optimizer)" if hasattr(optimizer, "optimizer") else ""
        raise ValueError(f"{who} needs a torch.optim.Optimizer, got {name}{inner}.")
    inside = [k for k, v in vars(optimizer).items() if isinstance(v, torch.optim.Optimizer)]
    if inside and sharded_inside(optimizer) is None:
        later = (
            " (it may average the weights afterwards, as Lookahead does, whose norm is then less)"
        )
        raise ValueError(
            f"{who}: {name} calls the step of another optimizer, its .{inside[0]}; attach {who} to "
            f"that one{later if who == 'NormFix' else ''}."
        )
    if callable(getattr(optimizer, "train", None)) and callable(getattr(optimizer, "eval", None)):
        raise ValueError(
            f"{who}: {name} is schedule-free: between steps it keeps the weights at another point, "
            "which would be edited; use an optimizer with a schedule."
        )
    if any(group.get("differentiable") for group in optimizer.param_groups):
        raise ValueError(
            f"{who}: {name} is differentiable, and the edits of {who} are not: derivatives through "
            "the step would be wrong; make it without differentiable=True."
        )
    if not hasattr(optimizer, "_optimizer_step_pre_hooks"):
        raise ValueError(
            f"{who}: {name} was made without torch.optim.Optimizer.__init__, so its steps cannot "
            "be hooked; attach to the optimizer that it wraps, or use another."
        )


def refuse_closure(who: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise if a step was given a closure; ``args`` and ``kwargs`` as a step hook gets them."""
    closure = kwargs.get("closure")
    # torch passes the optimizer itself as args[0]; a closure is the only other argument of step.
    others = [a for a in args if not isinstance(a, torch.optim.Optimizer)]
    if closure is not None or any(callable(a) for a in others):
        raise Stopped(
            f"{who} does not work with a closure, which computes the gradients inside step(), after"
            " they would have been edited: call backward() first, then step() without arguments"
            " (LBFGS cannot be used)."
        )


def refuse_sharded(who: str, model: nn.Module) -> None:
    """Raise for FSDP modules and sharded parameters: a shard's norm is not the weight's norm."""
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{who} needs the model, a torch.nn.Module, got {type(model).__name__}; several parts "
            "of one are a torch.nn.ModuleList."
        )
    wrapped = any(
        cls.__name__ in ("FullyShardedDataParallel", "FSDPModule")
        for module in model.modules()
        for cls in type(module).__mro__
    )
    # By itself enough for a module taken out of its FSDP wrapper.
    sharded = [name for name, param in model.named_parameters() if _is_shard(param)]
    if wrapped or sharded:
        at = f" ({sharded[0]})" if sharded else ""
        raise ValueError(
            f"{who} needs whole weights, but this model is sharded by FSDP or is made of"
            f" DTensors{at}, whose local norms are wrong: use DistributedDataParallel instead."
        )


def refuse_sharded_since(who: str, infos: Sequence[WeightInfo]) -> None:
    """Raise at a step if a weight was sharded or replaced after the hook was attached."""
    for info in infos:
        present = info.module._parameters.get(info.name.rpartition(".")[2])
        if present is not info.param or _is_shard(present):
            raise Stopped(
                f"{who}: {info.name} was sharded or replaced after {who} was attached (pruning and"
                " parametrizing replace it, too), so it would edit a part of the weight or a dead"
                " copy: use DistributedDataParallel, not FSDP, and attach to the optimizer of the"
                " finished model."
            )


def refuse_decay(who: str, group: dict, info: WeightInfo) -> None:
    """Raise at a step if the group of a treated weight has a weight decay by now."""
    option = decay_of(group)
    if option:
        raise Stopped(
            f"{who}: {info.name} is in a parameter group with {option}={group[option]}, which it "
            f"may not have beside {who} (did load_state_dict or a schedule bring it back?): set "
            f"the group's {option} to 0."
        )


def _is_shard(param: Tensor) -> bool:
    """A DTensor (FSDP2, tensor parallelism), or FSDP1's flat parameter or a view of its shard."""
    return hasattr(param, "placements") or getattr(param, "_fsdp_flattened", False)


def is_nested(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step of this optimizer has called its parent's, whose hooks are the same.

    torch runs the hooks of an instance around each `step` of its classes that has been used before,
    so this depends on which optimizers a program has made; the stack of calls tells.
    """
    steps, frame = 0, sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_filename == _OPTIMIZER_FILE and frame.f_code.co_name == "wrapper":
            steps += frame.f_locals.get("self") is optimizer
    return steps > 1


def keep_going(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """0-dim tensor, 0 where a fused optimizer is about to skip (found inf), else 1.

    None when nothing can be skipped: ``GradScaler`` calls ordinary optimizers on real steps only.
    Stays on its device, so asking costs no synchronization.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return None if found_inf is None else (found_inf.reshape(()) == 0).to(found_inf.dtype)
