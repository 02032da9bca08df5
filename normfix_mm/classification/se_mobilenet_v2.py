"""MobileNetV2 with EfficientNet's tricks (FixNorm, section 3.2 and the starred rows of Table 2).

Squeeze-and-excitation behind each depthwise convolution (squeezed to a quarter of the block's
inputs, as in EfficientNet), swish instead of ReLU6, and stochastic depth. The paper scales it to
×1.12 (4.7 million parameters, 386 million multiplications) and ×1.54 (8.0, 682), and does not say
how it rounds channels: with multiples of 4 these are 4.72, 388 and 8.11, 679; of 8, as in
MMPretrain's MobileNetV2, 4.64, 426 and 8.03, 685.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from mmpretrain.models.backbones import MobileNetV2
from mmpretrain.models.utils import InvertedResidual, make_divisible
from mmpretrain.registry import MODELS

from normfix_mm.classification.staged import StagedBackbone


@MODELS.register_module(force=True)
class SEMobileNetV2(StagedBackbone):
    """MobileNetV2 whose blocks squeeze, excite and are left out at random.

    Args:
        widen_factor: multiplies the number of channels of each layer.
        drop_path_rate: the last block's chance to be left out in training; it grows linearly with
            depth from 0 at the first.
        divisor: channels are multiples of it, but for the last layer's 1280 × ``widen_factor``.
        out_indices: of 0 to 7, the seven stages and the last layer.
        conv_cfg, norm_cfg: as in MMPretrain's MobileNetV2; BN by default.
        act_cfg: the activation, also in the squeezes; swish by default.
        **kwargs: StagedBackbone's.
    """

    names = (*(f"layer{i + 1}" for i in range(7)), "conv2")

    def __init__(
        self,
        widen_factor: float = 1.0,
        drop_path_rate: float = 0.0,
        divisor: int = 4,
        out_indices: Sequence[int] = (7,),
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(out_indices, **kwargs)
        act_cfg = act_cfg or dict(type="Swish")
        layer = dict(conv_cfg=conv_cfg, norm_cfg=norm_cfg or dict(type="BN"), act_cfg=act_cfg)
        stages = MobileNetV2.arch_settings
        blocks = sum(number for _, _, number, _ in stages)
        rates = iter(torch.linspace(0, drop_path_rate, blocks, device="cpu").tolist())
        channels = make_divisible(32 * widen_factor, divisor)
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **layer)
        for name, (expansion, width, number, stride) in zip(self.names, stages):
            blocks, wide = [], make_divisible(width * widen_factor, divisor)
            for index in range(number):
                squeezed = dict(
                    channels=channels * expansion,
                    squeeze_channels=channels // 4,
                    act_cfg=(act_cfg, dict(type="Sigmoid")),
                )
                block = InvertedResidual(
                    channels,
                    wide,
                    channels * expansion,
                    stride=stride if index == 0 else 1,
                    se_cfg=squeezed,
                    drop_path_rate=next(rates),
                    **layer,
                )
                blocks.append(block)
                channels = wide
            self.add_module(name, Sequential(*blocks))
        last = int(1280 * max(widen_factor, 1.0))
        self.conv2 = ConvModule(channels, last, 1, **layer)
