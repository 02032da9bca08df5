"""Norms of many tensors and a common rescale, at the speed of memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from normfix_mm.kernels import devices, torch_versions
from normfix_mm.kernels.rows import WIDE

ROW = 4096  # elements summed in float32 before float64 takes over


@torch.no_grad()
def squared_norms(params: Sequence[Tensor]) -> Tensor:
    """‖W‖² of each tensor: float64, shape (len(params),), on the first tensor's device.

    Right to 1e-6 for every finite float32: what is summed in float32 is at most ROW elements long,
    and where squares overflow or vanish, float64 sums all. One long float32 sum (_foreach_norm, a
    dot product) is off by up to 7e-6 for ResNet-50 on the CPU.
    """
    params = list(params)
    if devices.few_kernels(params):
        # A GPU has the threads to add in float64 at the speed of memory.
        on_devices = torch_versions.norms(params)
        return torch.stack([n.to(params[0].device) for n in on_devices]).square_()
    # The last first: those the optimizer has just written are still in the cache.
    parts = [_norms_of_rows(p) for p in reversed(params)][::-1]
    squares = torch.cat(parts).to(torch.float64).square_().split([len(part) for part in parts])
    return torch.stack([part.sum() for part in squares])


def _norms_of_rows(param: Tensor) -> Tensor:
    """Norms of pieces of ROW elements, whatever the order in memory."""
    if not param.is_contiguous():
        order = sorted(range(param.dim()), key=param.stride, reverse=True)
        param = param.permute(order).reshape(-1)  # a view if it is channels_last
    norms = _cut_norms(param.view(-1), None if param.dtype in WIDE else torch.float32)
    # A CPU's tensor can be looked at where it lies: nothing waits for it.
    array = norms.numpy()
    if array.size and not (array.min() > 1e-10 and array.max() < 1e15):
        norms = _cut_norms(param.view(-1), torch.float64)
    return norms


def _cut_norms(flat: Tensor, dtype: torch.dtype | None) -> Tensor:
    whole = len(flat) // ROW * ROW
    norms = torch.linalg.vector_norm(flat[:whole].view(-1, ROW), dim=1, dtype=dtype)
    if whole == len(flat):
        return norms
    return torch.cat([norms, torch.linalg.vector_norm(flat[whole:], dtype=dtype).view(1)])


@torch.no_grad()
def rescale(params: Sequence[Tensor], scale: Tensor) -> None:
    """Multiply all tensors by a 0-dim ``scale``, or each by its own entry."""
    alike: dict[tuple, list[int]] = {}
    for k, p in enumerate(params):
        alike.setdefault((p.device, p.dtype), []).append(k)
    for (device, dtype), at in alike.items():
        factor = scale.to(device, dtype)
        if scale.dim() == 0:
            torch._foreach_mul_([params[k] for k in at], factor)
        else:
            for k in at:
                params[k].mul_(factor[k])
