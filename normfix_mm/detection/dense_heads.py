"""Dense heads with FixNorm's classifier: a name, a parent, the classifier's attribute.

FixNorm (appendix A.4.3) weight-normalizes, in its baselines too, each convolution that has no norm
behind it; its own method then makes the last convolution of the classification branch FixNorm-Conv.
Hence for RetinaNet two heads that differ in one layer, ``retina_cls``:

    WNRetinaHead       weight normalization, gain free              the two baseline rows of Table 4
    FixNormRetinaHead  conv(x, W)/|W| * min(g, alpha*sqrt(c_out))   eq. 29, the two FixNorm rows

The paper does not say which form of weight normalization its convolutions carry; ours is
Salimans and Kingma's, one gain per output filter. The other heads are not in the paper; they follow
the same two rules. All take their parent's arguments, and the FixNorm ones ``alpha`` (default 1).
"""

from mmdet.models.dense_heads import ATSSHead, FCOSHead, GFLHead, RetinaHead, RPNHead
from mmengine.registry import MODELS

from normfix_mm.models.mixins import FixNorm, WeightNormalized


@MODELS.register_module()
class WNRetinaHead(WeightNormalized, RetinaHead):
    """RetinaHead of the paper's baselines: as FixNormRetinaHead, with a gain that is not capped."""


@MODELS.register_module()
class FixNormRetinaHead(FixNorm, RetinaHead):
    """The cap of retina_cls is alpha * sqrt(anchors * classes); the paper's best on COCO is 0.5.

    With RetinaNet's initialization (std .01, 256 channels, 720 outputs) g starts at 12.88 and the
    cap of alpha 0.5 is 13.42.
    """

    classifier = "retina_cls"


@MODELS.register_module()
class FixNormRPNHead(FixNorm, RPNHead):
    """The cap of rpn_cls is alpha * sqrt(anchors), 1.73 at alpha 1; g starts at .28."""

    classifier = "rpn_cls"


@MODELS.register_module()
class FixNormFCOSHead(FixNorm, FCOSHead):
    classifier = "conv_cls"


@MODELS.register_module()
class FixNormATSSHead(FixNorm, ATSSHead):
    classifier = "atss_cls"


@MODELS.register_module()
class FixNormGFLHead(FixNorm, GFLHead):
    classifier = "gfl_cls"
