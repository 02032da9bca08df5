"""MMDetection's backbones with normalized convolutions: ``Normalized<X>`` for each backbone X.

``normfix_mm.models.backbones`` says what they do; weight normalization with gain is their default
because MMDetection trains with ``norm_eval=True``. They are registered where their parents are, in
MMDetection's own registry, since MMSegmentation has backbones of the same names; its scope does not
see these.
"""

from mmdet.models import backbones
from mmdet.registry import MODELS

from normfix_mm.models.backbones import NormalizedBackbone

__all__ = [
    "NormalizedCSPDarknet",
    "NormalizedCSPNeXt",
    "NormalizedDarknet",
    "NormalizedDetectoRS_ResNeXt",
    "NormalizedDetectoRS_ResNet",
    "NormalizedEfficientNet",
    "NormalizedHRNet",
    "NormalizedHourglassNet",
    "NormalizedMobileNetV2",
    "NormalizedPyramidVisionTransformer",
    "NormalizedPyramidVisionTransformerV2",
    "NormalizedRegNet",
    "NormalizedRes2Net",
    "NormalizedResNeSt",
    "NormalizedResNeXt",
    "NormalizedResNet",
    "NormalizedResNetV1d",
    "NormalizedSSDVGG",
    "NormalizedSwinTransformer",
    "NormalizedTridentResNet",
]


@MODELS.register_module(force=True)
class NormalizedRegNet(NormalizedBackbone, backbones.RegNet):
    """RegNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNet(NormalizedBackbone, backbones.ResNet):
    """ResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNetV1d(NormalizedBackbone, backbones.ResNetV1d):
    """ResNetV1d with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeXt(NormalizedBackbone, backbones.ResNeXt):
    """ResNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSSDVGG(NormalizedBackbone, backbones.SSDVGG):
    """SSDVGG with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHRNet(NormalizedBackbone, backbones.HRNet):
    """HRNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV2(NormalizedBackbone, backbones.MobileNetV2):
    """MobileNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRes2Net(NormalizedBackbone, backbones.Res2Net):
    """Res2Net with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHourglassNet(NormalizedBackbone, backbones.HourglassNet):
    """HourglassNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDetectoRS_ResNet(NormalizedBackbone, backbones.DetectoRS_ResNet):  # noqa: N801
    """DetectoRS_ResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDetectoRS_ResNeXt(NormalizedBackbone, backbones.DetectoRS_ResNeXt):  # noqa: N801
    """DetectoRS_ResNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDarknet(NormalizedBackbone, backbones.Darknet):
    """Darknet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeSt(NormalizedBackbone, backbones.ResNeSt):
    """ResNeSt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedTridentResNet(NormalizedBackbone, backbones.TridentResNet):
    """TridentResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPDarknet(NormalizedBackbone, backbones.CSPDarknet):
    """CSPDarknet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSwinTransformer(NormalizedBackbone, backbones.SwinTransformer):
    """SwinTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPyramidVisionTransformer(NormalizedBackbone, backbones.PyramidVisionTransformer):
    """PyramidVisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPyramidVisionTransformerV2(
    NormalizedBackbone, backbones.PyramidVisionTransformerV2
):
    """PyramidVisionTransformerV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedEfficientNet(NormalizedBackbone, backbones.EfficientNet):
    """EfficientNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPNeXt(NormalizedBackbone, backbones.CSPNeXt):
    """CSPNeXt with the option ``normalize``."""
