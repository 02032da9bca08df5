"""Parameters of which each process has a part (DTensors, as of FSDP2): read and written whole.

All processes must do it together.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def whole(tensor: Any) -> Tensor:
    """The values without a gradient, all of a sharded tensor."""
    tensor = tensor.detach()
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


@torch.no_grad()
def write(target: Any, values: Tensor) -> None:
    """Write values in place, into a sharded tensor each process its part."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import distribute_tensor

        values = values.to(target.device)
        values = distribute_tensor(values, target.device_mesh, target.placements)
    target.copy_(values)
