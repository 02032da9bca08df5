"""MobileNetV1 (Howard et al., arXiv 1704.04861, Table 1), which MMPretrain lacks.

A 3×3 convolution, then thirteen pairs of a depthwise 3×3 and a 1×1 convolution, each with a norm
and a ReLU behind it. 4.23 million parameters with a classifier of 1000 classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule
from mmengine.model import Sequential
from mmpretrain.models.utils import make_divisible
from mmpretrain.registry import MODELS

from normfix_mm.classification.staged import StagedBackbone

# Output channels of the pairs of each stage; the first pair of a stage strides, but for stage 0.
_STAGES = ((64,), (128, 128), (256, 256), (512,) * 6, (1024, 1024))


@MODELS.register_module(force=True)
class MobileNetV1(StagedBackbone):
    """MobileNetV1.

    Args:
        widen_factor: multiplies the number of channels of each layer.
        out_indices: of 0 to 4, at strides 2, 4, 8, 16 and 32.
        conv_cfg, norm_cfg, act_cfg: as in MMPretrain's MobileNetV2; BN and ReLU by default.
        **kwargs: StagedBackbone's.
    """

    names = tuple(f"layer{i + 1}" for i in range(len(_STAGES)))

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (4,),
        conv_cfg: dict | None = None,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(out_indices, **kwargs)
        layer = dict(
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg or dict(type="BN"),
            act_cfg=act_cfg or dict(type="ReLU"),
        )
        channels = make_divisible(32 * widen_factor, 8)
        self.conv1 = ConvModule(3, channels, 3, stride=2, padding=1, **layer)
        for index, (name, outputs) in enumerate(zip(self.names, _STAGES)):
            pairs = []
            for pair, width in enumerate(outputs):
                stride = 2 if index > 0 and pair == 0 else 1
                wide = make_divisible(width * widen_factor, 8)
                depthwise = dict(stride=stride, padding=1, groups=channels)
                pairs += [
                    ConvModule(channels, channels, 3, **depthwise, **layer),
                    ConvModule(channels, wide, 1, **layer),
                ]
                channels = wide
            self.add_module(name, Sequential(*pairs))
