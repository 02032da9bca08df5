"""Box and mask heads of two-stage detectors with FixNorm's classifier.

FixNorm's paper trains no two-stage detector; these follow its rules. ``fc_cls`` is FixNorm-FC
(eq. 10). It feeds a softmax over the classes and the background, so the cap is
alpha * sqrt(classes + 1): 9 on COCO at alpha 1, where g starts at 2.88. The fully connected layers
before it and the box predictor have no norm behind them: they become WN-FC (eq. 6), as the paper
does with those of SE blocks, and join the fixed set. ``conv_logits`` of the mask head is
FixNorm-Conv over the classes alone: its g starts at 22.6, above the cap of 8.94 at alpha 1.

Cascade R-CNN's three stages are three such box heads.
"""

from mmdet.models.roi_heads.bbox_heads import (
    ConvFCBBoxHead,
    Shared2FCBBoxHead,
    Shared4Conv1FCBBoxHead,
)
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmengine.registry import MODELS

from normfix_mm.models.mixins import FixNorm


@MODELS.register_module()
class FixNormConvFCBBoxHead(FixNorm, ConvFCBBoxHead):
    classifier = "fc_cls"


@MODELS.register_module()
class FixNormShared2FCBBoxHead(FixNorm, Shared2FCBBoxHead):
    classifier = "fc_cls"


@MODELS.register_module()
class FixNormShared4Conv1FCBBoxHead(FixNorm, Shared4Conv1FCBBoxHead):
    classifier = "fc_cls"


@MODELS.register_module()
class FixNormFCNMaskHead(FixNorm, FCNMaskHead):
    classifier = "conv_logits"
