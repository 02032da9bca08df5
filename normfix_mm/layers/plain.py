"""Which layers are plain: what `normalize_layers` may take, and `fold` may give back.

A layer may be taken only if all that it computes is its stock class's operation on its `weight` as
it stands. A subclass may compute anything: detection libraries have a `Conv2d` that runs its norm
and its activation itself.
"""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils import parametrize

from normfix_mm.layers.base import NormalizedLayer

PLAIN = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
# mmcv's wrappers of the same names, which take empty inputs in old versions of torch.
_WRAPPERS = "mmcv.cnn.bricks.wrappers"
# mmcv's own weight-standardized convolutions, known by name: pure torch does without mmcv.
MMCV_FORMS = {"ConvWS2d": "WS", "ConvAWS2d": "AWS"}

_DEFORMABLE = {
    ("DeformConv2d", "mmcv"),
    ("ModulatedDeformConv2d", "mmcv"),
    ("DeformConv2d", "torchvision"),
}


def is_plain(layer: nn.Module, stock: type) -> bool:
    """Whether the layer is exactly torch's class `stock`, or mmcv's wrapper of it."""
    kind = type(layer)
    wrapper = kind.__module__ == _WRAPPERS and kind.__bases__ == (stock,)
    return kind is stock or wrapper


def mmcv_form(layer: nn.Module) -> str | None:
    """'WS' or 'AWS' for mmcv's standardized convolutions and what extends them, else None."""
    kinds = (kind for kind in type(layer).__mro__ if is_mmcv_form(kind))
    return next((MMCV_FORMS[kind.__name__] for kind in kinds), None)


def is_mmcv_form(kind: type) -> bool:
    """Whether a class is mmcv's; others have standardized convolutions of the same names, which
    need not compute the same."""
    return kind.__name__ in MMCV_FORMS and kind.__module__.partition(".")[0] == "mmcv"


def is_deformable(layer: nn.Module) -> bool:
    """Whether the layer is a deformable convolution, of mmcv or torchvision, which extends none of
    torch's but scales with its weight as they do."""
    kinds = {(kind.__name__, kind.__module__.partition(".")[0]) for kind in type(layer).__mro__}
    return not kinds.isdisjoint(_DEFORMABLE)


def is_normalized(layer: nn.Module) -> bool:
    """Whether the layer normalizes its weight already."""
    return isinstance(layer, NormalizedLayer) or mmcv_form(layer) is not None


def obstacle(layer: nn.Module, stock: type) -> str | None:
    """Why this layer, an instance of `stock`, cannot be normalized in place; None if it can."""
    kind = type(layer)
    if not is_plain(layer, stock) and not parametrize.is_parametrized(layer):
        return f"is a {kind.__module__}.{kind.__qualname__}, which may compute something else"
    if "forward" in layer.__dict__:
        return "has a forward of its own"
    if hasattr(layer, "g"):
        return "has a g of its own, whose place a gain would take"
    return weight_obstacle(layer)


def weight_obstacle(layer: nn.Module) -> str | None:
    """Why the layer's weight cannot be replaced or normalized; None if it can."""
    weight = layer._parameters.get("weight")
    if parametrize.is_parametrized(layer) or weight is None:
        return (
            "has a weight that is computed (by pruning, a parametrization or torch's weight_norm; "
            "remove that first)"
        )
    if isinstance(weight, UninitializedParameter):
        return "has no weight yet (run the model once)"
    if not weight.is_floating_point():
        return f"has a weight of {weight.dtype}, which is not made of real numbers"
    return None
