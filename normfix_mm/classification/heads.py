"""Classification heads with FixNorm's classifier, ``fc``.

FixNormLinearClsHead   x·Wᵀ/‖W‖ · min(g, α·√classes) + bias   FixNorm, eq. 10: FixNorm-FC
WNLinearClsHead        x·Wᵀ/‖W‖ · g + bias                    FixNorm, eq. 6: WN-FC, no bound

Both take what MMPretrain's LinearClsHead does, and the first ``alpha`` (default 1). With 1000
classes of 2048 features and MMPretrain's initialization (std .01) g starts at 14.3; the cap of
alpha .5, the paper's best for ResNet-50-D, is 15.8. Another head of MMPretrain, or one of your own:

    @MODELS.register_module()  # mmengine's
    class FixNormMyHead(FixNorm, MyHead):
        classifier = "fc"
"""

from mmengine.registry import MODELS
from mmpretrain.models.heads import LinearClsHead

from normfix_mm.models.mixins import FixNorm, WeightNormalized


@MODELS.register_module(force=True)
class FixNormLinearClsHead(FixNorm, LinearClsHead):
    """LinearClsHead whose classifier's gain is at most alpha * sqrt(classes)."""

    classifier = "fc"


@MODELS.register_module(force=True)
class WNLinearClsHead(WeightNormalized, LinearClsHead):
    """LinearClsHead whose classifier is weight-normalized as a whole, with a free gain."""
