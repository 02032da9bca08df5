"""How a gain starts in a layer of which nobody takes care, as in a config with none of our hooks.

The layer does it itself, before its first forward in training mode. Where no gradient will come to
say that training has begun (a compiled forward, DataParallel's copies) the first forward says it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from normfix_mm.errors import Stopped
from normfix_mm.kernels import torch_versions
from normfix_mm.kernels.torch_versions import is_compiling, uncompiled
from normfix_mm.layers.gain_loading import LoadsGain


@uncompiled
def settle_alone(layer: nn.Module, args: Any) -> None:
    """Forward pre-hook of a layer: let its gain follow the weight, until it trains.

    A forward without gradients is no training, but for a reentrant checkpoint's first.
    """
    if not (isinstance(layer, LoadsGain) and layer.training) or is_exporting():
        return
    with_gradients = torch.is_grad_enabled()
    if is_compiling():
        if layer._start is not None and with_gradients:
            torch.compiler.disable(begin_alone)(layer)
    elif with_gradients or _is_in_a_function():
        _settle(layer)


def begin_alone(layer: LoadsGain) -> None:
    """Training begins with this forward, and no gradient will come to say so.

    Under torch.compile this breaks the graph at each such layer, where nobody has taken care of
    the model before: who does (our hooks, EpsShift, NormFix) breaks it once, at the model. With
    `fullgraph=True`, make the first step or load a checkpoint before the model is compiled.

    Raises:
        Stopped: the weight has been initialized since g was set.
    """
    _settle(layer)
    layer._refuse_stale()
    layer._start = None


def _settle(layer: LoadsGain) -> None:
    """Not among several processes, where a layer cannot tell alone."""
    if settle_alone not in layer._forward_pre_hooks.values():
        return
    if torch._C._are_functorch_transforms_active():  # which let nothing be written
        return
    if torch.is_grad_enabled():
        remove_hook(layer, settle_alone)
    together = dist.is_available() and dist.is_initialized()
    if together and (dist.get_world_size() > 1 or _is_gathered()):
        return
    if layer.is_fresh():
        layer.settle_gain()


def _is_in_a_function() -> bool:
    """Whether this runs in the forward of an autograd function, as reentrant checkpoints do."""
    context = torch.autograd.function.FunctionCtx
    return any(isinstance(first, context) for first in _callers("forward"))


def _is_gathered() -> bool:
    """Whether this runs in an FSDP2 module, whose whole parameters live for this forward only."""
    modules = (type(first).__mro__ for first in _callers("_call_impl"))
    return any(kind.__name__ == "FSDPModule" for kinds in modules for kind in kinds)


def _callers(name: str) -> Iterator[Any]:
    """The first argument of each call of this name that this runs in."""
    frame = sys._getframe(1).f_back
    while frame is not None:
        code = frame.f_code
        if code.co_name == name and code.co_argcount:
            yield frame.f_locals.get(code.co_varnames[0])
        frame = frame.f_back


def is_exporting() -> bool:
    """Whether a program is written that will run elsewhere: torch.jit.trace, torch.export."""
    return torch.jit.is_tracing() or torch_versions.is_exporting()


def is_batched(tensor: Tensor) -> bool:
    """Whether vmap has made one tensor of many, under whatever other transforms."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def remove_hook(module: nn.Module, hook: Callable) -> None:
    """Take a forward pre-hook out, whoever registered it."""
    for key in [k for k, present in module._forward_pre_hooks.items() if present is hook]:
        del module._forward_pre_hooks[key]


def stale(name: str) -> Stopped:
    """What a layer of this class says before it is trained with a wrong gain."""
    return Stopped(
        f"{name}: the weight was initialized after its gain g was set to ||W||, so g is stale; "
        "call normfix_mm.reset_gains(model) after initializing the weights, or put "
        "dict(type='WeightTableHook') into a config's custom_hooks."
    )


class NoteTraining(torch.autograd.Function):
    """The identity; the first gradient through it says that the layer is being trained."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, layer: LoadsGain, too_late: bool) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        ctx.layer, ctx.too_late = inputs[1:]

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None, None]:
        if ctx.too_late:
            raise stale(type(ctx.layer).__name__)
        ctx.layer._start = None
        return grad, None, None

    @staticmethod
    def jvp(ctx, tangent: Tensor, *_) -> Tensor:
        return tangent.view_as(tangent)
