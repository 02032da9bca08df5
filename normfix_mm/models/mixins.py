"""Stock modules with normalized layers: what every backbone and head of ours is made of.

A class of ours is a name, a mixin and a stock parent; the mixin normalizes layers once the parent
has built them. Parameter names stay the parent's (plus gains ``g``), so that its checkpoints
load, and a folded model is the parent again: ``stock`` and ``own_options`` say how to get there.
"""

from __future__ import annotations

import re

from mmcv.cnn import ConvModule
from torch import nn

from normfix_mm.errors import BadInput
from normfix_mm.layers.gain import gained_layers
from normfix_mm.layers.normalize_layers import normalize_layers
from normfix_mm.layers.once import once_a_forward
from normfix_mm.layers.plain import is_normalized, is_plain
from normfix_mm.typed import invocation


class Normalized:
    """Mixin before a stock class, whose constructor normalizes layers of what the parent has built.

    Attributes:
        stock: The class that this one extends.
        own_options: The constructor's arguments that ``stock`` does not have.
    """

    stock: type
    own_options: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls.stock = next(c for c in cls.__mro__ if not issubclass(c, Normalized))
        if hasattr(cls.stock, "switch_to_deploy"):
            cls.switch_to_deploy = _switch_to_deploy

    def init_weights(self) -> None:
        """The parent's initialization; gains that it has not loaded follow the new weights."""
        super().init_weights()
        for layer in gained_layers(self).values():
            if layer.is_fresh():
                layer.settle_gain()

    def forward(self, *args, **kwargs):
        """The parent's; a layer that it uses several times normalizes its weight once."""
        with once_a_forward():
            return super().forward(*args, **kwargs)


def _switch_to_deploy(self, *args, **kwargs):
    """The parent's, which merges branches and norms (RepVGG, MobileOne): of plain layers only.

    Raises:
        BadInput: A layer is normalized, and merging would take its raw weight.
    """
    normalized = [name for name, module in self.named_modules() if is_normalized(module)]
    if normalized:
        raise BadInput(
            f"{type(self).__name__} cannot be switched to deployment, which merges weights as they "
            f"stand, while {len(normalized)} of its layers normalize theirs (first "
            f"{normalized[0]!r}): fold the model first (normfix_mm.fold, {invocation('fold')})."
        )
    return self.stock.switch_to_deploy(self, *args, **kwargs)


class WeightNormalized(Normalized):
    """Mixin: weight normalization with gain on every layer that has no norm behind it."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        normalize_layers(self, weight_normalization(self))


class FixNorm(Normalized):
    """Mixin for heads: FixNorm's classifier, and what it needs to be trained with fixed norms.

    ``classifier``, the name of the classification layer, becomes FixNorm-Conv (eq. 29) or
    FixNorm-FC (eq. 10), whose gain is at most alpha * sqrt(outputs). Outputs are the rows of its
    weight: anchors times classes of a sigmoid head; classes and background of a softmax head.
    Every other layer without a norm behind it is weight-normalized with gain: its function stays,
    and its norm may be fixed.

    Args:
        alpha: The bound α of the classifier's gain.
        gain_start: Where the classifier's gain starts if it is not loaded: 'weight', 'cap' or a
            number.
        *args, **kwargs: The stock head's.
    """

    classifier: str
    own_options = ("alpha", "gain_start")

    def __init__(
        self, *args, alpha: float = 1.0, gain_start: str | float = "weight", **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        rules = weight_normalization(self, but=self.classifier)
        layer = getattr(self, self.classifier, None)
        if layer is not None:
            kinds = {"linear": nn.Linear, "conv": nn.Conv2d}
            kind = next((k for k, stock in kinds.items() if is_plain(layer, stock)), None)
            if kind is None:
                raise ValueError(
                    f"{type(self).__name__}: the classifier {self.classifier!r} is a "
                    f"{type(layer).__name__}; FixNorm bounds the gain of a plain convolution or "
                    "linear layer: take the head's usual classifier (cls_predictor_cfg="
                    "dict(type='Linear')), or the stock head."
                )
            rules.append(
                dict(form="FixNorm", kind=kind, layers=f"^{re.escape(self.classifier)}$")
                | dict(alpha=alpha, gain_start=gain_start)
            )
        elif getattr(self, "with_cls", True):
            raise ValueError(
                f"{type(self).__name__}: the head has no layer {self.classifier!r}; correct the "
                "class's `classifier`."
            )
        if rules:
            normalize_layers(self, rules)


def weight_normalization(module: nn.Module, but: str | None = None) -> list[dict]:
    """Rules that weight-normalize each plain layer without a norm behind it, except ``but``.

    A norm in training mode behind a convolution makes its weight scale-invariant already. Only
    ConvModules tell whether there is one; a layer that stands alone is taken to have none.
    """
    normed = {
        id(m.conv)
        for m in module.modules()
        if isinstance(m, ConvModule)
        and m.with_norm
        and m.order.index("norm") > m.order.index("conv")
    }
    kinds = {nn.Conv2d: dict(gain=True), nn.Linear: {}, nn.ConvTranspose2d: {}}
    rules = []
    for (stock, options), kind in zip(kinds.items(), ("conv", "linear", "deconv")):
        names = [
            name
            for name, layer in module.named_modules()
            if name != but and id(layer) not in normed and is_plain(layer, stock)
        ]
        if names:
            layers = f"^({'|'.join(map(re.escape, names))})$"
            rules.append(dict(form="WN", kind=kind, layers=layers, depthwise=True) | options)
    return rules
