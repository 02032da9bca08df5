"""Which treatment has which weight of an optimizer; a weight gets one and no decay beside it."""

from torch import nn
from torch.optim import Optimizer

from normfix_mm.errors import listing
from normfix_mm.optim.weights import WeightInfo


def claim(optimizer: Optimizer, infos: list[WeightInfo], treatment: str) -> None:
    """Note that `treatment` now takes care of these weights in place of the optimizer's decay.

    Raises:
        ValueError: a weight that the optimizer does not hold, that it decays as well, or that
            another treatment has; nothing is noted then.
    """
    groups = {p: group for group in optimizer.param_groups for p in group["params"]}
    absent = [w for w in infos if w.param not in groups]
    if absent:
        raise ValueError(
            f"{treatment}: the optimizer does not hold {listing(absent)}; build it from the "
            "model's present parameters, or freeze these weights."
        )
    decayed = [w for w in infos if groups[w.param].get("weight_decay", 0) != 0]
    if decayed:
        raise ValueError(
            f"{treatment} and the optimizer's weight_decay are both on {listing(decayed)}; put "
            "these weights in a parameter group with weight_decay=0."
        )
    table = claims(optimizer)
    taken = [w for w in infos if w.param in table]
    if taken:
        raise ValueError(
            f"{treatment}: {listing(taken)} already under {table[taken[0].param]}; a weight gets "
            "one of the two: separate them with include= and exclude=."
        )
    table.update({w.param: treatment for w in infos})


def release(optimizer: Optimizer, treatment: str) -> None:
    """Forget what `treatment` had claimed."""
    table = claims(optimizer)
    for param in [p for p, name in table.items() if name == treatment]:
        del table[param]


def claims(optimizer: Optimizer) -> dict[nn.Parameter, str]:
    """Which treatment has claimed which parameter of this optimizer."""
    return optimizer.__dict__.setdefault("_normfix_claims", {})
