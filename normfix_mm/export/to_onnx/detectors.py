"""MMDetection's detectors from image to final boxes and masks, for a trace: one image at a time.

The networks are MMDetection's own; what chooses among their boxes stands here again, because a
trace takes for a constant how many there are. It is taken only in place of MMDetection's own
methods: a head with others is refused, and not computed otherwise than in torch.
"""

from __future__ import annotations

import torch
from mmdet.models.dense_heads import GFLHead, RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor, nn

from normfix_mm.errors import BadInput
from normfix_mm.export.to_onnx.boxes import (
    RoIFeatures,
    clip,
    decode,
    group_nms,
    large,
    levels,
    paste,
    rois_of,
)
from normfix_mm.export.to_onnx.images import Images, size_of
from normfix_mm.export.to_onnx.stock import check_stock

OUTPUTS = dict(
    boxes="float32 (n, 4): x1, y1, x2, y2 in pixels of the image given",
    scores="float32 (n): in falling order",
    labels="int64 (n): index into classes",
    masks="bool (n, H, W): of the image given",
)


def traceable(model: nn.Module) -> nn.Module:
    """The detector as a module from an image (1, 3, H, W) to boxes, scores, labels and masks.

    Raises:
        BadInput: A part of it works in another way than those written here.
    """
    if isinstance(model, TwoStageDetector):
        roi = model.roi_head
        kind = CascadeRoIHead if isinstance(roi, CascadeRoIHead) else StandardRoIHead
        check_stock(model, TwoStageDetector, "predict")
        check_stock(model.rpn_head, BaseDenseHead, "predict_by_feat")
        check_stock(model.rpn_head, RPNHead, "_predict_by_feat_single", "_bbox_post_process")
        check_stock(roi, kind, "predict_bbox", "predict_mask", "_bbox_forward", "_mask_forward")
        for head in _listed(roi.bbox_head):
            check_stock(head, BBoxHead, "_predict_by_feat_single", "regress_by_class")
            _check_scores(head)
        for head in _listed(getattr(roi, "mask_head", None)):
            check_stock(head, FCNMaskHead, "_predict_by_feat_single")
        _check_nms(model.rpn_head.test_cfg.nms, roi.test_cfg.nms)
        return TwoStage(model)
    if isinstance(model, SingleStageDetector):
        head = model.bbox_head
        single = GFLHead if isinstance(head, GFLHead) else BaseDenseHead
        check_stock(model, SingleStageDetector, "predict")
        check_stock(head, BaseDenseHead, "predict_by_feat", "_bbox_post_process")
        check_stock(head, single, "_predict_by_feat_single")
        _check_scores(head)
        _check_nms(head.test_cfg.nms)
        return OneStage(model)
    raise BadInput(f"{type(model).__name__} is neither a one-stage nor a two-stage detector.")


def _check_scores(head: nn.Module) -> None:
    if getattr(head.loss_cls, "custom_cls_channels", False):
        raise BadInput(f"{type(head.loss_cls).__name__} computes scores in a way of its own.")


def _check_nms(*settings) -> None:
    for setting in settings:
        others = set(setting) - {"type", "iou_threshold", "class_agnostic", "split_thr"}
        if setting.get("type", "nms") != "nms" or others:
            raise BadInput(f"ONNX's NonMaxSuppression cannot do {dict(setting)}.")


def _listed(part) -> list[nn.Module]:
    return list(part) if isinstance(part, nn.ModuleList) else [part] if part is not None else []


class OneStage(nn.Module):
    """RetinaNet, FCOS, ATSS, GFL and others whose head is a plain dense head."""

    outputs = ("boxes", "scores", "labels")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.images, self.model = Images(model.data_preprocessor), model

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        head, cfg = self.model.bbox_head, self.model.bbox_head.test_cfg
        size = size_of(image)
        features = self.model.extract_feat(self.images(image))
        boxes, scores, labels = [], [], []
        for priors, score, deltas, factor in levels(head, head(features)):
            anchor, label = (score > cfg.get("score_thr", 0)).nonzero().unbind(1)
            kept, order = score[anchor, label].sort(descending=True)
            order = order[: cfg.get("nms_pre", -1)]
            anchor, label = anchor[order], label[order]
            kept = kept[: cfg.get("nms_pre", -1)]
            boxes.append(decode(head.bbox_coder, priors[anchor], deltas[anchor], size))
            scores.append(kept if factor is None else kept * factor[anchor])
            labels.append(label)
        found = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        if cfg.get("min_bbox_size", -1) >= 0:
            found = large(cfg.min_bbox_size, *found)
        keep = group_nms(*found, size, cfg.nms)[: cfg.max_per_img]
        return tuple(each[keep] for each in found)


class TwoStage(nn.Module):
    """Faster, Mask and Cascade R-CNN."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.images, self.model = Images(model.data_preprocessor), model
        for name, module in list(model.roi_head.named_modules()):
            if isinstance(module, SingleRoIExtractor):
                parent, _, own = name.rpartition(".")
                setattr(model.roi_head.get_submodule(parent), own, RoIFeatures(module))
        self.with_mask = model.roi_head.with_mask
        self.outputs = ("boxes", "scores", "labels") + (("masks",) if self.with_mask else ())

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        roi, cfg = self.model.roi_head, self.model.roi_head.test_cfg
        size = size_of(image)
        features = self.model.extract_feat(self.images(image))
        proposals = self._proposals(features, size)
        refine = self._cascade if isinstance(roi, CascadeRoIHead) else self._once
        head, proposals, logits, deltas = refine(features, proposals, size)
        scores = logits.softmax(-1)[:, :-1]
        row, label = (scores > cfg.score_thr).nonzero().unbind(1)
        if not head.reg_class_agnostic:
            deltas = deltas.reshape(-1, head.num_classes, 4)[row, label]
        else:
            deltas = deltas[row]
        boxes = decode(head.bbox_coder, proposals[row], deltas, size)
        found = boxes, scores[row, label], label
        keep = group_nms(*found, size, cfg.nms)[: cfg.max_per_img]
        boxes, scores, labels = (each[keep] for each in found)
        if not self.with_mask:
            return boxes, scores, labels
        masks = self._masks(features, boxes, labels)
        height, width = image.shape[2:]
        return boxes, scores, labels, paste(masks, boxes, height, width) >= cfg.mask_thr_binary

    def _proposals(self, features: tuple[Tensor, ...], size: Tensor) -> Tensor:
        head, cfg = self.model.rpn_head, self.model.rpn_head.test_cfg
        boxes, scores, groups = [], [], []
        for level, (priors, score, deltas, _) in enumerate(levels(head, head(features))):
            score, order = score[:, 0].sort(descending=True)
            if cfg.get("nms_pre", -1) > 0:
                score, order = score[: cfg.nms_pre], order[: cfg.nms_pre]
            boxes.append(decode(head.bbox_coder, priors[order], deltas[order], size))
            scores.append(score)
            groups.append(torch.full_like(order, level))
        found = torch.cat(boxes), torch.cat(scores), torch.cat(groups)
        if cfg.get("min_bbox_size", -1) >= 0:
            found = large(cfg.min_bbox_size, *found)
        return found[0][group_nms(*found, size, cfg.nms)[: cfg.max_per_img]]

    def _once(self, features, proposals: Tensor, size: Tensor):
        roi = self.model.roi_head
        result = roi._bbox_forward(features, rois_of(proposals))
        return roi.bbox_head, proposals, result["cls_score"], result["bbox_pred"]

    def _cascade(self, features, proposals: Tensor, size: Tensor):
        roi = self.model.roi_head
        logits = []
        for stage, head in enumerate(roi.bbox_head):
            result = roi._bbox_forward(stage, features, rois_of(proposals))
            logits.append(result["cls_score"])
            if stage < roi.num_stages - 1:
                label = logits[-1][:, :-1].argmax(1)
                free = dict(img_shape=None)
                boxes = head.regress_by_class(proposals, label, result["bbox_pred"], free)
                proposals = clip(head.bbox_coder, boxes, size)
        return head, proposals, sum(logits) / float(len(logits)), result["bbox_pred"]

    def _masks(self, features, boxes: Tensor, labels: Tensor) -> Tensor:
        """Probabilities of the boxes' own classes, shape (n, h, w)."""
        roi, rois = self.model.roi_head, rois_of(boxes)
        if isinstance(roi, CascadeRoIHead):
            stages = [roi._mask_forward(stage, features, rois) for stage in range(roi.num_stages)]
        else:
            stages = [roi._mask_forward(features, rois)]
        masks = sum(stage["mask_preds"].sigmoid() for stage in stages) / float(len(stages))
        if masks.shape[1] == 1:
            return masks[:, 0]
        return masks[torch.arange(labels.shape[0], device=labels.device), labels]
