"""The names that evaluators give to what they report."""

from __future__ import annotations

from normfix_mm.datasets.config import type_name

# What the usual evaluators report, by what they are asked for; the judge of a run first.
REPORTED = {
    "CocoMetric": {"segm": ("segm_mAP",), "bbox": ("bbox_mAP",), "proposal": ("AR@1000",)},
    "LVISMetric": {"segm": ("segm_AP",), "bbox": ("bbox_AP",)},
    "VOCMetric": {"mAP": ("mAP",)},
    "IoUMetric": {"mIoU": ("mIoU",), "mDice": ("mDice",), "mFscore": ("mFscore",)},
    "Accuracy": {"": ("accuracy/top1",)},
}
JUDGES = tuple(
    name.rpartition("/")[2]
    for table in REPORTED.values()
    for names in table.values()
    for name in names
)
_COCO_ITEMS = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
_IOU_NAMES = dict(
    mIoU=("mIoU", "mAcc"),
    mDice=("mDice", "mAcc"),
    mFscore=("mFscore", "mPrecision", "mRecall"),
)


def names_reported(metric: dict) -> list[str]:
    """The names that an evaluator gives its values; empty where that is not known."""
    kind, prefix = type_name(metric), metric.get("prefix")
    if metric.get("classwise") or metric.get("format_only"):
        return []
    if kind == "CocoMetric":
        items = metric.get("metric_items") or _COCO_ITEMS
        prefix = prefix or "coco"
        asked = [each for each in coco_kinds(metric) if "pro" not in each]
        return [f"{prefix}/{each}_{item}" for each in asked for item in items]
    if kind == "IoUMetric" and not prefix:
        asked = metric.get("iou_metrics") or ["mIoU"]
        return ["aAcc", *(name for each in asked for name in _IOU_NAMES.get(each, ()))]
    return []


def coco_kinds(metric: dict) -> list[str]:
    """What a CocoMetric evaluates: 'bbox', 'segm' …"""
    kinds = metric.get("metric") or "bbox"
    return [kinds] if isinstance(kinds, str) else list(kinds)
