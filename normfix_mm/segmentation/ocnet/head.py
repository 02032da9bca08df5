"""OCNet's decode head for MMSegmentation (arXiv 1809.00916; ``contexts`` has the differences).

Its auxiliary head on layer 3 is MMSegmentation's own; with Pyramid-OC the authors give it no
activation (``act_cfg=None``), with ASP-OC a dropout of 0.1::

    auxiliary_head=dict(
        type='FCNHead', in_channels=1024, in_index=2, channels=512, num_convs=1,
        concat_input=False, dropout_ratio=0.05, num_classes=19, align_corners=True,
        norm_cfg=norm_cfg, act_cfg=dict(type='LeakyReLU', negative_slope=0.01))
"""

from __future__ import annotations

from functools import partial

from mmcv.cnn import ConvModule
from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from normfix_mm.segmentation.ocnet.contexts import ASPOC, BaseOC, PyramidOC

CONTEXTS = dict(base=BaseOC, asp=ASPOC, pyramid=PyramidOC)


@MODELS.register_module(force=True)
class OCHead(BaseDecodeHead):
    """3×3 layer, object context, dropout, classifier; any size of input.

    Args:
        in_channels: of the backbone's last stage.
        channels: of everything up to the classifier.
        context: 'base', 'asp' or 'pyramid'.
        dropout_ratio: by default the context's own.
        norm_cfg, act_cfg, align_corners: the paper's by default, except that BN is not synchronized
            between GPUs.
        **kwargs: of MMSegmentation's BaseDecodeHead, such as num_classes and loss_decode.

    Raises:
        ValueError: No such context.
    """

    def __init__(
        self,
        in_channels: int = 2048,
        channels: int = 512,
        *,
        context: str = "base",
        dropout_ratio: float | None = None,
        norm_cfg: dict | None = dict(type="BN"),  # noqa: B006  never changed
        act_cfg: dict | None = dict(type="LeakyReLU", negative_slope=0.01),  # noqa: B006
        align_corners: bool = True,
        **kwargs,
    ) -> None:
        if context not in CONTEXTS:
            raise ValueError(f"No context {context!r}; choose one of {', '.join(CONTEXTS)}.")
        kind = CONTEXTS[context]
        super().__init__(
            in_channels,
            channels,
            dropout_ratio=kind.dropout_ratio if dropout_ratio is None else dropout_ratio,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            align_corners=align_corners,
            **kwargs,
        )
        layer = partial(ConvModule, conv_cfg=self.conv_cfg, norm_cfg=norm_cfg, act_cfg=act_cfg)
        bare = {} if kind.input_activated else dict(act_cfg=None)
        self.bottleneck = layer(self.in_channels, channels, 3, padding=1, **bare)
        self.context = kind(channels, layer)

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits of shape (N, out_channels, H, W) from the backbone's outputs."""
        return self.cls_seg(self.context(self.bottleneck(self._transform_inputs(inputs))))
