"""A weight under a treatment is stepped by the optimizer of that treatment alone.

Another one would move it without the treatment: norm fixing would lose the norm, the regularizer
would miss some of the steps. torch tells of every optimizer's steps; one that holds no such weight
costs a comparison.
"""

from __future__ import annotations

import gc
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from normfix_mm.errors import Stopped
from normfix_mm.kernels.torch_versions import keep_step_hooks
from normfix_mm.optim.claims import changes, owner_of, params_of

_watching: list[Any] = []
# Of each optimizer the weights that are another's, as long as claims and parameters are the same.
_strangers: WeakKeyDictionary = WeakKeyDictionary()


def watch() -> None:
    """From the first claim on, look at every optimizer's steps."""
    keep_step_hooks()
    if not _watching:
        _watching.append(register_optimizer_step_pre_hook(torch.compiler.disable(_before_a_step)))


def _before_a_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    state = changes(), sum(len(group["params"]) for group in optimizer.param_groups)
    known = _strangers.get(optimizer)
    if known is None or known[0] != state:
        known = state, [p for p in params_of(optimizer) if _is_anothers(p, optimizer)]
        _strangers[optimizer] = known
    moved = [p for p in known[1] if p.requires_grad and p.grad is not None]
    if moved:
        gc.collect()  # an optimizer and its hooks refer to each other, and may be forgotten already
        still = [p for p in known[1] if _is_anothers(p, optimizer)]
        _strangers[optimizer] = state, still  # not to collect at every step
        moved = [p for p in moved if any(p is s for s in still)]
    if moved:
        owner = owner_of(moved[0])
        name = next((i.name for i in owner.infos if i.param is moved[0]), "a weight")
        raise Stopped(
            f"{name} is under {owner.treatment} through another optimizer than the "
            f"{type(optimizer).__name__} that is about to step it: let one optimizer train it, "
            "leave it out with exclude=, or remove() the treatment first."
        )


def _is_anothers(param: nn.Parameter, optimizer: Optimizer) -> bool:
    owner = owner_of(param)
    if owner is None or owner.optimizer is optimizer:
        return False
    # SAM, Lookahead and ZeroRedundancyOptimizer step through another that they hold.
    inside = [*vars(optimizer).values()], [*vars(owner.optimizer).values()]
    return not (
        any(v is owner.optimizer for v in inside[0]) or any(v is optimizer for v in inside[1])
    )
