"""What all normalized layers share: how a plain layer becomes one, and its effective weight.

A frozen layer normalizes its weight once. Everything else about a form is in `layers`, what
concerns the gain in `gains`.
"""

import torch
from torch import Tensor, nn


class NormalizedLayer:
    """Mixin before `nn.Conv2d` and its like; a subclass gives `form`, its options, `_normalize`."""

    form: str
    option_names: tuple[str, ...] = ()
    # The effective weight of a frozen layer with what it was computed from; False: never kept.
    _kept: tuple | bool | None = None

    @classmethod
    def adopt(cls, layer: nn.Module, **options) -> nn.Module:
        """Turn a plain layer into this form in place: same object, parameters and hooks."""
        plain = layer.__class__
        layer.__class__ = cls
        try:
            layer._set_options(**options)
        except Exception:
            layer.__class__ = plain
            raise
        return layer

    def normalized_weight(self) -> Tensor:
        """The effective weight, connected to the graph, in the weight's shape and dtype.

        A frozen layer computes it once, and again when its parameters have changed. What is written
        into them through `.data` is not seen. An EMA does that to its copy, and to a weight that
        has once trained; hence copies, and layers that were frozen later, keep nothing.
        """
        if self._kept is False or torch.compiler.is_compiling():
            return self._normalize()
        if self._trains():
            self._kept = False if torch.is_grad_enabled() else None
            return self._normalize()
        key = self._inputs_now()
        if self._kept is None or self._kept[0] != key:
            effective = self._normalize()
            if effective.is_inference():  # of no use to a later backward pass
                return effective
            # A first use may still settle the gain: the key is taken anew. With the parameters and
            # their memory held, no other tensor can have their ids and addresses.
            held = [(p, p.detach()) for p in self._own()]
            self._kept = self._inputs_now(), effective, held
        return self._kept[1]

    def _normalize(self) -> Tensor:
        raise NotImplementedError

    def _own(self) -> list[nn.Parameter]:
        return [p for p in (self.weight, getattr(self, "g", None)) if p is not None]

    def _trains(self) -> bool:
        return any(p.requires_grad for p in self._own())

    def _inputs_now(self) -> list[tuple]:
        options = [(name, getattr(self, name)) for name in self.option_names]
        return options + [(id(p), p._version, p.data_ptr(), p.dtype) for p in self._own()]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kept": False}

    def _set_options(self, **options) -> None:
        for name, value in options.items():
            setattr(self, name, value)

    def extra_repr(self) -> str:
        options = "".join(f", {name}={getattr(self, name)}" for name in self.option_names)
        return super().extra_repr() + options
