"""MMPretrain parts: heads and backbones with normalized layers, and networks that it lacks.

    custom_imports = dict(imports=['normfix_mm.classification'], allow_failed_imports=False)

Importing this package registers everything a classification config may name: the layers, the
optimizer constructor and the hooks of ``normfix_mm.engine``, and what is listed below.
"""

try:
    import mmpretrain.models  # noqa: F401  needs torchvision
except (ImportError, AssertionError, OSError) as error:
    # ImportError: absent, or without torchvision. AssertionError: mmpretrain's own version check.
    # OSError: an operator library built for another torch. One sentence instead of that chain.
    _reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    raise ImportError(
        f"normfix_mm.classification needs MMPretrain and torchvision ({_reason}); run `python -m "
        "normfix_mm.check_env` to see what is missing, or install the stack with `pip install "
        "'normfix-mm[onedl]'`."
    ) from None

import normfix_mm.engine  # noqa: F401  registers layers, optimizer constructor and hooks
from normfix_mm.classification import backbones
from normfix_mm.classification.backbones import *  # noqa: F403  one class for each backbone of MMPretrain
from normfix_mm.classification.class_accuracy import ClassAccuracy
from normfix_mm.classification.cross_boundary_risk import CrossBoundaryRiskHook
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
    "CrossBoundaryRiskHook",
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
