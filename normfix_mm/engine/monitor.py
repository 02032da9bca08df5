"""Two figures of a run with a fixed norm, as they are logged."""

from collections.abc import Iterable

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor


def joint_norm(weights: Iterable[Tensor]) -> Tensor:
    """Norm of all weights as one vector, in float64."""
    return torch.stack([w.detach().double().square().sum() for w in weights]).sum().sqrt()


def effective_lr(optim_wrapper: OptimWrapper, norm: float) -> float:
    """Learning rate over the squared norm: how fast the weights' direction can turn."""
    rates = optim_wrapper.get_lr()
    rate = rates.get("base_lr", rates["lr"])[0]
    return rate / norm**2 if norm else 0.0
