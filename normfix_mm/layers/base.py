"""What all normalized layers share: how a plain layer becomes one, and its effective weight.

Everything else about a form is in the form's own file, what concerns the gain in `gain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import Tensor, nn

from normfix_mm.kernels.torch_versions import uncompiled
from normfix_mm.layers.once import once

# The mixin stands before nn.Conv2d and its like; only a type checker needs to be told.
if TYPE_CHECKING:
    _Layer = nn.Module
else:
    _Layer = object
L = TypeVar("L", bound=nn.Module)
_adopted = [0]


class NormalizedLayer(_Layer):
    """Mixin before `nn.Conv2d` and its like; a subclass gives `form`, its options, `_normalize`.

    `forward` is a function of the parameters and the input alone, and writes nothing.
    """

    form: str
    option_names: tuple[str, ...] = ()
    weight: Tensor

    @classmethod
    def adopt(cls, layer: L, **options: Any) -> L:
        """Turn a plain layer into this form in place: same object, parameters and hooks."""
        _adopted[0] += 1
        plain, made = layer.__class__, cast(Any, layer)
        made.__class__ = cls
        try:
            made._set_options(**options)
        except Exception:
            made.__class__ = plain
            raise
        return layer

    @uncompiled
    def normalized_weight(self) -> Tensor:
        """The effective weight, connected to the graph, in the weight's shape and dtype."""
        return once(self, self._normalize)

    def _normalize(self) -> Tensor:
        raise NotImplementedError

    def _set_options(self, **options: Any) -> None:
        for name, value in options.items():
            setattr(self, name, value)

    def extra_repr(self) -> str:
        options = "".join(f", {name}={getattr(self, name)}" for name in self.option_names)
        return super().extra_repr() + options


def adoptions() -> int:
    """How many layers this program has normalized in place."""
    return _adopted[0]
