"""MMSegmentation's backbones with normalized convolutions: ``Normalized<X>`` for each backbone X.

    default_scope = 'mmseg'
    backbone=dict(type='NormalizedResNetV1c', depth=101, ...)        or 'mmseg.NormalizedResNetV1c'

``normfix_mm.models.backbones`` says what they do.

Where the names live. MMSegmentation and MMDetection have seven backbones of one name (ResNet,
ResNetV1d, ResNeXt, ResNeSt, HRNet, MobileNetV2, SwinTransformer) that are not the same class:
``norm_eval``, for one, is off here and on there. In mmengine's root registry one ``NormalizedX``
would overwrite the other. So ours are registered where their parents are, in MMSegmentation's own
registry, and are found as their parents are: under its scope by the bare name, elsewhere with the
scope written out, beside MMDetection's of the same name. That is what mmengine's scopes are for,
and ``tools/fold.py`` only has to take "Normalized" off. (The heads are in the root, as no
MMDetection head has their names.) A config must import ``normfix_mm.segmentation``: with
``normfix_mm.detection`` alone the bare name would mean MMDetection's.
"""

from mmseg.models import backbones
from mmseg.registry import MODELS

from normfix_mm.models.backbones import NormalizedBackbone
from normfix_mm.models.frozen_stages import FrozenStages

__all__ = [
    "NormalizedBEiT",
    "NormalizedBiSeNetV1",
    "NormalizedBiSeNetV2",
    "NormalizedCGNet",
    "NormalizedDDRNet",
    "NormalizedERFNet",
    "NormalizedFastSCNN",
    "NormalizedHRNet",
    "NormalizedICNet",
    "NormalizedMAE",
    "NormalizedMSCAN",
    "NormalizedMixVisionTransformer",
    "NormalizedMobileNetV2",
    "NormalizedMobileNetV3",
    "NormalizedPCPVT",
    "NormalizedPIDNet",
    "NormalizedResNeSt",
    "NormalizedResNeXt",
    "NormalizedResNet",
    "NormalizedResNetV1c",
    "NormalizedResNetV1d",
    "NormalizedSTDCContextPathNet",
    "NormalizedSTDCNet",
    "NormalizedSVT",
    "NormalizedSwinTransformer",
    "NormalizedTIMMBackbone",
    "NormalizedUNet",
    "NormalizedVPD",
    "NormalizedVisionTransformer",
]


@MODELS.register_module(force=True)
class NormalizedResNet(NormalizedBackbone, backbones.ResNet):
    """ResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNetV1c(NormalizedBackbone, backbones.ResNetV1c):
    """ResNetV1c with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNetV1d(NormalizedBackbone, backbones.ResNetV1d):
    """ResNetV1d with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeXt(NormalizedBackbone, backbones.ResNeXt):
    """ResNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHRNet(NormalizedBackbone, backbones.HRNet):
    """HRNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedFastSCNN(NormalizedBackbone, backbones.FastSCNN):
    """FastSCNN with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeSt(NormalizedBackbone, backbones.ResNeSt):
    """ResNeSt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV2(NormalizedBackbone, backbones.MobileNetV2):
    """MobileNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedUNet(NormalizedBackbone, backbones.UNet):
    """UNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCGNet(NormalizedBackbone, backbones.CGNet):
    """CGNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV3(NormalizedBackbone, backbones.MobileNetV3):
    """MobileNetV3 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVisionTransformer(NormalizedBackbone, backbones.VisionTransformer):
    """VisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSwinTransformer(NormalizedBackbone, backbones.SwinTransformer):
    """SwinTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMixVisionTransformer(NormalizedBackbone, backbones.MixVisionTransformer):
    """MixVisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedBiSeNetV1(NormalizedBackbone, backbones.BiSeNetV1):
    """BiSeNetV1 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedBiSeNetV2(NormalizedBackbone, backbones.BiSeNetV2):
    """BiSeNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedICNet(NormalizedBackbone, backbones.ICNet):
    """ICNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedTIMMBackbone(FrozenStages, backbones.TIMMBackbone):
    """TIMMBackbone with the options ``normalize`` and ``frozen_stages``."""


@MODELS.register_module(force=True)
class NormalizedERFNet(NormalizedBackbone, backbones.ERFNet):
    """ERFNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPCPVT(NormalizedBackbone, backbones.PCPVT):
    """PCPVT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSVT(NormalizedBackbone, backbones.SVT):
    """SVT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSTDCNet(NormalizedBackbone, backbones.STDCNet):
    """STDCNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSTDCContextPathNet(NormalizedBackbone, backbones.STDCContextPathNet):
    """STDCContextPathNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedBEiT(NormalizedBackbone, backbones.BEiT):
    """BEiT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMAE(NormalizedBackbone, backbones.MAE):
    """MAE with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPIDNet(NormalizedBackbone, backbones.PIDNet):
    """PIDNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMSCAN(NormalizedBackbone, backbones.MSCAN):
    """MSCAN with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDDRNet(NormalizedBackbone, backbones.DDRNet):
    """DDRNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVPD(NormalizedBackbone, backbones.VPD):
    """VPD with the option ``normalize``."""
