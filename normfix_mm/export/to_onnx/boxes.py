"""MMDetection's arithmetic on boxes and masks, by standard operators and for any number of them.

    RoIFeatures   ``SingleRoIExtractor``, which assigns in place; RoIAlign is torchvision's
    paste         ``_do_paste_mask``, which pastes one by one
    levels        the first half of a dense head's ``predict_by_feat``, for one image
    group_nms     mmcv's ``batched_nms``; NMS is torchvision's

mmcv's NMS and RoIAlign compute the same as torchvision's, which become ONNX's own operators.
"""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import GFLHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn
from torchvision.ops import nms, roi_align

from normfix_mm.errors import BadInput


class RoIFeatures(nn.Module):
    """SingleRoIExtractor by standard operators: each level's RoIs apart, then in order again."""

    def __init__(self, stock: SingleRoIExtractor) -> None:
        super().__init__()
        for layer in stock.roi_layers:
            if type(layer).__name__ != "RoIAlign" or layer.pool_mode != "avg":
                raise BadInput(f"ONNX's RoIAlign cannot do {layer}.")
        self.layers, self.num_inputs = list(stock.roi_layers), stock.num_inputs
        self.map_roi_levels = stock.map_roi_levels

    def forward(self, features: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        if len(self.layers) == 1:
            return self._align(0, features[0], rois)
        levels = self.map_roi_levels(rois, len(self.layers))
        places = [(levels == level).nonzero()[:, 0] for level in range(len(self.layers))]
        parts = [
            self._align(level, features[level], rois[place]) for level, place in enumerate(places)
        ]
        return torch.cat(parts)[torch.cat(places).argsort()]

    def _align(self, level: int, features: Tensor, rois: Tensor) -> Tensor:
        layer = self.layers[level]
        return roi_align(
            features,
            rois,
            layer.output_size,
            layer.spatial_scale,
            max(0, layer.sampling_ratio),
            layer.aligned,
        )


def paste(masks: Tensor, boxes: Tensor, height, width) -> Tensor:
    """Masks in the image, bilinear and zero outside: shape (n, h, w) to (n, height, width).

    A mask's pixel has the weight max(0, 1 - distance) along each side, in its pixels: two products
    of matrices, without the grid of n × height × width points that ``grid_sample`` needs.
    """

    def weights(pixels, start: Tensor, end: Tensor, count: int) -> Tensor:
        """Shape (n, pixels, count)."""
        at = torch.arange(pixels, device=boxes.device).to(boxes.dtype) + 0.5
        at = (at - start[:, None]) / (end - start)[:, None] * count - 0.5
        own = torch.arange(count, device=boxes.device, dtype=boxes.dtype)
        return (1 - (at[:, :, None] - own).abs()).clamp(min=0)

    x1, y1, x2, y2 = boxes.unbind(1)
    rows = weights(height, y1, y2, masks.shape[1])
    columns = weights(width, x1, x2, masks.shape[2])
    return rows @ masks @ columns.transpose(1, 2)


def levels(head: nn.Module, outputs: tuple[list[Tensor], ...]):
    """Of each level: priors, scores (anchors, classes), deltas, and factors or None."""
    logits, deltas, *factors = outputs
    sizes = [level.shape[-2:] for level in logits]
    priors = head.prior_generator.grid_priors(sizes, dtype=logits[0].dtype, device=logits[0].device)
    for level, prior in enumerate(priors):
        score = _rows(logits[level], head.cls_out_channels)
        score = score.sigmoid() if head.use_sigmoid_cls else score.softmax(-1)[:, :-1]
        if isinstance(head, GFLHead):
            stride = head.prior_generator.strides[level][0]
            delta = head.integral(deltas[level][0].permute(1, 2, 0)) * stride
            prior = head.anchor_center(prior)
        else:
            delta = _rows(deltas[level], head.bbox_coder.encode_size)
        factor = _rows(factors[0][level], 1)[:, 0].sigmoid() if factors else None
        yield prior, score, delta, factor


def _rows(level: Tensor, width: int) -> Tensor:
    return level[0].permute(1, 2, 0).reshape(-1, width)


def rois_of(boxes: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(boxes[:, :1]), boxes], 1)


def decode(coder, priors: Tensor, deltas: Tensor, size: Tensor) -> Tensor:
    return clip(coder, coder.decode(priors, deltas), size)


def clip(coder, boxes: Tensor, size: Tensor) -> Tensor:
    return torch.minimum(boxes.clamp(min=0), size) if coder.clip_border else boxes


def large(least: float, boxes: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """The boxes wider and higher than that, and what belongs to them."""
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    (kept,) = ((width > least) & (height > least)).nonzero().unbind(1)
    return tuple(each[kept] for each in (boxes, *others))


def group_nms(boxes: Tensor, scores: Tensor, group: Tensor, size: Tensor, cfg) -> Tensor:
    """Which boxes stay, by falling score; groups do not touch each other."""
    if not cfg.get("class_agnostic", False):
        reach = torch.cat([boxes.flatten(), size]).max() + 1  # never of nothing
        boxes = boxes + (group.to(boxes.dtype) * reach)[:, None]
    return nms(boxes, scores, cfg["iou_threshold"])
