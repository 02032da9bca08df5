"""Decode heads with FixNorm's classifier: ``conv_seg`` becomes FixNorm-Conv.

FixNorm, eq. 29:  conv_seg(x) = conv(x, W)/|W| * min(g, alpha*sqrt(classes)) + bias

The paper does this to OCNet's Base-OC; the other heads follow the same rule, as decode heads and as
auxiliary heads alike. The layers before conv_seg have a norm behind them, in training mode in
MMSegmentation, and stay as they are; what has none, as OCNet's ``f_value`` and ``W`` or anything
without a ``norm_cfg``, is weight-normalized with gain (our choice: the paper does not say what it
did to those two). All take their parent's arguments and ``alpha`` (default 1).

With MMSegmentation's initialization (std .01, 512 channels, 19 classes) g starts at .99; the cap of
alpha 1 is 4.36. For another decode head of MMSegmentation, or one of your own:

    @MODELS.register_module()  # mmengine's
    class FixNormMyHead(FixNormDecode, MyHead):
        pass
"""

from mmengine.registry import MODELS
from mmseg.models.decode_heads import (
    ASPPHead,
    DepthwiseSeparableASPPHead,
    FCNHead,
    OCRHead,
    PSPHead,
    UPerHead,
)

from normfix_mm.models.mixins import FixNorm
from normfix_mm.segmentation.ocnet.head import OCHead


class FixNormDecode(FixNorm):
    """Mixin before a decode head: FixNorm's classifier is ``conv_seg``."""

    classifier = "conv_seg"


@MODELS.register_module(force=True)
class FixNormOCHead(FixNormDecode, OCHead):
    """OCNet. ``W`` starts at zero: it gets a random direction and the gain 0, which then grows."""


@MODELS.register_module(force=True)
class FixNormFCNHead(FixNormDecode, FCNHead):
    """FCN, and the usual auxiliary head."""


@MODELS.register_module(force=True)
class FixNormPSPHead(FixNormDecode, PSPHead):
    """PSPNet."""


@MODELS.register_module(force=True)
class FixNormASPPHead(FixNormDecode, ASPPHead):
    """DeepLabV3."""


@MODELS.register_module(force=True)
class FixNormDepthwiseSeparableASPPHead(FixNormDecode, DepthwiseSeparableASPPHead):
    """DeepLabV3+."""


@MODELS.register_module(force=True)
class FixNormUPerHead(FixNormDecode, UPerHead):
    """UPerNet."""


@MODELS.register_module(force=True)
class FixNormOCRHead(FixNormDecode, OCRHead):
    """OCRNet's second head; the first of the cascade is a FixNormFCNHead."""
