"""FixNorm's classifiers: weight normalization of the whole layer with a bounded gain.

    FixNormLinear  min(g, alpha sqrt(classes)) W / ||W||   FixNorm, eq. 10
    FixNormConv2d  min(g, alpha sqrt(c_out)) W / ||W||     FixNorm, eq. 29

Above the cap the gradient of g is zero, as eq. 10 says; a gain that only rounding has put above it
is at the cap. The bias stands outside the normalization. How g starts is said in `gain`.
"""

import math
import warnings

import torch
from torch import Tensor, nn

from normfix_mm.errors import BadInput
from normfix_mm.layers import functional
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.layers.options import as_number
from normfix_mm.layers.sharded import whole

_ROUNDING = 1e-6


class FixNormLayer(GainedLayer):
    """Whole-layer normalization with the gain bounded by alpha sqrt(outputs)."""

    form = "FixNorm"
    option_names = ("alpha", "gain_start")
    alpha: float

    def __init__(
        self, *args, alpha: float = 1.0, gain_start: str | float = "weight", **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(alpha=alpha, gain_start=gain_start)

    def _set_options(  # type: ignore[override]
        self, alpha: float = 1.0, gain_start: str | float = "weight"
    ) -> None:
        self.alpha = as_number(alpha)
        if not self.alpha > 0 or (gain_start == "cap" and self.alpha == math.inf):
            raise BadInput(
                f"Invalid alpha: {alpha!r}; FixNorm needs a number > 0, for example 1.0."
            )
        super()._set_options(gain_start=gain_start)

    @property
    def cap(self) -> float:
        """The largest gain, alpha sqrt(outputs)."""
        return self.alpha * math.sqrt(self.weight.shape[0])

    def _tell_if_cut(self, prefix: str) -> None:
        norm = 0.0 if self.g.is_meta else float(whole(self.g))
        if norm > 1.001 * self.cap:
            name = prefix.rstrip(".") or type(self).__name__
            warnings.warn(
                f"{name}: the norm of the loaded weight, {norm:.4g}, is above the cap of "
                f"the gain, {self.cap:.4g}, so its outputs shrink by {self.cap / norm:.3g}"
                " and g gets no gradient; a larger alpha keeps them.",
                stacklevel=2,
            )

    def _normalize(self) -> Tensor:
        return self._watched(functional.normalize_layer(self.weight, self._bounded_gain()))

    def _bounded_gain(self) -> Tensor:
        """min(g, cap); within rounding above the cap, where a fold or a cast puts a gain that was
        at it, g keeps its gradient."""
        if self.cap * (1 + _ROUNDING) > torch.finfo(self.g.dtype).max:  # no g can be above it
            return self.g
        gain = self.g.clamp(max=self.cap * (1 + _ROUNDING))
        return gain - (gain - self.cap).clamp(min=0).detach()


class FixNormConv2d(FixNormLayer, nn.Conv2d):
    """Convolutional classifier whose weight has length min(g, alpha sqrt(out_channels))."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class FixNormLinear(FixNormLayer, nn.Linear):
    """Linear classifier whose weight has length min(g, alpha sqrt(out_features))."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)
