"""IoU of each class against pixels counted one by one."""

import pytest
import torch
from mmengine.registry import METRICS

from normfix_mm.segmentation import ClassIoUMetric

CLASSES = ("road", "car", "sky", "never seen")


def batch(seed):
    """Predictions and labels of two images; the last class is in neither, 255 in the labels."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randint(0, 3, (2, 6, 5), generator=generator)
    labels = torch.randint(0, 3, (2, 6, 5), generator=generator)
    labels[:, 0] = 255
    return predicted, labels


def test_each_class_is_a_value_beside_the_mean():
    metric = METRICS.build(dict(type="ClassIoUMetric", iou_metrics=["mIoU"]))
    assert type(metric) is ClassIoUMetric
    metric.dataset_meta = dict(classes=CLASSES)
    pixels = []
    for seed in (0, 1):
        predicted, labels = batch(seed)
        metric.process(
            {},
            [
                dict(pred_sem_seg=dict(data=p[None]), gt_sem_seg=dict(data=y[None]))
                for p, y in zip(predicted, labels)
            ],
        )
        pixels += zip(predicted.flatten().tolist(), labels.flatten().tolist())
    pixels = [(p, y) for p, y in pixels if y != 255]
    expected = {}
    for i, name in enumerate(CLASSES[:3]):
        both = sum(p == y == i for p, y in pixels)
        either = sum(i in (p, y) for p, y in pixels)
        expected[f"IoU/{name}"] = 100 * both / either
    found = metric.evaluate(size=4)
    assert {k: v for k, v in found.items() if k.startswith("IoU/")} == pytest.approx(
        expected, abs=0.01
    )
    assert found["mIoU"] == pytest.approx(sum(expected.values()) / 3, abs=0.01)
