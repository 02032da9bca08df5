"""FixNorm's classifiers: weight normalization of the whole layer with a bounded gain.

    FixNormLinear  min(g, alpha sqrt(classes)) W / ||W||   FixNorm, eq. 10
    FixNormConv2d  min(g, alpha sqrt(c_out)) W / ||W||     FixNorm, eq. 29

Above the cap the gradient of g is zero, as eq. 10 says; where g is set to the cap, or to the norm
of a weight folded there, rounding does not put it above. The bias stands outside the normalization.
How g starts is said in `gain`.
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

    def _cap_as_gain(self) -> float:
        """The largest g of its dtype that is not above the cap, in whatever dtype it is later."""
        value = torch.tensor(self.cap, dtype=self.g.dtype, device="cpu").item()
        return value if value <= self.cap else value * (1 - torch.finfo(self.g.dtype).eps)

    def _norm_as_gain(self, norm: Tensor) -> Tensor:
        """The norm; the cap where only rounding is between them."""
        rounding = max(1e-6, torch.finfo(norm.dtype).eps)
        above = norm.double() / self.cap - 1
        return torch.where((above > 0) & (above < rounding), self._cap_as_gain(), norm)

    def _normalize(self) -> Tensor:
        beyond = self.cap > torch.finfo(self.g.dtype).max  # no g can be above it
        gain = self.g if beyond else self.g.clamp(max=self.cap)
        return self._watched(functional.normalize_layer(self.weight, gain))


class FixNormConv2d(FixNormLayer, nn.Conv2d):
    """Convolutional classifier whose weight has length min(g, alpha sqrt(out_channels))."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class FixNormLinear(FixNormLayer, nn.Linear):
    """Linear classifier whose weight has length min(g, alpha sqrt(out_features))."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)
