"""MMSegmentation's encoder-decoders for a trace: logits and label map at the image's own size.

The networks are MMSegmentation's own, and OCNet's; what stands behind the decode head, resizing to
the image and the label map, stands here again, with sizes that a trace follows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from normfix_mm.errors import BadInput
from normfix_mm.export.to_onnx.images import Images
from normfix_mm.export.to_onnx.stock import check_stock

OUTPUTS = dict(
    logits="float32 (N, channels, H, W): at the size of the images given",
    labels="int64 (N, H, W): the class of each pixel, index into classes",
)


def traceable(model: nn.Module) -> nn.Module:
    """The segmenter as a module from images (N, 3, H, W) to logits and label map.

    Raises:
        BadInput: It predicts in another way than the one written here.
    """
    check_stock(model, EncoderDecoder, "encode_decode", "inference", "postprocess_result")
    check_stock(model.decode_head, BaseDecodeHead, "predict", "predict_by_feat")
    if model.test_cfg.get("mode", "whole") != "whole":
        raise BadInput(
            "The config tests with a sliding window, whose number of steps no ONNX graph can make "
            "depend on the image; give --cfg-options model.test_cfg.mode=whole."
        )
    return Segmenter(model)


class Segmenter(nn.Module):
    outputs = ("logits", "labels")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.images, self.model = Images(model.data_preprocessor), model
        if self.images.size is not None:
            raise BadInput("The config pads every test image to one size (test_cfg.size).")

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.images(images)
        logits = self.model.decode_head(self.model.extract_feat(x))
        logits = F.interpolate(
            logits, x.shape[2:], mode="bilinear", align_corners=self.model.align_corners
        )
        logits = logits[:, :, : images.shape[2], : images.shape[3]]
        if self.model.out_channels > 1:
            return logits, logits.argmax(1)
        threshold = self.model.decode_head.threshold
        return logits, (logits[:, 0].sigmoid() > threshold).to(torch.int64)
