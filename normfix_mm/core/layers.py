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
How g starts is said in `gains`.
"""

import math

from torch import Tensor, nn

from . import functional
from .gains import GainedLayer
from .normalized_layer import NormalizedLayer


class _FixNorm(GainedLayer):
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


class WSConv2d(NormalizedLayer, nn.Conv2d):
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


class WNConv2d(GainedLayer, nn.Conv2d):
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
            NormalizedLayer._set_options(self, gain=False)
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


class CWNConv2d(NormalizedLayer, nn.Conv2d):
    """Convolution with centered filters of length 1."""

    form = "CWN"

    def _normalize(self) -> Tensor:
        return functional.center_normalize(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class WNLinear(GainedLayer, nn.Linear):
    """Linear layer whose whole weight has length g (FixNorm, eq. 6: WN-FC)."""

    form = "WN"

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options()

    def _normalize(self) -> Tensor:
        return self._watched(functional.normalize_layer(self.weight, self._gain()))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)


class WNConvTranspose2d(GainedLayer, nn.ConvTranspose2d):
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
