"""ResNeXt for CIFAR (Xie et al., arXiv 1611.05431, section 5.2), which MMPretrain lacks.

A 3×3 stem of stride 1 without pooling, then three stages of three blocks. ``groups=16,
width_per_group=64`` is ResNeXt-29 16×64d, of 68.1 million parameters with ten classes. The variant
with squeeze-and-excitation has one such layer at the end of each block, ratio 16.
"""

from mmpretrain.models.backbones import ResNet_CIFAR, ResNeXt, SEResNeXt
from mmpretrain.models.backbones.resnext import Bottleneck
from mmpretrain.models.backbones.seresnext import SEBottleneck
from mmpretrain.registry import MODELS

_THREE_STAGES = dict(num_stages=3, strides=(1, 2, 2), dilations=(1, 1, 1), out_indices=(2,))


@MODELS.register_module(force=True)
class ResNeXtCIFAR(ResNet_CIFAR, ResNeXt):
    """ResNeXt with CIFAR's stem and three stages; takes what MMPretrain's ResNeXt does."""

    arch_settings = {29: (Bottleneck, (3, 3, 3))}

    def __init__(self, depth: int = 29, groups: int = 16, width_per_group: int = 64, **kwargs):
        options = _THREE_STAGES | kwargs
        super().__init__(depth, groups=groups, width_per_group=width_per_group, **options)


@MODELS.register_module(force=True)
class SEResNeXtCIFAR(ResNet_CIFAR, SEResNeXt):
    """SEResNeXt with CIFAR's stem and three stages; takes what MMPretrain's SEResNeXt does."""

    arch_settings = {29: (SEBottleneck, (3, 3, 3))}

    def __init__(self, depth: int = 29, groups: int = 16, width_per_group: int = 64, **kwargs):
        options = _THREE_STAGES | kwargs
        super().__init__(depth, groups=groups, width_per_group=width_per_group, **options)
