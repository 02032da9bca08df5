"""COCO with boxes and masks, as in MMDetection, both judged by the nine columns of Table VII."""

_base_ = ["mmdet::_base_/datasets/coco_instance.py", "./coco_columns.py"]

val_evaluator = dict(metric_items=_base_.columns)
test_evaluator = val_evaluator
