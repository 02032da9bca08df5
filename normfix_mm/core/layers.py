"""Convolutions and linear layers that normalize their weight in `forward`.

    WSConv2d       (w_f - mu) / (s + eps)                  weight standardization
    WNConv2d       g_f w_f / ||w_f||, or w_f / ||w_f||     weight normalization, gain or none
    CWNConv2d      (w_f - mu) / ||w_f - mu||               centered weight normalization
    WNLinear       g W / ||W||                             FixNorm, eq. 6: one g for the layer
    WNConvTranspose2d   the same: an upsampling layer's filters are not its weight's rows
    FixNormLinear  min(g, alpha sqrt(classes)) W / ||W||   FixNorm, eq. 10
    FixNormConv2d  min(g, alpha sqrt(c_out)) W / ||W||     FixNorm, eq. 29

`weight` and `bias` stay ordinary parameters under their ordinary names, so initializers, stock
checkpoints, DDP, EMA and deepcopy see nothing unusual; the gain is a parameter `g` beside them.
Above the cap the gradient of g is zero, as eq. 10 says. The bias stands outside the normalization.

The papers do not say how g starts. Here it starts at ||W||, which leaves the layer's function as it
was, and follows ||W|| until it is trained or loaded, so that an initialization or a stock
checkpoint that comes later still gets the right gain.
"""

import math

import torch
from torch import Tensor, nn

from . import functional


class _Normalized:
    """What all forms share: how a plain layer becomes one, and the forward's weight."""

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


class _Gained(_Normalized):
    """A layer with a gain `g` that follows ||W|| until it is trained.

    It follows, whatever initializes or broadcasts the weight, until a backward pass goes through
    the layer, a checkpoint brings a g, or somebody sets g by itself. From then on a weight that
    changes without its g is refused; that is read off the parameters' version counters, which cost
    no synchronization, and do not see what is written through `.data`.
    """

    gain_per_filter = False

    def _set_options(self, **options) -> None:
        super()._set_options(**options)
        count = self.weight.shape[0] if self.gain_per_filter else 1
        self.g = nn.Parameter(self.weight.new_empty(count), self.weight.requires_grad)
        self._follows = True
        self.reset_gain()

    def _weight_norm(self) -> Tensor:
        rows = self.weight.detach().reshape(len(self.g), -1)
        wide = torch.float64 if rows.dtype == torch.float64 else torch.float32
        return torch.linalg.vector_norm(rows, dim=1, dtype=wide).to(self.g.dtype)

    def reset_gain(self) -> None:
        """Set g = ||W||. A zero weight gets a random direction and g = 0, so that it can learn."""
        self._set_gain(self._weight_norm())

    @torch.no_grad()
    def _set_gain(self, gain: Tensor) -> None:
        self.g.copy_(gain)
        norm = self._weight_norm()
        if not norm.is_meta and not norm.all():
            # One fixed seed: every rank draws the same direction.
            generator = torch.Generator().manual_seed(self.weight.numel())
            direction = torch.randn(self.weight.shape, generator=generator)
            direction *= (len(norm) / direction.numel()) ** 0.5
            zero = (norm == 0).view(-1, *[1] * (self.weight.dim() - 1))
            self.weight.copy_(torch.where(zero, direction.to(self.weight), self.weight))
        self._seen = self._versions()
        self._gain_set = self.g.detach().clone()
        self._norm_set = self._weight_norm()  # not 0 where a zero weight got a direction

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if "g" in self._parameters:  # absent while the parent's __init__ runs
            self._follows = True
            self.reset_gain()

    def _versions(self) -> tuple[int, ...]:
        return id(self.weight), self.weight._version, id(self.g), self.g._version

    @torch.compiler.disable
    def _settle_gain(self) -> None:
        """Before g is used or copied: let it follow, let go of it, or refuse a stale one."""
        if self.weight.is_meta:
            return
        if self._follows and self._gain_set.is_meta:
            return self.reset_gain()
        now, seen = self._versions(), self._seen or self._versions()
        if now == self._seen and not self.weight.requires_grad:
            return  # comparing values waits for the device, and a frozen layer follows for good
        weight_changed, gain_changed = now[:2] != seen[:2], now[2:] != seen[2:]
        if self._follows:
            # DDP broadcasts both before the weights are initialized. Whoever writes g alone means
            # it, and so does an EMA, which writes both, but through `.data`.
            gain_set = torch.equal(self.g.detach(), self._gain_set.to(self.g))
            self._follows = gain_set or weight_changed
        if self._follows:
            norm = self._weight_norm()
            # Rounding is another on another device; a filter at 0 with its direction stays there.
            unchanged = torch.isclose(norm, self._norm_set.to(norm), rtol=0.01) & (norm > 0)
            gain = norm.masked_fill(unchanged & (self._gain_set.to(norm) == 0), 0)
            if not norm.all() or not torch.equal(gain, self.g.detach()):
                self._set_gain(gain)
        elif weight_changed and not gain_changed and self.g.requires_grad:
            raise RuntimeError(
                f"{type(self).__name__}: `weight` was changed and its gain `g` was not, so g is "
                "stale. After initializing the weight again call `reset_gain()`; to train the "
                "weight alone freeze g with `g.requires_grad_(False)`."
            )
        self._seen = self._versions()

    def _gain(self) -> Tensor:
        if self._follows or not torch.compiler.is_compiling():
            self._settle_gain()
        return self.g

    def _watched(self, weight: Tensor) -> Tensor:
        return self._let_go_in_backward(weight) if self._follows else weight

    @torch.compiler.disable
    def _let_go_in_backward(self, weight: Tensor) -> Tensor:
        """`weight` itself; the first gradient that reaches it ends the following of ||W||."""

        def let_go(_: Tensor) -> None:
            self._follows = False

        if weight.requires_grad:
            weight.register_hook(let_go)
        return weight

    def __getstate__(self) -> dict:
        self._settle_gain()
        # Version counters belong to the parameters left behind, not to a copy's.
        return super().__getstate__() | {"_seen": None}

    def _save_to_state_dict(self, destination, prefix, keep_vars) -> None:
        self._settle_gain()
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
    ) -> None:
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, errors
        )
        if self.g is None:
            return
        if prefix + "g" in state_dict:
            self._follows = False
            self._seen = self._versions()
        elif prefix + "weight" in state_dict:
            if prefix + "g" in missing_keys:
                missing_keys.remove(prefix + "g")
            if self.g.is_meta and not self.weight.is_meta:  # load_state_dict(assign=True)
                self.g = nn.Parameter(self.weight.new_empty(len(self.g)), self.g.requires_grad)
            self._follows = True
            self.reset_gain()


class _FixNorm(_Gained):
    """Whole-layer normalization with the gain bounded by alpha sqrt(outputs)."""

    form = "FixNorm"
    option_names = ("alpha",)

    def _set_options(self, alpha: float = 1.0) -> None:
        if not alpha > 0:
            raise ValueError(f"Invalid alpha: {alpha}; FixNorm needs alpha > 0, for example 1.0.")
        super()._set_options(alpha=float(alpha))

    @property
    def cap(self) -> float:
        """The largest gain, alpha sqrt(outputs)."""
        return self.alpha * math.sqrt(self.weight.shape[0])

    def _normalize(self) -> Tensor:
        gain = self._gain().clamp(max=self.cap)
        return self._watched(functional.normalize_layer(self.weight, gain))


class WSConv2d(_Normalized, nn.Conv2d):
    """Convolution with standardized filters: `eps` is added to the unbiased deviation."""

    form = "WS"
    option_names = ("eps",)

    def __init__(self, *args, eps: float = 1e-5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(eps=eps)

    def _set_options(self, eps: float = 1e-5) -> None:
        if not eps > 0:
            raise ValueError(f"Invalid eps: {eps}; the standard deviation needs eps > 0.")
        super()._set_options(eps=eps)

    def _normalize(self) -> Tensor:
        return functional.standardize(self.weight, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class WNConv2d(_Gained, nn.Conv2d):
    """Convolution with filters of length g_f, or of length 1 with `gain=False`."""

    form = "WN"
    option_names = ("gain",)
    gain_per_filter = True

    def __init__(self, *args, gain: bool = True, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(gain=gain)

    def _set_options(self, gain: bool = True) -> None:
        if gain:
            super()._set_options(gain=True)
        else:
            _Normalized._set_options(self, gain=False)
            self.register_parameter("g", None)

    def _settle_gain(self) -> None:
        if self.g is not None:
            super()._settle_gain()

    def reset_gain(self) -> None:
        """Set g_f = ||w_f||; nothing to do without a gain."""
        if self.g is not None:
            super().reset_gain()

    def _normalize(self) -> Tensor:
        if self.g is None:
            return functional.normalize(self.weight)
        return self._watched(functional.normalize(self.weight, self._gain()))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class CWNConv2d(_Normalized, nn.Conv2d):
    """Convolution with centered filters of length 1."""

    form = "CWN"

    def _normalize(self) -> Tensor:
        return functional.center_normalize(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class WNLinear(_Gained, nn.Linear):
    """Linear layer whose whole weight has length g (FixNorm, eq. 6: WN-FC)."""

    form = "WN"

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options()

    def _normalize(self) -> Tensor:
        return self._watched(functional.normalize_layer(self.weight, self._gain()))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)


class WNConvTranspose2d(_Gained, nn.ConvTranspose2d):
    """Transposed convolution whose whole weight has length g."""

    form = "WN"

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options()

    def _normalize(self) -> Tensor:
        return self._watched(functional.normalize_layer(self.weight, self._gain()))

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        padding = self._output_padding(
            x, output_size, self.stride, self.padding, self.kernel_size, 2, self.dilation
        )
        return nn.functional.conv_transpose2d(
            x,
            self.normalized_weight(),
            self.bias,
            self.stride,
            self.padding,
            padding,
            self.groups,
            self.dilation,
        )


class FixNormConv2d(_FixNorm, nn.Conv2d):
    """Convolutional classifier whose weight has length min(g, alpha sqrt(out_channels))."""

    def __init__(self, *args, alpha: float = 1.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(alpha=alpha)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class FixNormLinear(_FixNorm, nn.Linear):
    """Linear classifier whose weight has length min(g, alpha sqrt(out_features))."""

    def __init__(self, *args, alpha: float = 1.0, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(alpha=alpha)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)
