"""How an optimizer decays weights, which is how it has to apply what takes the place of decay.

Coupled (SGD, Adam): λ w is added to the gradient. Decoupled (AdamW): lr λ w is subtracted from the
weight. With the wrong one the regularizer is some ten times too strong or too weak, so only
torch's own classes are known here; a class that extends one of them may do anything.
"""

from __future__ import annotations

import torch
from torch.optim import Optimizer

_COUPLED = ("SGD", "Adam", "NAdam", "RAdam", "Adamax", "Adagrad", "Adadelta", "ASGD", "RMSprop")
_DECOUPLED = ("AdamW", "Adafactor", "Muon")
# Adam, NAdam and RAdam can be either, group by group.
_OPTION = "decoupled_weight_decay"


def is_decoupled(optimizer: Optimizer, group: dict) -> bool | None:
    """True or False for this parameter group; None for a class that is not known."""
    kind = type(sharded_inside(optimizer) or optimizer)
    if kind in _classes(_DECOUPLED):
        return True
    if kind in _classes((*_COUPLED, "Rprop")):
        return bool(group.get(_OPTION, False))
    return None


def sharded_inside(optimizer: Optimizer) -> Optimizer | None:
    """The optimizer that a ZeroRedundancyOptimizer passes its steps on to; None for any other."""
    kinds = (kind.__name__ for kind in type(optimizer).__mro__)
    return optimizer.optim if "ZeroRedundancyOptimizer" in kinds else None  # type: ignore


def refuse_unknown(who: str, optimizer: Optimizer) -> None:
    """Raise ValueError for a class of which nobody knows how it decays."""
    if is_decoupled(optimizer, {}) is None:
        raise ValueError(
            f"{who}: how {type(optimizer).__name__} decays weights is not known; give "
            "decoupled=True if it subtracts lr·λ·w from the weight, as AdamW does, or "
            "decoupled=False if it adds λ·w to the gradient, as SGD does (in a config: "
            "paramwise_cfg=dict(eps_shift=dict(decoupled=...)))."
        )


def _classes(names: tuple[str, ...]) -> tuple[type, ...]:
    """Those that this version of torch has."""
    return tuple(getattr(torch.optim, n) for n in names if hasattr(torch.optim, n))
