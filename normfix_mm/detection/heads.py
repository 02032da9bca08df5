"""RetinaNet's head with normalized layers: FixNorm's, and the baseline it is compared with.

FixNorm, ``A.4.3``: "we add Weight Normalization layers to all the convolution layers that are not
followed by normalizations ... for all the models. We also replace the last convolution layer of the
classification subnet with FixNorm-Conv when trained with our FixNorm method." Hence two heads that
differ in one layer, ``retina_cls``:

    WNRetinaHead       weight normalization, gain free              the two baseline rows of Table 4
    FixNormRetinaHead  conv(x, W)/|W| * min(g, alpha*sqrt(c_out))   eq. 29, the two FixNorm rows

The paper does not say which form of weight normalization its convolutions carry; ours is
Salimans and Kingma's, one gain per output filter. Parameter names stay RetinaHead's (plus ``g``),
so a stock checkpoint loads, and g = |W| leaves its function unchanged until the cap bites.
"""

from __future__ import annotations

from mmdet.models.dense_heads import RetinaHead
from mmengine.registry import MODELS

from normfix_mm.core.swap import normalize_layers

TOWERS = r"^(cls|reg)_convs\."


class _NormalizedRetinaHead(RetinaHead):
    """What both heads share: the towers and the box predictor, and the classifier's rule."""

    def _init_layers(self) -> None:
        super()._init_layers()
        # A tower with a norm behind it is scale-invariant already, and one with a conv_cfg is what
        # the config asked for; the two predictors never have either.
        plain_towers = self.norm_cfg is None and self.conv_cfg is None
        layers = f"{TOWERS}|^retina_reg$" if plain_towers else "^retina_reg$"
        normalize_layers(
            self,
            [
                dict(form="WN", layers=layers, gain=True),
                dict(layers="^retina_cls$", **self._classifier()),
            ],
        )

    def _classifier(self) -> dict:
        """Form and options of ``retina_cls``."""
        raise NotImplementedError


@MODELS.register_module()
class WNRetinaHead(_NormalizedRetinaHead):
    """RetinaHead with weight normalization (gain per filter) on each convolution without a norm.

    Takes RetinaHead's arguments. This is the head of the paper's baselines: everything as in
    :class:`FixNormRetinaHead`, with a classifier whose gain is not capped.
    """

    def _classifier(self) -> dict:
        return dict(form="WN", gain=True)


@MODELS.register_module()
class FixNormRetinaHead(_NormalizedRetinaHead):
    """RetinaHead with FixNorm-Conv (eq. 29) on ``retina_cls``, weight normalization elsewhere.

    Args:
        alpha: The cap of the classifier's gain is ``alpha * sqrt(anchors * classes)``; the paper's
            best on COCO is 0.5. With RetinaNet's initialization (std .01, 256 channels, 720
            outputs) g starts at 12.88 and the cap of alpha 0.5 is 13.42. Default 1.0.
        *args, **kwargs: RetinaHead's.

    Raises:
        ValueError: If ``alpha`` is not positive.
    """

    def __init__(self, *args, alpha: float = 1.0, **kwargs) -> None:
        self.alpha = alpha  # before super(): RetinaHead builds its layers in its constructor
        super().__init__(*args, **kwargs)

    def _classifier(self) -> dict:
        return dict(form="FixNorm", alpha=self.alpha)
