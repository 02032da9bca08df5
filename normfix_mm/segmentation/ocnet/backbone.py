"""OCNet's backbone: MMSegmentation's ResNetV1c, dilated, with a wide stem and ceil-mode pooling.

Deep stem 3-64-64-128, every dilation in full from a stage's first block, output stride 8; ceil-mode
pooling makes 97² features of 769² pixels and 129×257 of 1024×2048. MMSegmentation's
``open-mmlab://resnet101_v1c`` has a 64-channel stem and does not fit.
"""

from __future__ import annotations

from mmengine.registry import MODELS
from mmseg.models.backbones import ResNetV1c

from normfix_mm.models.backbones import NormalizedBackbone


@MODELS.register_module(force=True)
class DilatedResNetV1c(ResNetV1c):
    """ResNetV1c whose defaults are OCNet's ResNet-101 and whose max-pool rounds up."""

    def __init__(
        self,
        depth: int = 101,
        stem_channels: int = 128,
        strides: tuple[int, ...] = (1, 2, 1, 1),
        dilations: tuple[int, ...] = (1, 1, 2, 4),
        contract_dilation: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(
            depth=depth,
            stem_channels=stem_channels,
            strides=strides,
            dilations=dilations,
            contract_dilation=contract_dilation,
            **kwargs,
        )
        self.maxpool.ceil_mode = True


@MODELS.register_module(force=True)
class NormalizedDilatedResNetV1c(NormalizedBackbone, DilatedResNetV1c):
    """DilatedResNetV1c with the option ``normalize``."""
