"""A plain network with BN into one with weight standardization: what can be kept of its function.

WS applies (w_f - mu_f)/d_f with d_f = s_f + eps to a convolution that was trained with w_f. The
division is absorbed by the BN behind it:

    mean' = mean / d    var' = var / d^2    gamma' = gamma sqrt((var' + e) / (var' + e/d^2))

(e: BN's eps), exactly in evaluation mode. In training mode BN takes the batch's own mean and
variance, of which any positive factor drops out but for e; gamma' corrects e where the batch's
variance is the running one. The subtraction of mu_f is not absorbed: it takes mu_f times the sum of
the input under the filter from the output, and that sum is no constant. Its size is reported as the
share n mu_f^2 / ||w_f||^2 of the layer's energy. Derived here; no source.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from normfix_mm.errors import BadInput
from normfix_mm.layers.standardized import WSConv2d

# Where mmdet and mmcv put the norm of a convolution.
_NORM_OF = (
    (r"(.*?)conv(\d+)", r"\1bn\2"),  # conv1, layer1.0.conv2
    (r"(.*?)conv", r"\1bn"),  # ConvModule
)


def norm_behind(model: nn.Module, name: str) -> str | None:
    """Name of the BN behind the convolution `name`, by the names of mmdet and mmcv."""
    candidates = [
        match.expand(template)
        for pattern, template in _NORM_OF
        if (match := re.fullmatch(pattern, name))
    ]
    parent, _, index = name.rpartition(".")
    if index.isdigit():  # nn.Sequential: stem.3, downsample.0
        candidates.append(f"{parent}.{int(index) + 1}".removeprefix("."))
    modules = dict(model.named_modules())
    filters = modules[name].weight.shape[0]
    for candidate in candidates:
        norm = modules.get(candidate)
        if isinstance(norm, _BatchNorm) and norm.num_features == filters:
            return candidate
    return None


@torch.no_grad()
def absorb(
    state: Mapping[str, Tensor], model: nn.Module, names: list[str]
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Rescale the norms behind the convolutions of these weights for WS.

    Args:
        state: weights of a plain network, with the names of `model`.
        model: holds a WSConv2d for each of `names`.
        names: weights, with their ".weight".

    Returns:
        The state dict with changed norms (and biases of the convolutions; their weights stay), and
        for each convolution the share of its energy that lies in the filters' means.

    Raises:
        BadInput: A convolution has no BN behind it, or a norm has several in front.
    """
    norms = {name: norm_behind(model, name.removesuffix(".weight")) for name in names}
    absent = [name for name, norm in norms.items() if f"{norm}.running_var" not in state]
    if absent or len(set(norms.values())) < len(norms):
        raise BadInput(
            f"{len(absent)} of {len(names)} WS convolutions have no BN of their own behind them "
            f"(first {absent[0] if absent else names[0]!r}), so nothing absorbs their "
            "standardization; narrow the model's `normalize` rule to those that have one."
        )
    changed, energy = dict(state), {}
    for name, norm in norms.items():
        layer = model.get_submodule(name.removesuffix(".weight"))
        divisor, energy[name] = _divisor(state[name], layer)
        bias = name.removesuffix("weight") + "bias"
        if bias in state:
            changed[bias] = _like(state[bias].double() / divisor, state[bias])
        _rescale(changed, state, norm, model.get_submodule(norm).eps, divisor)
    return changed, energy


def _divisor(weight: Tensor, layer: WSConv2d) -> tuple[Tensor, float]:
    """What WS divides each filter by, and the share of the layer's energy in the means."""
    rows = weight.double().flatten(1)
    mean, n = rows.mean(1), rows.shape[1]
    std = rows.std(1) if n > 1 else torch.zeros_like(mean)
    share = n * mean.square().sum() / rows.square().sum().clamp_min(1e-300)
    return std + layer.eps, float(share)


def _rescale(changed: dict, state: Mapping, norm: str, eps: float, divisor: Tensor) -> None:
    names = {kind: f"{norm}.{kind}" for kind in ("weight", "running_mean", "running_var")}
    mean, var = (state[names[kind]].double() for kind in ("running_mean", "running_var"))
    new_var = var / divisor.square()
    new = {"running_mean": mean / divisor, "running_var": new_var}
    if names["weight"] in state:
        gamma = state[names["weight"]].double()
        new["weight"] = gamma * ((new_var + eps) / (new_var + eps / divisor.square())).sqrt()
    for kind, value in new.items():
        changed[names[kind]] = _like(value, state[names[kind]])


def _like(value: Tensor, other: Tensor) -> Tensor:
    """In the other's type, but wide enough: half precision cannot hold many a var / d^2."""
    return value.to(torch.promote_types(other.dtype, torch.float32))
