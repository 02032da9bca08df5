"""MMPretrain parts: heads and backbones with normalized layers, and networks that it lacks.

    custom_imports = dict(imports=['normfix_mm.classification'], allow_failed_imports=False)

Importing this package registers everything a classification config may name: the layers, the
optimizer constructor and the hooks of ``normfix_mm.engine``, and what is listed below.
"""

from normfix_mm.errors import IMPORT_FAILURES, needs

try:
    import mmpretrain.models  # noqa: F401  needs torchvision
except IMPORT_FAILURES as error:
    raise needs("normfix_mm.classification", "MMPretrain and torchvision", error) from None

import normfix_mm.classification.classified
import normfix_mm.engine  # noqa: F401  registers layers, optimizer constructor and hooks
from normfix_mm.classification import backbones
from normfix_mm.classification.backbones import *  # noqa: F403  one class for each backbone of MMPretrain
from normfix_mm.classification.class_accuracy import ClassAccuracy
from normfix_mm.classification.heads import FixNormLinearClsHead, WNLinearClsHead
from normfix_mm.classification.mobilenet_v1 import MobileNetV1
from normfix_mm.classification.pictures import ClassVisualizationHook
from normfix_mm.classification.resnext_cifar import ResNeXtCIFAR, SEResNeXtCIFAR
from normfix_mm.classification.se_mobilenet_v2 import SEMobileNetV2
from normfix_mm.classification.se_resnet_d import SEResNetD
from normfix_mm.models.backbones import normalized

__all__ = [
    "ClassAccuracy",
    "ClassVisualizationHook",
    "FixNormLinearClsHead",
    "MobileNetV1",
    "ResNeXtCIFAR",
    "SEMobileNetV2",
    "SEResNeXtCIFAR",
    "SEResNetD",
    "WNLinearClsHead",
    "normalized",
    *backbones.__all__,
]
