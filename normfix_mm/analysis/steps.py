"""What an optimizer's step does to each weight of a network.

    norm               ‖W‖
    smallest_filter    the smallest s (WS), ‖w‖ (WN) or ‖w − μ‖ (CWN) of its filters; ε is its floor
    layer_lr           η/‖W‖², the learning rate that the direction W/‖W‖ feels
    update             ‖ΔW‖/‖W‖
    turn               the angle between W before and after the step, in radians
    settled_turn       the angle a step at which decay λ settles, if it has time to
    leaning            cos(∇L, W): 0 for a weight whose length does not matter

A weight that acts through its direction alone is lengthened by every step and shortened by decay;
where both balance, SGD turns it by √(2ηλ/(1 + m)) and AdamW by √(2ηλ(1 − β₁)/(1 + β₁)) a step
(Kosson, Messmer and Jaggi, arXiv 2305.17212; for gradients that do not depend on each other).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from normfix_mm.kernels.norms import squared_norms
from normfix_mm.optim.decoupling import is_decoupled
from normfix_mm.optim.weights import WeightInfo


@torch.no_grad()
def norms(weights: Sequence[Tensor]) -> Tensor:
    """‖W‖ of each weight: float64, shape (len(weights),)."""
    return squared_norms([w.detach() for w in weights]).sqrt()


@torch.no_grad()
def smallest_filter(info: WeightInfo) -> Tensor | None:
    """The size of the smallest filter, in the form's own measure; 0-dim.

    None for a weight that is not normalized filter by filter, and for filters of one element, which
    have no deviation.
    """
    if not (info.form and info.per_filter) or not info.param.numel():
        return None
    rows = info.param.detach().flatten(1)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    n = rows.shape[1]
    if info.form != "WN" and n < 2:
        return None
    if info.form == "WN":
        return torch.linalg.vector_norm(rows, dim=1).amin()
    deviation = rows.std(1).amin()
    return deviation * (n - 1) ** 0.5 if info.form == "CWN" else deviation


@torch.no_grad()
def leaning(gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """cos(∇L, W) of each weight, 0 where one of them is zero: shape (len(weights),)."""
    products = [(g * w).sum(dtype=torch.float64) for g, w in zip(gradients, weights, strict=True)]
    lengths = norms(gradients) * norms(weights)
    return torch.where(lengths > 0, torch.stack(products) / lengths, 0.0)


@torch.no_grad()
def turns(before: Sequence[Tensor], after: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The angle between each weight before and after a step, and ‖ΔW‖/‖W‖; two (n,) tensors.

    The angle is taken from the distance of vectors of one length, which small angles survive.
    """
    old, new = norms(before), norms(after)
    moved = norms([a - b for a, b in zip(after, before, strict=True)]) / old
    same = (old / new).unbind()
    apart = norms([a * s.to(a.dtype) - b for a, b, s in zip(after, before, same)]) / old
    return 2 * (apart / 2).clamp_max(1).asin(), moved


def settled_turn(optimizer: Optimizer, group: dict, lam: float) -> float | None:
    """The angle a step at which decay λ balances the growth of a weight.

    Args:
        group: of the optimizer's parameter groups, the weight's.
        lam: its decay, or what takes the decay's place.

    Returns:
        None without decay, or where no such figure is known (Adam with coupled decay, …).
    """
    lr = float(group["lr"])
    if not lam > 0 or not lr > 0:
        return None
    kind = getattr(optimizer, "optim", optimizer)
    if isinstance(kind, torch.optim.SGD):
        m, lr = group["momentum"], lr * (1 - group["dampening"])
        # Σ of the squares of what one gradient adds to the steps that follow it.
        squares = (1 + m) ** 2 + m**4 / (1 - m * m) if group["nesterov"] else 1 / (1 - m * m)
        return (2 * lr * lam * (1 - m) * squares) ** 0.5
    adam = (torch.optim.Adam, torch.optim.AdamW)  # the latter extends the former since torch 2.7
    if isinstance(kind, adam) and is_decoupled(optimizer, group):
        beta = group["betas"][0]
        return (2 * lr * lam * (1 - beta) / (1 + beta)) ** 0.5
    return None


def shrinks_as_said(optimizer: Optimizer, group: dict) -> bool:
    """Whether decay shrinks weights as `time_to_act` has it: SGD, and decoupled decay.

    Where decay is part of a gradient that is divided by its own size, as in Adam, it shrinks a
    weight much faster.
    """
    kind = getattr(optimizer, "optim", optimizer)
    return isinstance(kind, torch.optim.SGD) or bool(is_decoupled(optimizer, group))


def time_to_act(lr: float, lam: float, steps: int, momentum: float) -> float:
    """ηλT/(1 − m): decay shrinks a weight by exp of minus this over T steps."""
    return lr * lam * steps / (1 - momentum)
