"""Numbers that live on the device: learning rates, AMP's scale. Never read on the host."""

from __future__ import annotations

import torch
from torch import Tensor


def on_device(value: float | Tensor, device: torch.device) -> float | Tensor:
    """``value`` where tensors on ``device`` can be multiplied by it without a synchronization."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().reshape(())  # 0-dim: never changes the dtype of what it multiplies
    return (
        value
        if value.device in (device, torch.device("cpu"))
        else value.to(device, non_blocking=True)
    )
