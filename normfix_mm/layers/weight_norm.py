"""Weight normalization: a direction W / ||W|| and a gain g.

    WNConv2d            g_f w_f / ||w_f||, or w_f / ||w_f||   per filter, with gain or without
    WNLinear            g W / ||W||                           FixNorm, eq. 6: one g for the layer
    WNPointwiseConv2d   g W / ||W||                           the same written as a 1x1 convolution
    WNConvTranspose2d   g W / ||W||                           the same: an upsampling layer's
                                                              filters are not its weight's rows

The bias stands outside the normalization. How g starts is said in `gain`.
"""

from typing import Any

from torch import Tensor, nn

from normfix_mm.layers import functional
from normfix_mm.layers.base import NormalizedLayer
from normfix_mm.layers.gain import GainedLayer
from normfix_mm.layers.options import truth


class WNConv2d(GainedLayer, nn.Conv2d):
    """Convolution with filters of length g_f, or of length 1 with `gain=False`."""

    form = "WN"
    option_names = ("gain", "gain_start")
    gain_per_filter = True

    def __init__(
        self, *args, gain: bool = True, gain_start: str | float = "weight", **kwargs
    ) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(gain=gain, gain_start=gain_start)

    def _set_options(  # type: ignore[override]
        self, gain: bool = True, gain_start: str | float = "weight"
    ) -> None:
        if truth("gain", gain):
            super()._set_options(gain=True, gain_start=gain_start)
        else:
            NormalizedLayer._set_options(self, gain=False, gain_start=gain_start)
            self.register_parameter("g", None)

    def reset_gain(self) -> None:
        """Set g_f = ||w_f||, or to `gain_start`; nothing to do without a gain."""
        if self.g is not None:
            super().reset_gain()

    def _normalize(self) -> Tensor:
        if self.g is None:
            return functional.normalize(self.weight)
        return self._watched(functional.normalize(self.weight, self.g))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class WNLayer(GainedLayer):
    """A layer whose whole weight has length g."""

    form = "WN"
    option_names = ("gain_start",)

    def __init__(self, *args, gain_start: str | float = "weight", **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._set_options(gain_start=gain_start)

    def _normalize(self) -> Tensor:
        return self._watched(functional.normalize_layer(self.weight, self.g))


class WNLinear(WNLayer, nn.Linear):
    """Linear layer whose whole weight has length g (FixNorm, eq. 6: WN-FC)."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.normalized_weight(), self.bias)


class WNPointwiseConv2d(WNLayer, nn.Conv2d):
    """A fully connected layer written as a 1×1 convolution, whose whole weight has length g.

    OpenMMLab's squeeze-and-excitation blocks are made of such. FixNorm (appendix A.3) makes WN-FC
    of their layers, with one gain each, however they are written.
    """

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.normalized_weight(), self.bias)


class WNConvTranspose2d(WNLayer, nn.ConvTranspose2d):
    """Transposed convolution whose whole weight has length g."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        geometry: Any = self  # torch declares tuples where its functions want lists
        padding = self._output_padding(
            x,
            output_size,
            geometry.stride,
            geometry.padding,
            geometry.kernel_size,
            2,
            geometry.dilation,
        )
        return nn.functional.conv_transpose2d(
            x,
            self.normalized_weight(),
            self.bias,
            self.stride,
            geometry.padding,
            padding,
            self.groups,
            self.dilation,
        )
