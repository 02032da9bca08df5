"""Layers whose weight is used past their own forward, so that normalizing it would be lost there.

Attention blocks multiply by `self.qkv.weight` themselves (BEiT, Swin), torch's encoder layer has a
fast path in evaluation that hands `self.linear1.weight` to a kernel, and wrappers that adapt a
layer (LoRA) have its weight as their own, to merge into it. What the class's `forward` reads is in
its code, and in that of the methods and functions it names; it is looked up there, since the layer
itself cannot tell. `self.qkv.weight` names its layer, also by way of a variable; of
`self.layers[i].weight` only the module is known that it belongs to, so that it holds for each layer
that this module has as its own, directly or in lists.
"""

from __future__ import annotations

import dis
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from normfix_mm.errors import BadInput
from normfix_mm.layers.base import NormalizedLayer

# Asking a weight what it is does not use it.
_QUESTIONS = {"device", "dtype", "requires_grad", "shape", "size", "dim", "ndim", "numel", "grad"}
_QUESTIONS |= {"is_cuda", "is_floating_point", "new_empty", "new_full", "new_ones", "new_tensor"}
_QUESTIONS |= {"new_zeros"}
# What multiplies by a weight. Norms, losses and much else have a `weight`, too: where the code does
# not name the layer, only beside one of these (or @) it is taken for a layer's.
_PRODUCTS = {"conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "_conv_forward"}
_PRODUCTS |= {"linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "einsum", "functional_call"}
_PRODUCTS |= {"multi_head_attention_forward"}
_SOME = "?"  # a layer that the code does not name
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def bypass(module: nn.Module, name: str) -> str | None:
    """Why normalizing layer `name` would be lost on a module around it, or None."""
    for owner, inner in _owners(module, name):
        kind: Any = type(owner)
        read = _weights_read(kind)
        if inner in read or (_SOME in read and _is_own(owner, inner)):
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


def _is_own(owner: nn.Module, inner: str) -> bool:
    """Whether a layer is the module's own, directly or in lists, and no other module's."""
    outer = [owner.get_submodule(inner[: dot.start()]) for dot in re.finditer(r"\.", inner)]
    return all(type(each) in _CONTAINERS for each in outer)


def _full_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


@cache
def _weights_read(kind: Any) -> set[str]:
    """The layers whose weight a method named forward… reads, or what it calls of its module.

    As 'qkv' of `self.qkv.weight`; `_SOME` where the code does not name the layer.
    """
    found: set[str] = set()
    names, seen = [name for name in dir(kind) if "forward" in name], set(dir(nn.Module))
    seen.discard("forward")
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        method = inspect.getattr_static(kind, name, None)
        function = _code_of(method)
        if function is None:
            continue
        code = function.__code__
        bound = code.co_varnames[:1] if not isinstance(method, staticmethod) else ()
        found |= _reads(code, {myself: () for myself in bound})
        names += [each for each in _names(code, "LOAD_ATTR", "LOAD_METHOD") if hasattr(kind, each)]
        for each in _globals(code, function.__globals__):
            if isinstance(each, FunctionType) and not each.__module__.startswith("torch"):
                found |= _reads(inspect.unwrap(each).__code__, {})  # at most the weight of some
    return found


def _code_of(method: Any) -> FunctionType | None:
    """The function behind a method or a property, also where it is decorated."""
    method = method.fget if isinstance(method, property) else method
    method = getattr(method, "__func__", method)
    function = inspect.unwrap(method) if callable(method) else None
    return function if isinstance(function, FunctionType) else None


def _inner_codes(code: CodeType) -> Iterator[CodeType]:
    return (const for const in code.co_consts if isinstance(const, CodeType))


def _names(code: CodeType, *operations: str) -> set[str]:
    """What some code, and the functions that it defines, loads by these operations."""
    names = {step.argval for step in dis.get_instructions(code) if step.opname in operations}
    return names.union(*(_names(each, *operations) for each in _inner_codes(code)))


def _globals(code: CodeType, names: Mapping[str, Any]) -> Iterator[Any]:
    """What some code, and the functions that it defines, takes from outside: `f`, `module.f`."""
    found: Any = None
    for step in dis.get_instructions(code):
        if step.opname == "LOAD_GLOBAL":
            found = names.get(step.argval)
        elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(found, ModuleType):
            found = getattr(found, step.argval, None)
        elif step.opname not in ("CACHE", "EXTENDED_ARG"):
            found = None
        if found is not None and not isinstance(found, ModuleType):
            yield found
            found = None
    for each in _inner_codes(code):
        yield from _globals(each, names)


_Path = tuple[str, ...]


def _reads(code: CodeType, known: Mapping[str, _Path]) -> set[str]:
    """Each x.y of the `self.x.y.weight` in some code and in the functions that it defines.

    Args:
        known: variables, and where from the module that is theirs: ('x', 'y') for `self.x.y`.
    """
    found: set[str] = set()
    variables = dict(known)
    path: _Path = (_SOME,)
    multiplies = not _PRODUCTS.isdisjoint(code.co_names)

    def use(path: _Path) -> None:
        if path[-1:] == ("weight",) and len(path) > 1:
            found.add(_SOME if path[0] == _SOME else ".".join(path[:-1]))

    steps = [s for s in dis.get_instructions(code) if s.opname not in ("CACHE", "EXTENDED_ARG")]
    for step, following in zip(steps, [*steps[1:], steps[-1]]):
        multiplies |= step.argrepr in ("@", "@=") or "MATRIX_MULTIPLY" in step.opname
        if step.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            if path[-1:] != ("weight",):
                path = (*path, step.argval)
                continue
            if step.argval in _QUESTIONS:
                path = (_SOME,)
        if following.opname == "IS_OP" or step.opname.endswith(("IF_NONE", "IF_NOT_NONE")):
            path = (_SOME,)  # whether there is a weight
        # New versions of Python load or store two variables by one instruction.
        names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
        actions = re.findall(r"(LOAD|STORE)_(?:FAST|DEREF)", step.opname)
        for action, name in zip(actions, names):
            if action == "STORE":  # pytest keeps what it has asserted in variables like '@py_1'
                variables[name] = path if name.isidentifier() else (_SOME,)
                path = (_SOME,)
            else:
                use(path)
                path = variables.get(name, (_SOME,))
        if not actions:
            use(path)
            path = (_SOME,)
    if not multiplies:
        found.discard(_SOME)
    for each in _inner_codes(code):
        found |= _reads(each, {n: variables[n] for n in each.co_freevars if n in variables})
    return found
