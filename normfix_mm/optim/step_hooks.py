"""What the optimizer step hooks of :mod:`eps_shift` and :mod:`norm_fix` share.

Both edit tensors around ``Optimizer.step``, so both meet the same three things: a closure (which
recomputes gradients after the pre-hook), sharded parameters (whose local norms are wrong), and
fused optimizers under a ``GradScaler``, which are called even when the step is to be skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.optim.weights import WeightInfo


def refuse_closure(who: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Raise if a step was given a closure; ``args`` and ``kwargs`` as a step hook gets them."""
    closure = kwargs.get("closure")
    # torch passes the optimizer itself as args[0]; a closure is the only other argument of step.
    others = [a for a in args if not isinstance(a, torch.optim.Optimizer)]
    if closure is not None or any(callable(a) for a in others):
        raise RuntimeError(
            f"{who} does not work with a closure, which computes the gradients inside step(), after"
            " they would have been edited: call backward() first, then step() without arguments"
            " (LBFGS cannot be used)."
        )


def refuse_sharded(who: str, model: nn.Module) -> None:
    """Raise for FSDP modules and sharded parameters: a shard's norm is not the weight's norm."""
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
            raise RuntimeError(
                f"{who}: {info.name} was sharded or replaced after {who} was attached, so it would"
                " edit a part of the weight or a dead copy: use DistributedDataParallel, not FSDP,"
                " and attach to the optimizer of the finished model."
            )


def _is_shard(param: Tensor) -> bool:
    """A DTensor (FSDP2, tensor parallelism), or FSDP1's flat parameter or a view of its shard."""
    return hasattr(param, "placements") or getattr(param, "_fsdp_flattened", False)


def keep_going(optimizer: torch.optim.Optimizer) -> Tensor | None:
    """0-dim tensor, 0 where a fused optimizer is about to skip (found inf), else 1.

    None when nothing can be skipped: ``GradScaler`` calls ordinary optimizers on real steps only.
    Stays on its device, so asking costs no synchronization.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return None if found_inf is None else (found_inf.reshape(()) == 0).to(found_inf.dtype)
