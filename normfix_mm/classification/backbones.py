"""MMPretrain's backbones with normalized convolutions: ``Normalized<X>`` for each backbone X.

    default_scope = 'mmpretrain'
    backbone=dict(type='NormalizedResNet', depth=50, normalize=dict(form='WS'))

``normfix_mm.models.backbones`` says what they do. In a classifier every norm trains: WS, CWN and WN
with ``gain=False`` suit it as well as the default, and norm fixing takes stock backbones as they
are. Only layers of squeeze-and-excitation blocks have no norm behind them, for which FixNorm
(appendix A.3) asks ``normalize=dict(form='WN', kind='se')``.

Names are in MMPretrain's own registry, for the reason that ``segmentation.backbones`` gives: three
packages have a ResNet each, and they differ. Elsewhere write 'mmpretrain.NormalizedResNet'.
"""

from mmpretrain.models import backbones
from mmpretrain.registry import MODELS

from normfix_mm.classification.mobilenet_v1 import MobileNetV1
from normfix_mm.classification.resnext_cifar import ResNeXtCIFAR, SEResNeXtCIFAR
from normfix_mm.classification.se_mobilenet_v2 import SEMobileNetV2
from normfix_mm.classification.se_resnet_d import SEResNetD
from normfix_mm.models.backbones import NormalizedBackbone
from normfix_mm.models.frozen_stages import FrozenStages

__all__ = [
    "NormalizedAlexNet",
    "NormalizedBEiTViT",
    "NormalizedCSPDarkNet",
    "NormalizedCSPNet",
    "NormalizedCSPResNeXt",
    "NormalizedCSPResNet",
    "NormalizedConformer",
    "NormalizedConvMixer",
    "NormalizedConvNeXt",
    "NormalizedDaViT",
    "NormalizedDeiT3",
    "NormalizedDenseNet",
    "NormalizedDistilledVisionTransformer",
    "NormalizedEdgeNeXt",
    "NormalizedEfficientFormer",
    "NormalizedEfficientNet",
    "NormalizedEfficientNetV2",
    "NormalizedHRNet",
    "NormalizedHiViT",
    "NormalizedHorNet",
    "NormalizedInceptionV3",
    "NormalizedLeNet5",
    "NormalizedLeViT",
    "NormalizedMViT",
    "NormalizedMixMIMTransformer",
    "NormalizedMlpMixer",
    "NormalizedMobileNetV1",
    "NormalizedMobileNetV2",
    "NormalizedMobileNetV3",
    "NormalizedMobileOne",
    "NormalizedMobileViT",
    "NormalizedPCPVT",
    "NormalizedPoolFormer",
    "NormalizedPyramidVig",
    "NormalizedRIFormer",
    "NormalizedRegNet",
    "NormalizedRepLKNet",
    "NormalizedRepMLPNet",
    "NormalizedRepVGG",
    "NormalizedRes2Net",
    "NormalizedResNeSt",
    "NormalizedResNeXt",
    "NormalizedResNeXtCIFAR",
    "NormalizedResNet",
    "NormalizedResNetV1c",
    "NormalizedResNetV1d",
    "NormalizedResNet_CIFAR",
    "NormalizedRevVisionTransformer",
    "NormalizedSEMobileNetV2",
    "NormalizedSEResNeXt",
    "NormalizedSEResNeXtCIFAR",
    "NormalizedSEResNet",
    "NormalizedSEResNetD",
    "NormalizedSVT",
    "NormalizedShuffleNetV1",
    "NormalizedShuffleNetV2",
    "NormalizedSparseConvNeXt",
    "NormalizedSparseResNet",
    "NormalizedSwinTransformer",
    "NormalizedSwinTransformerV2",
    "NormalizedT2T_ViT",
    "NormalizedTIMMBackbone",
    "NormalizedTNT",
    "NormalizedTinyViT",
    "NormalizedVAN",
    "NormalizedVGG",
    "NormalizedViTEVA02",
    "NormalizedViTSAM",
    "NormalizedVig",
    "NormalizedVisionTransformer",
    "NormalizedXCiT",
]


@MODELS.register_module(force=True)
class NormalizedAlexNet(NormalizedBackbone, backbones.AlexNet):
    """AlexNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedBEiTViT(NormalizedBackbone, backbones.BEiTViT):
    """BEiTViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPDarkNet(NormalizedBackbone, backbones.CSPDarkNet):
    """CSPDarkNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPNet(NormalizedBackbone, backbones.CSPNet):
    """CSPNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPResNeXt(NormalizedBackbone, backbones.CSPResNeXt):
    """CSPResNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedCSPResNet(NormalizedBackbone, backbones.CSPResNet):
    """CSPResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedConformer(NormalizedBackbone, backbones.Conformer):
    """Conformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedConvMixer(NormalizedBackbone, backbones.ConvMixer):
    """ConvMixer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedConvNeXt(NormalizedBackbone, backbones.ConvNeXt):
    """ConvNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDaViT(NormalizedBackbone, backbones.DaViT):
    """DaViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDeiT3(NormalizedBackbone, backbones.DeiT3):
    """DeiT3 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDenseNet(NormalizedBackbone, backbones.DenseNet):
    """DenseNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedDistilledVisionTransformer(
    NormalizedBackbone, backbones.DistilledVisionTransformer
):
    """DistilledVisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedEdgeNeXt(NormalizedBackbone, backbones.EdgeNeXt):
    """EdgeNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedEfficientFormer(NormalizedBackbone, backbones.EfficientFormer):
    """EfficientFormer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedEfficientNet(NormalizedBackbone, backbones.EfficientNet):
    """EfficientNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedEfficientNetV2(NormalizedBackbone, backbones.EfficientNetV2):
    """EfficientNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHRNet(NormalizedBackbone, backbones.HRNet):
    """HRNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHiViT(NormalizedBackbone, backbones.HiViT):
    """HiViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedHorNet(NormalizedBackbone, backbones.HorNet):
    """HorNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedInceptionV3(NormalizedBackbone, backbones.InceptionV3):
    """InceptionV3 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedLeNet5(NormalizedBackbone, backbones.LeNet5):
    """LeNet5 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedLeViT(NormalizedBackbone, backbones.LeViT):
    """LeViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMViT(NormalizedBackbone, backbones.MViT):
    """MViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMixMIMTransformer(NormalizedBackbone, backbones.MixMIMTransformer):
    """MixMIMTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMlpMixer(NormalizedBackbone, backbones.MlpMixer):
    """MlpMixer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV2(NormalizedBackbone, backbones.MobileNetV2):
    """MobileNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV3(NormalizedBackbone, backbones.MobileNetV3):
    """MobileNetV3 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileOne(NormalizedBackbone, backbones.MobileOne):
    """MobileOne with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileViT(NormalizedBackbone, backbones.MobileViT):
    """MobileViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPCPVT(NormalizedBackbone, backbones.PCPVT):
    """PCPVT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPoolFormer(NormalizedBackbone, backbones.PoolFormer):
    """PoolFormer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedPyramidVig(NormalizedBackbone, backbones.PyramidVig):
    """PyramidVig with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRIFormer(NormalizedBackbone, backbones.RIFormer):
    """RIFormer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRegNet(NormalizedBackbone, backbones.RegNet):
    """RegNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRepLKNet(NormalizedBackbone, backbones.RepLKNet):
    """RepLKNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRepMLPNet(NormalizedBackbone, backbones.RepMLPNet):
    """RepMLPNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRepVGG(NormalizedBackbone, backbones.RepVGG):
    """RepVGG with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRes2Net(NormalizedBackbone, backbones.Res2Net):
    """Res2Net with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeSt(NormalizedBackbone, backbones.ResNeSt):
    """ResNeSt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeXt(NormalizedBackbone, backbones.ResNeXt):
    """ResNeXt with the option ``normalize``."""


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
class NormalizedResNet_CIFAR(NormalizedBackbone, backbones.ResNet_CIFAR):  # noqa: N801
    """ResNet_CIFAR with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedRevVisionTransformer(NormalizedBackbone, backbones.RevVisionTransformer):
    """RevVisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSEResNeXt(NormalizedBackbone, backbones.SEResNeXt):
    """SEResNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSEResNet(NormalizedBackbone, backbones.SEResNet):
    """SEResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSVT(NormalizedBackbone, backbones.SVT):
    """SVT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedShuffleNetV1(NormalizedBackbone, backbones.ShuffleNetV1):
    """ShuffleNetV1 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedShuffleNetV2(NormalizedBackbone, backbones.ShuffleNetV2):
    """ShuffleNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSparseConvNeXt(NormalizedBackbone, backbones.SparseConvNeXt):
    """SparseConvNeXt with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSparseResNet(NormalizedBackbone, backbones.SparseResNet):
    """SparseResNet with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSwinTransformer(NormalizedBackbone, backbones.SwinTransformer):
    """SwinTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSwinTransformerV2(NormalizedBackbone, backbones.SwinTransformerV2):
    """SwinTransformerV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedT2T_ViT(NormalizedBackbone, backbones.T2T_ViT):  # noqa: N801
    """T2T_ViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedTIMMBackbone(FrozenStages, backbones.TIMMBackbone):
    """TIMMBackbone with the options ``normalize``, ``frozen_stages`` and ``norm_eval``."""


@MODELS.register_module(force=True)
class NormalizedTNT(NormalizedBackbone, backbones.TNT):
    """TNT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedTinyViT(NormalizedBackbone, backbones.TinyViT):
    """TinyViT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVAN(NormalizedBackbone, backbones.VAN):
    """VAN with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVGG(NormalizedBackbone, backbones.VGG):
    """VGG with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedViTEVA02(NormalizedBackbone, backbones.ViTEVA02):
    """ViTEVA02 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedViTSAM(NormalizedBackbone, backbones.ViTSAM):
    """ViTSAM with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVig(NormalizedBackbone, backbones.Vig):
    """Vig with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedVisionTransformer(NormalizedBackbone, backbones.VisionTransformer):
    """VisionTransformer with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedXCiT(NormalizedBackbone, backbones.XCiT):
    """XCiT with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedMobileNetV1(NormalizedBackbone, MobileNetV1):
    """MobileNetV1 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedResNeXtCIFAR(NormalizedBackbone, ResNeXtCIFAR):
    """ResNeXtCIFAR with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSEResNeXtCIFAR(NormalizedBackbone, SEResNeXtCIFAR):
    """SEResNeXtCIFAR with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSEMobileNetV2(NormalizedBackbone, SEMobileNetV2):
    """SEMobileNetV2 with the option ``normalize``."""


@MODELS.register_module(force=True)
class NormalizedSEResNetD(NormalizedBackbone, SEResNetD):
    """SEResNetD with the option ``normalize``."""
