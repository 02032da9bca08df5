"""Normalized layers in a built model: the one mechanism, for backbones and heads alike.

A selected layer changes its class in place. The module object, its parameters, their names, hooks
and every reference to it stay, so stock checkpoints load and initializers find what they look for.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from normfix_mm.errors import listing
from normfix_mm.layers.base import NormalizedLayer
from normfix_mm.layers.bypassed import bypass, wrapper
from normfix_mm.layers.fixnorm import FixNormConv2d, FixNormLinear
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.layers.options import truth
from normfix_mm.layers.plain import is_normalized, obstacle
from normfix_mm.layers.standardized import CWNConv2d, WSConv2d
from normfix_mm.layers.weight_norm import (
    WNConv2d,
    WNConvTranspose2d,
    WNLinear,
    WNPointwiseConv2d,
)

_TWINS: dict[tuple[str, str], type[NormalizedLayer]] = {
    ("WS", "conv"): WSConv2d,
    ("WN", "conv"): WNConv2d,
    ("CWN", "conv"): CWNConv2d,
    ("FixNorm", "conv"): FixNormConv2d,
    ("WN", "linear"): WNLinear,
    ("WN", "deconv"): WNConvTranspose2d,
    ("WN", "se"): WNPointwiseConv2d,
    ("FixNorm", "linear"): FixNormLinear,
}
_STOCK: dict[str, type[nn.Module]] = {
    "conv": nn.Conv2d,
    "linear": nn.Linear,
    "deconv": nn.ConvTranspose2d,
    "se": nn.Conv2d,
}
_RULE_OPTIONS = {"form", "layers", "exclude", "kind", "depthwise"}
# A grouped filter with fewer weights has too few to take statistics of; ResNeXt-32x4d has 36.
_THIN_FAN_IN = 32
# Squeeze-and-excitation blocks as OpenMMLab, timm and torchvision call them.
_SQUEEZES = {"SELayer", "SEModule", "SqueezeExcite", "SqueezeExcitation"}


def normalize_layers(module: nn.Module, rules: Mapping | Sequence[Mapping]) -> nn.Module:
    """Turn selected layers of `module` into their normalized twins, in place.

    Args:
        module: any built module.
        rules: one rule or several, each a dict with
            form: 'WS', 'WN', 'CWN' or 'FixNorm'.
            kind: 'conv' (default), 'linear', 'deconv' (transposed convolution), or 'se': the fully
                connected layers of squeeze-and-excitation blocks, where those are convolutions.
            layers: regular expression searched in the layers' names; all layers by default.
            exclude: regular expression of layers to leave plain.
            depthwise: also take depthwise convolutions, grouped 1×1 convolutions (ShuffleNetV1's),
                and other grouped ones whose fan-in is below 32. They stay plain by default:
                standardizing them costs accuracy (MobileNetV2 73.17 to 69.74, section 6.7 and
                Table IX of the ε-shift paper). ResNeXt's grouped 3×3 convolutions are taken.
            and the options of the layer: eps, gain, alpha.
            No norm stands behind a squeeze-and-excitation layer, and it is fully connected: WN with
            a gain takes it with one gain for the whole layer (FixNorm, appendix A.3), whatever form
            has no gain leaves it plain.
            A convolution inside another weighted layer, which predicts a deformable convolution's
            offsets, and one that starts at zero, as the last of a context block, stay plain without
            a gain: what they put out would lose its size.

    Returns:
        The same module.

    Raises:
        ValueError: unknown form, kind or option; a rule, or its `exclude`, that matches nothing;
            two rules on one layer; a layer that is not plain (a subclass with a forward of its own,
            a weight that is pruned or parametrized), that shares its weight, or whose weight a
            module around it uses past its forward. Nothing is changed then.
    """
    plan: dict[str, tuple] = {}
    several = isinstance(rules, Sequence) and not isinstance(rules, str)
    each: Any = rules if several else [rules]
    for rule in each:
        twin, options = _read(rule)
        gained = issubclass(twin, GainedLayer) and options.get("gain", True)
        for name in _select(module, rule, gained):
            if name in plan:
                raise ValueError(
                    f"Two rules match layer {name!r}, the second is {dict(rule)}; narrow one of "
                    "them with `layers` or `exclude`."
                )
            plan[name] = twin, options
            if twin is WNConv2d and _is_squeeze(module, name):
                one_gain = {key: value for key, value in options.items() if key != "gain"}
                plan[name] = WNPointwiseConv2d, one_gain
    if any(issubclass(twin, GainedLayer) for twin, _ in plan.values()):
        _refuse_replicas(module)
    _refuse_ties(module, plan)
    layers = dict(module.named_modules())
    for name, (twin, options) in plan.items():
        twin.adopt(layers[name], **options)
    return module


def _read(rule: Mapping) -> tuple[type[NormalizedLayer], dict]:
    if not isinstance(rule, Mapping):
        raise ValueError(f"The rule {rule!r} is no dictionary; write dict(form='WN'), for example.")
    for option in ("layers", "exclude"):
        _check_pattern(rule, option)
    truth("depthwise", rule.get("depthwise", False))
    key = rule.get("form"), rule.get("kind", "conv")
    if key not in _TWINS:
        forms = ", ".join(f"{form} ({kind})" for form, kind in _TWINS)
        raise ValueError(f"No layer of form {key[0]!r} and kind {key[1]!r}; there are: {forms}.")
    twin = _TWINS[key]
    options = {name: value for name, value in rule.items() if name not in _RULE_OPTIONS}
    unknown = set(options) - set(twin.option_names)
    if unknown:
        known = sorted(_RULE_OPTIONS | set(twin.option_names))
        raise ValueError(
            f"Unknown option {sorted(unknown)[0]!r} in the rule {dict(rule)}; known: {known}."
        )
    with torch.device("meta"):  # an invalid value shows before anything is changed
        twin.adopt(_STOCK[key[1]](1, 1, 1), **options)
    return twin, options


def _check_pattern(rule: Mapping, option: str) -> None:
    pattern = rule.get(option, "")
    try:
        re.compile(pattern or "")
    except (re.error, TypeError) as error:
        raise ValueError(
            f"{option}={pattern!r} of the rule {dict(rule)} is no regular expression ({error}); "
            "join several names with |."
        ) from None


def _select(module: nn.Module, rule: Mapping, gained: bool) -> list[str]:
    kind, exclude = rule.get("kind", "conv"), rule.get("exclude")
    stock = _STOCK[kind]
    candidates: dict[str, nn.Module] = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, stock) and not is_normalized(layer)
    }
    if exclude and not any(re.search(exclude, name) for name in candidates):
        raise ValueError(
            f"The rule {dict(rule)} excludes nothing: its pattern {exclude!r} matches none of "
            f"{listing(candidates)}."
        )
    if kind == "se":
        candidates = {n: layer for n, layer in candidates.items() if _is_squeeze(module, n)}
    chosen = [
        name
        for name, layer in candidates.items()
        if re.search(rule.get("layers") or "", name)
        and not (exclude and re.search(exclude, name))
        and (gained or not (_is_inner(module, name) or _is_squeeze(module, name)))
    ]
    for name in chosen:
        reason = obstacle(candidates[name], stock)
        reason = reason or bypass(module, name) or wrapper(module, name)
        if reason:
            raise ValueError(
                f"The rule {dict(rule)} matches layer {name!r}, which {reason}; leave it out with "
                "`exclude`."
            )
    depthwise = rule.get("depthwise", False)
    chosen = [
        name
        for name in chosen
        if (depthwise or not _is_thin(candidates[name]))
        and (gained or _starts_anywhere(candidates[name]))
    ]
    if not chosen:
        done = sum(isinstance(m, stock) and is_normalized(m) for m in module.modules())
        already = f"; {done} such layers are normalized already (by conv_cfg?)" if done else ""
        raise ValueError(
            f"The rule {dict(rule)} matches no plain layer; candidates: "
            f"{listing(candidates)}{already}."
        )
    return chosen


def _refuse_replicas(module: nn.Module) -> None:
    """Raise for a model whose gains, added now, nobody would synchronize."""
    for part in module.modules():
        if isinstance(part, DistributedDataParallel):
            raise ValueError(
                "The model is in a DistributedDataParallel, which would not synchronize the gains "
                "that its layers get now; normalize its layers first and wrap it afterwards."
            )


def _refuse_ties(module: nn.Module, plan: Mapping[str, tuple]) -> None:
    """Raise for a weight that another layer would go on using in another form."""
    layers = dict(module.named_modules())
    uses: dict[nn.Parameter, list[tuple[str, str]]] = {}
    for name, layer in layers.items():
        for short, param in layer._parameters.items():
            if param is not None:
                uses.setdefault(param, []).append((name, short))
    for name, (twin, _) in plan.items():
        for other, short in uses[layers[name].weight]:
            if short != "weight" or plan.get(other, (None,))[0] is not twin:
                shared = other if short == "weight" else f"{other}.{short}".removeprefix(".")
                raise ValueError(
                    f"Layer {name!r} shares its weight with {shared!r}, which would not be "
                    "normalized alike; select both with one rule, or leave both out with `exclude`."
                )


def _starts_anywhere(layer: Any) -> bool:
    """Whether the weight has a direction; one that is zero has none, and its size is learned."""
    return layer.weight.is_meta or bool(layer.weight.detach().any())


def _is_thin(layer: Any) -> bool:
    """Whether the layer is grouped and its filters see too little, one by one, to be normalized.

    Of the networks of the ε-shift paper ResNeXt's grouped convolutions are standardized (from 36
    weights a filter), ShuffleNetV1's are not (from 12 to 192). What tells them apart is not a
    number: the latter are 1×1 and see each channel of their group through one weight.
    """
    if getattr(layer, "groups", 1) == 1:
        return False
    pointwise = layer.weight[0, 0].numel() == 1
    return pointwise or layer.groups == layer.in_channels or layer.weight[0].numel() < _THIN_FAN_IN


def _is_inner(module: nn.Module, name: str) -> bool:
    parent = module.get_submodule(name.rpartition(".")[0])
    return name != "" and parent._parameters.get("weight") is not None


def _is_squeeze(module: nn.Module, name: str) -> bool:
    """Whether the layer is inside a squeeze-and-excitation block (in OpenMMLab two levels deep)."""
    parts = name.split(".")
    outer = (module.get_submodule(".".join(parts[:depth])) for depth in range(len(parts)))
    return any(type(each).__name__ in _SQUEEZES for each in outer)
