"""One normalization of a weight for all its uses in one forward.

A dense head applies its layers to every level of the pyramid: five times the same weight. Inside
`once_a_forward` each layer normalizes its weight at its first use and hands out the same tensor at
the others; autograd adds up what comes back. Nothing outlives the block.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.kernels.torch_versions import BEFORE_2_4, is_compiling

_Kept = tuple[dict[tuple, tuple], Any]
_active: ContextVar[_Kept | None] = ContextVar("once_a_forward", default=None)


@contextlib.contextmanager
def once_a_forward() -> Iterator[None]:
    """Inside the block weights must not change. A block inside another belongs to the outer one.

    Blocks belong to a thread (DataParallel has one for each replica). Under torch.compile, which
    removes repeated work itself, and in old versions of torch the block does nothing.
    """
    if BEFORE_2_4 or is_compiling() or _active.get() is not None:
        yield
        return
    token = _active.set(({}, _saving_hooks()))
    try:
        yield
    finally:
        _active.reset(token)


def once(layer: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
    """What `compute` gives, computed at the layer's first use in this forward."""
    if is_compiling() or torch._C._are_functorch_transforms_active():
        return compute()
    active = _active.get()
    # A checkpointed part of the forward runs again, alone, in the backward pass: it must find the
    # same operations there and so may neither use what others have computed nor leave any.
    if active is None or active[1] is not _saving_hooks():
        return compute()
    kept = active[0]
    # For a part of the forward gradients may be switched off, parameters frozen, and others put in
    # their place by a functional call; these are kept here, so that no other gets their id.
    params = layer._parameters.get("weight"), layer._parameters.get("g")
    which = [(id(p), p is not None and p.requires_grad) for p in params]
    key = layer, *which, torch.is_grad_enabled(), torch.is_inference_mode_enabled()
    if key not in kept:
        kept[key] = compute(), params
    return kept[key][0]


def _saving_hooks() -> Any:
    """What torch.utils.checkpoint has put in place to leave out saved tensors, None outside it."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    return None if hooks is None else hooks[0]
