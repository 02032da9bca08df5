"""MMDetection parts: heads and backbones with normalized layers, registered in mmengine's root.

    custom_imports = dict(imports=['normfix_mm.detection'], allow_failed_imports=False)

Importing this package registers everything a detection config may name: the layers, the optimizer
constructor and the hooks of ``normfix_mm.engine``, and the heads and backbones below.
"""

from normfix_mm.errors import IMPORT_FAILURES, needs

try:
    import mmcv.ops  # noqa: F401  most of mmdet needs mmcv's compiled operators
    import mmdet.models  # noqa: F401
except IMPORT_FAILURES as error:
    raise needs(
        "normfix_mm.detection", "MMDetection and mmcv with compiled operators", error
    ) from None

import normfix_mm.detection.classified
import normfix_mm.engine  # noqa: F401  registers layers, optimizer constructor and hooks
from normfix_mm.detection import backbones
from normfix_mm.detection.backbones import *  # noqa: F403  one class for each backbone of MMDetection
from normfix_mm.detection.dense_heads import (
    FixNormATSSHead,
    FixNormFCOSHead,
    FixNormGFLHead,
    FixNormRetinaHead,
    FixNormRPNHead,
    WNRetinaHead,
)
from normfix_mm.detection.roi_heads import (
    FixNormConvFCBBoxHead,
    FixNormFCNMaskHead,
    FixNormShared2FCBBoxHead,
    FixNormShared4Conv1FCBBoxHead,
)
from normfix_mm.models.backbones import normalized

__all__ = [
    "FixNormATSSHead",
    "FixNormConvFCBBoxHead",
    "FixNormFCNMaskHead",
    "FixNormFCOSHead",
    "FixNormGFLHead",
    "FixNormRPNHead",
    "FixNormRetinaHead",
    "FixNormShared2FCBBoxHead",
    "FixNormShared4Conv1FCBBoxHead",
    "WNRetinaHead",
    "normalized",
    *backbones.__all__,
]
