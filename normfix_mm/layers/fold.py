"""From normalized layers back to plain ones: the same outputs, no normalization left to compute.

After folding, a model is made of stock `nn.Conv2d`, `nn.ConvTranspose2d` and `nn.Linear` only: its
state dict loads strictly into the stock model, and what assumes that a convolution uses its
`weight` as it stands (fusing a BN into it, merging an adapter as LoRA's, quantization, export) is
right again. Fusing a BN or merging an adapter into an unfolded layer is silently wrong: fold first.

mmcv's ConvWS and ConvAWS fold as well; they are known by name, since the core does without mmcv.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from normfix_mm.errors import one_line
from normfix_mm.layers import functional
from normfix_mm.layers.bypassed import bypass
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.layers.gain_alone import remove_hook, settle_alone
from normfix_mm.layers.plain import PLAIN, is_mmcv_form, is_normalized, mmcv_form, weight_obstacle


@torch.no_grad()
def fold(module: nn.Module) -> nn.Module:
    """A deep copy in which every normalized layer is plain: one of `PLAIN`.

    Works on a model, on a part of one, or on a single layer. The copy keeps names, hooks, modes,
    devices, dtypes and `requires_grad`; a layer used in several places stays one layer; the gains
    `g` are gone, as they are in the weights now. Layers that share their weight keep sharing it if
    they normalize it alike; otherwise each gets its own.

    Returns:
        A new module whose outputs equal those of `module` to rounding.

    Raises:
        TypeError: a normalized layer that extends none of the three, that has a forward of its own
            besides (which folding would drop), whose weight or gain is pruned or parametrized, or
            whose weight is used past the layer's forward; a module that cannot be copied.
    """
    for name, original in module.named_modules():
        if is_normalized(original):
            _refuse(name, original, _own_forward(original) or bypass(module, name))
    try:
        module = copy.deepcopy(module)
    except Exception as error:  # a pruned layer, for one, in whatever part of the model
        raise TypeError(
            f"fold: the {type(module).__name__} cannot be copied ({one_line(error, 160)}); remove "
            "pruning, weight_norm and spectral_norm first, or fold the other parts of the model."
        ) from None
    folded: dict[nn.Parameter, list[nn.Parameter]] = {}
    layers: list[Any] = list(module.modules())
    for layer in layers:
        effective = _effective_weight(layer)
        if effective is not None:
            twins = folded.setdefault(layer.weight, [])
            weight = next((w for w in twins if torch.equal(w, effective)), None)
            if weight is None:
                data = torch.empty_like(layer.weight).copy_(effective)  # keeps the memory format
                weight = nn.Parameter(data, layer.weight.requires_grad)
                twins.append(weight)
            _become_plain(layer, weight)
    return module


def effective_weight(layer: Any) -> Tensor:
    """The weight that a layer applies, plain or normalized."""
    effective = _effective_weight(layer)
    return layer.weight if effective is None else effective


def _effective_weight(layer: Any) -> Tensor | None:
    """The weight the layer really applies, or None if that is its `weight`."""
    if hasattr(layer, "normalized_weight"):
        return layer.normalized_weight()
    form = mmcv_form(layer)
    if form == "WS":
        return functional.standardize(layer.weight, layer.eps)
    return _adaptively_standardized(layer) if form == "AWS" else None


def _own_forward(layer: nn.Module) -> str | None:
    """Why a layer does more than the class of ours, or of mmcv's, that it extends, or None."""
    ours = next(c for c in type(layer).__mro__ if _is_known(c))
    for method in ("forward", "_conv_forward", "__call__"):
        own = method in layer.__dict__
        if own or getattr(type(layer), method, 0) != getattr(ours, method, 0):
            return f"has a {method} of its own, which would be lost"
    if isinstance(layer, GainedLayer) and "g" not in layer._parameters:
        return "has a gain that is computed (by pruning or a parametrization; remove that first)"
    return weight_obstacle(layer)


def _refuse(name: str, layer: nn.Module, reason: str | None) -> None:
    if reason:
        raise TypeError(
            f"fold: layer {name or type(layer).__name__!r}, a {type(layer).__name__}, {reason}; "
            "fold the other parts of the model."
        )


def _is_known(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "normfix_mm" or is_mmcv_form(kind)


def _adaptively_standardized(layer: Any) -> Tensor:
    """mmcv's ConvAWS2d: gamma (w_f - mu) / sqrt(s^2 + 1e-5) + beta, with unbiased s."""
    rows = layer.weight.flatten(1)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    centered = rows - rows.mean(dim=1, keepdim=True)
    scaled = centered / (rows.var(dim=1, keepdim=True) + 1e-5).sqrt()
    return layer.weight_gamma * scaled.view_as(layer.weight) + layer.weight_beta


def _become_plain(layer: nn.Module, weight: nn.Parameter) -> None:
    """Change the class in place, so that every reference to the layer and every hook stays."""
    plain = next((cls for cls in PLAIN if isinstance(layer, cls)), None)
    if plain is None:
        raise TypeError(
            f"fold knows {', '.join(f'nn.{cls.__name__}' for cls in PLAIN)} layers, not "
            f"{type(layer).__name__}; give the layer one of them as a base class, or fold the "
            "other parts of the model."
        )
    for name in (*getattr(layer, "option_names", ()), "eps", "_start"):
        layer.__dict__.pop(name, None)
    layer._parameters.pop("g", None)
    remove_hook(layer, settle_alone)
    for name in ("weight_gamma", "weight_beta"):
        layer._buffers.pop(name, None)
    layer.__class__ = plain
    layer.weight = weight
