"""MMSegmentation parts: OCNet and its losses, decode heads and backbones with normalized layers.

    custom_imports = dict(imports=['normfix_mm.segmentation'], allow_failed_imports=False)

Importing this package registers everything a segmentation config may name: the layers, the
optimizer constructor and the hooks of ``normfix_mm.engine``, and what is listed below.
"""

from normfix_mm.errors import IMPORT_FAILURES, needs

try:
    import mmcv.ops  # noqa: F401  heads of mmseg need mmcv's compiled operators
    import mmseg.models  # noqa: F401
except IMPORT_FAILURES as error:
    raise needs(
        "normfix_mm.segmentation", "MMSegmentation and mmcv with compiled operators", error
    ) from None

import normfix_mm.engine
import normfix_mm.segmentation.classified  # noqa: F401  registers
from normfix_mm.models.backbones import normalized
from normfix_mm.segmentation import backbones
from normfix_mm.segmentation.backbones import *  # noqa: F403  one class for each backbone of MMSegmentation
from normfix_mm.segmentation.cityscapes_metric import CityscapesOfficialMetric
from normfix_mm.segmentation.class_iou import ClassIoUMetric
from normfix_mm.segmentation.decode_heads import (
    FixNormASPPHead,
    FixNormDecode,
    FixNormDepthwiseSeparableASPPHead,
    FixNormFCNHead,
    FixNormOCHead,
    FixNormOCRHead,
    FixNormPSPHead,
    FixNormUPerHead,
)
from normfix_mm.segmentation.losses import OHEMWeightedCrossEntropyLoss, WeightedCrossEntropyLoss
from normfix_mm.segmentation.ocnet.attention import attention
from normfix_mm.segmentation.ocnet.backbone import DilatedResNetV1c, NormalizedDilatedResNetV1c
from normfix_mm.segmentation.ocnet.contexts import ASPOC, BaseOC, ObjectContext, PyramidOC
from normfix_mm.segmentation.ocnet.head import OCHead

__all__ = [
    "ASPOC",
    "BaseOC",
    "CityscapesOfficialMetric",
    "ClassIoUMetric",
    "DilatedResNetV1c",
    "FixNormASPPHead",
    "FixNormDecode",
    "FixNormDepthwiseSeparableASPPHead",
    "FixNormFCNHead",
    "FixNormOCHead",
    "FixNormOCRHead",
    "FixNormPSPHead",
    "FixNormUPerHead",
    "NormalizedDilatedResNetV1c",
    "OCHead",
    "OHEMWeightedCrossEntropyLoss",
    "ObjectContext",
    "PyramidOC",
    "WeightedCrossEntropyLoss",
    "attention",
    "normalized",
    *backbones.__all__,
]
