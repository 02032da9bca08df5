"""What devices are slow at: a CPU at moving memory, all others at starting kernels."""

from collections.abc import Sequence

from torch import Tensor


def few_kernels(tensors: Sequence[Tensor]) -> bool:
    """Whether work on these should take few kernels, and must not look at values."""
    return any(tensor.device.type != "cpu" for tensor in tensors)
