"""Stock modules with normalized layers: what every backbone and head of ours is made of.

A class of ours is a name, a stock parent and the rules by which its layers are normalized once the
parent has built them. Parameter names stay the parent's (plus gains ``g``), so that its checkpoints
load, and a folded model is the parent again: ``stock`` and ``own_options`` say how to get there.
"""

from __future__ import annotations

import inspect

from mmcv.cnn import ConvModule
from torch import nn

from normfix_mm.core.swap import is_plain, normalize_layers


class Normalized:
    """Mixin before a stock class; a subclass gives :meth:`rules`.

    Attributes:
        stock: The class that this one extends.
        own_options: The constructor's arguments that ``stock`` does not have: those of ``rules``.
    """

    stock: type
    own_options: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        cls.stock = next(c for c in cls.__mro__ if not issubclass(c, Normalized))
        cls.own_options = tuple(inspect.signature(cls.rules).parameters)[1:]

    def __init__(self, *args, **kwargs) -> None:
        options = {name: kwargs.pop(name) for name in self.own_options if name in kwargs}
        super().__init__(*args, **kwargs)
        normalize_layers(self, self.rules(**options))

    def rules(self) -> dict | list[dict]:
        """Rules of :func:`normfix_mm.normalize_layers` for the layers that the parent has built."""
        raise NotImplementedError


class WeightNormalized(Normalized):
    """Mixin: weight normalization with gain on every layer that has no norm behind it."""

    def rules(self) -> list[dict]:
        return weight_normalization(self)


class FixNorm(Normalized):
    """Mixin for heads: FixNorm's classifier, and what it needs to be trained with fixed norms.

    ``classifier``, the name of the classification layer, becomes FixNorm-Conv (eq. 29) or
    FixNorm-FC (eq. 10), whose gain is at most alpha * sqrt(outputs). Outputs are the rows of its
    weight: anchors times classes of a sigmoid head; classes and background of a softmax head.
    Every other layer without a norm behind it is weight-normalized with gain: its function stays,
    and its norm may be fixed.
    """

    classifier: str

    def rules(self, alpha: float = 1.0) -> list[dict]:
        kind = "linear" if isinstance(getattr(self, self.classifier, None), nn.Linear) else "conv"
        classifier = dict(form="FixNorm", kind=kind, layers=f"^{self.classifier}$", alpha=alpha)
        return [classifier, *weight_normalization(self, but=self.classifier)]


def weight_normalization(module: nn.Module, but: str | None = None) -> list[dict]:
    """Rules that weight-normalize each plain layer without a norm behind it, except ``but``.

    A norm in training mode behind a convolution makes its weight scale-invariant already. Only
    ConvModules tell whether there is one; a layer that stands alone is taken to have none.
    Depthwise convolutions are no exception: a gain keeps their function.
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
            layers = dict(layers=f"^({'|'.join(names)})$", depthwise=True)
            rules.append(dict(form="WN", kind=kind) | layers | options)
    return rules
