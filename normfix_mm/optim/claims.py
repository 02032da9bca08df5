"""Which treatment has which weight: a weight gets one, and no decay beside it.

A claim belongs to the EpsShift or NormFix that made it and ends with it, also where that is
forgotten without `remove()`. It holds for the weight, whichever optimizer it was attached to.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.weak import WeakIdKeyDictionary

from normfix_mm.errors import listing
from normfix_mm.optim.weights import WeightInfo


class Treatment(Protocol):
    """What EpsShift and NormFix are to this module."""

    treatment: str
    optimizer: Optimizer


_owners: WeakIdKeyDictionary = WeakIdKeyDictionary()  # weight to weak reference of its Treatment
_changes = [0]


def claim(owner: Treatment, infos: Sequence[WeightInfo]) -> None:
    """Note that `owner` now takes care of these weights in place of the optimizer's decay.

    A frozen weight that the optimizer does not hold is passed over.

    Raises:
        ValueError: a trainable weight that the optimizer does not hold, or holds without its gain,
            that it decays as well, or that another treatment has; nothing is noted then.
    """
    who, groups = owner.treatment, groups_of(owner.optimizer)
    absent = [w for w in infos if w.param not in groups and w.param.requires_grad]
    if absent:
        raise ValueError(
            f"{who}: the optimizer does not hold {listing(absent)}; build it from the model's "
            "present parameters, or freeze these weights."
        )
    _refuse_gains_left_out(who, infos, groups)
    held = [w for w in infos if w.param in groups]
    decayed = [w for w in held if w.param.requires_grad and decay_of(groups[w.param])]
    if decayed:
        option = decay_of(groups[decayed[0].param])
        raise ValueError(
            f"{who} and the optimizer's {option} are both on {listing(decayed)}; put these "
            f"weights in a parameter group with {option}=0."
        )
    taken = [w for w in held if owner_of(w.param) is not None]
    if taken:
        gc.collect()  # an optimizer and its hooks refer to each other, and may be forgotten already
        taken = [w for w in held if owner_of(w.param) is not None]
    if taken:
        other = owner_of(taken[0].param)
        through = "" if other.optimizer is owner.optimizer else " through another optimizer"
        raise ValueError(
            f"{who}: {listing(taken)} already under {other.treatment}{through}; a weight gets one "
            "treatment: separate them with include= and exclude=, or remove() the other first."
        )
    _count_change()
    for w in held:
        _owners[w.param] = weakref.ref(owner)


def _refuse_gains_left_out(who: str, infos: Sequence[WeightInfo], groups: dict) -> None:
    """Raise for a weight that the optimizer holds without its gain."""
    gains = {w.name: getattr(w.module, "g", None) for w in infos if w.param in groups}
    absent = [n for n, g in gains.items() if g is not None and g.requires_grad and g not in groups]
    if absent:
        raise ValueError(
            f"{who}: the optimizer holds {listing(absent)} but not their gains g, which "
            "normalize_layers adds: it was made before; make the optimizer afterwards, for example "
            "of normfix_mm.param_groups(model, weight_decay)."
        )


def release(owner: Treatment) -> None:
    """Forget what `owner` had claimed."""
    _count_change()
    for param in [p for p in _owners if owner_of(p) is owner]:
        del _owners[param]


def changes() -> int:
    """How often claims have changed."""
    return _changes[0]


def _count_change() -> None:
    _changes[0] += 1


def owner_of(param: nn.Parameter) -> Any:
    """The treatment that has this weight, None if there is none."""
    reference = _owners.get(param)
    return None if reference is None else reference()


def claims(optimizer: Optimizer) -> dict[nn.Parameter, str]:
    """Which treatment has claimed which parameter through this optimizer."""
    owners = {p: owner_of(p) for p in params_of(optimizer)}
    return {p: o.treatment for p, o in owners.items() if o is not None and o.optimizer is optimizer}


def groups_of(optimizer: Optimizer) -> dict[nn.Parameter, dict]:
    """The parameter group of each parameter."""
    return {p: group for group in optimizer.param_groups for p in group["params"]}


def params_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimizer, in its order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def resting(optimizer: Optimizer) -> set[nn.Parameter]:
    """Parameters with learning rate 0 where others have one, which is another way of freezing.

    Where all have 0, as at the start of a warm-up, none moves. A tensor's value is not read.
    """
    groups = optimizer.param_groups
    still = [g for g in groups if isinstance(g.get("lr"), (int, float)) and not g["lr"]]
    return {p for group in still for p in group["params"]} if len(still) < len(groups) else set()


def decay_of(group: dict) -> str | None:
    """The option by which a group decays: 'weight_decay' or ASGD's own 'lambd', which is 1e-4 where
    nobody sets it. None without decay; one that lives on a GPU is not waited for.
    """
    for name in ("weight_decay", "lambd"):
        decay = group.get(name, 0)
        if not (isinstance(decay, Tensor) and decay.device.type != "cpu") and decay:
            return name
    return None
