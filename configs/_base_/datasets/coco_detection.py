"""COCO with boxes, as in MMDetection, judged by the nine columns of ε-shift's Table VII."""

_base_ = ["mmdet::_base_/datasets/coco_detection.py", "./coco_columns.py"]

val_evaluator = dict(metric_items=_base_.columns)
test_evaluator = val_evaluator
