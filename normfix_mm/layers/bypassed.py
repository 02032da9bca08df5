"""Layers whose weight is used past their own forward, so that normalizing it would be lost there.

Attention blocks multiply by `self.qkv.weight` themselves (BEiT, Swin), torch's encoder layer has a
fast path in evaluation that hands `self.linear1.weight` to a kernel, and wrappers that adapt a
layer (LoRA) have its weight as their own, to merge into it. What the class's `forward` reads is in
its code; it is looked up there, since the layer itself cannot tell.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn

from normfix_mm.errors import BadInput
from normfix_mm.layers.base import NormalizedLayer

# Asking a weight what it is does not use it.
_QUESTIONS = {"device", "dtype", "requires_grad", "shape", "size", "dim", "ndim", "numel"}


def bypass(module: nn.Module, name: str) -> str | None:
    """Why normalizing layer `name` would be lost on a module around it, or None."""
    for owner, inner in _owners(module, name):
        kind: Any = type(owner)
        if inner in _weights_read(kind):
            return f"is in a {_full_name(owner)}, whose forward uses its weight directly"
        # mmcv's ConvModule then multiplies the weight by that of a BN in evaluation mode.
        if inner == "conv" and getattr(owner, "efficient_conv_bn_eval_forward", None) is not None:
            return f"is in a {_full_name(owner)} with efficient_conv_bn_eval, which uses its weight"
    return None


def refuse_bypassed(model: nn.Module) -> None:
    """Raise BadInput for a normalized layer whose weight is used as it stands."""
    for name, layer in model.named_modules():
        reason = bypass(model, name) if isinstance(layer, NormalizedLayer) else None
        if reason:
            raise BadInput(
                f"Layer {name!r}, a {type(layer).__name__}, {reason} past its normalization: build "
                "this layer plain."
            )


def wrapper(module: nn.Module, name: str) -> str | None:
    """Why layer `name` belongs to a wrapper that adapts another layer, or None."""
    for owner, _ in _owners(module, name):
        weight = getattr(owner, "weight", None)
        if isinstance(weight, nn.Parameter) and "weight" not in owner._parameters:
            return (
                f"is in a {_full_name(owner)}, which has a layer's weight as its own and may merge "
                "into it"
            )
    return None


def _owners(module: nn.Module, name: str) -> Iterator[tuple[nn.Module, str]]:
    """The modules around a layer, and what each calls it."""
    parts = name.split(".") if name else []
    for depth in range(len(parts)):
        yield module.get_submodule(".".join(parts[:depth])), ".".join(parts[depth:])


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


@cache
def _weights_read(kind: Any) -> set[str]:
    """The layers whose weight a method named forward… reads, as 'qkv' of `self.qkv.weight`."""
    found: set[str] = set()
    for name in dir(kind):
        function = inspect.unwrap(getattr(kind, name)) if "forward" in name else None
        if isinstance(function, FunctionType) and function.__code__.co_varnames:
            found |= _reads(function.__code__, function.__code__.co_varnames[0])
    return found


def _reads(code: CodeType, myself: str) -> set[str]:
    """Each x.y of the `self.x.y.weight` in some code and in the functions that it defines."""
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    found = {name for each in inner for name in _reads(each, myself)}
    path: list[str] | None = None
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "EXTENDED_ARG"):
            continue
        attribute = step.argval if step.opname in ("LOAD_ATTR", "LOAD_METHOD") else None
        if path and path[-1] == "weight":
            if path[:-1] and attribute not in _QUESTIONS:
                found.add(".".join(path[:-1]))
            path = None
        if attribute is None:
            # New versions of Python load two variables by one instruction.
            last = step.argval[-1:] if isinstance(step.argval, tuple) else (step.argval,)
            is_variable = "FAST" in step.opname or "DEREF" in step.opname
            path = [] if is_variable and last == (myself,) else None
        elif path is not None:
            path.append(attribute)
    return found
