"""Convolutions with standardized or centered filters.

WSConv2d       (w_f - mu) / (s + eps)                  weight standardization
CWNConv2d      (w_f - mu) / ||w_f - mu||               centered weight normalization
"""

from torch import Tensor, nn

from normfix_mm.errors import BadInput
from normfix_mm.layers import functional
from normfix_mm.layers.base import NormalizedLayer
from normfix_mm.layers.options import as_number, is_positive


class WSConv2d(NormalizedLayer, nn.Conv2d):
    """Convolution with standardized filters: `eps` is added to the unbiased deviation."""

    form = "WS"
    option_names = ("eps",)
    eps: float

    def __init__(self, *args, eps: float = 1e-5, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(eps=eps)

    def _set_options(self, eps: float = 1e-5) -> None:  # type: ignore[override]
        if not is_positive(eps):
            raise BadInput(f"Invalid eps: {eps!r}; the standard deviation needs a number > 0.")
        super()._set_options(eps=as_number(eps))

    def _normalize(self) -> Tensor:
        return functional.standardize(self.weight, self.eps)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class CWNConv2d(NormalizedLayer, nn.Conv2d):
    """Convolution with centered filters of length 1."""

    form = "CWN"

    def _normalize(self) -> Tensor:
        return functional.center_normalize(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)
