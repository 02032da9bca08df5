"""Masks in the pictures: COCO's three ways to write them, and what is painted on a real image."""

import json

import numpy as np
import pytest
import torch
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData
from pycocotools import mask

from normfix_mm.report import boxes

register_all_modules()
SQUARE = np.zeros((12, 10), bool)
SQUARE[3:8, 2:7] = True


@pytest.mark.parametrize("form", ["polygon", "counts", "compressed"])
def test_bitmap(form):
    compressed = mask.encode(np.asfortranarray(SQUARE.astype(np.uint8)))
    flat = SQUARE.flatten(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    segmentation = {
        "polygon": [[2, 3, 7, 3, 7, 8, 2, 8]],
        "counts": dict(size=list(SQUARE.shape), counts=counts),
        "compressed": compressed,
    }[form]
    assert np.array_equal(boxes._bitmap(segmentation, *SQUARE.shape), SQUARE)


def test_masks_are_painted_where_they_are(real_data):
    from mmdet.datasets import CocoDataset

    root = real_data / "nuclei"
    dataset = CocoDataset(
        data_root=str(root),
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="images/val/"),
        metainfo=dict(classes=("nucleus",)),
        test_mode=True,
        pipeline=[],
    )
    info = dataset.get_data_info(0)
    truth = boxes._truth(info, masks=True)
    annotations = json.loads((root / "annotations/instances_val.json").read_text())["annotations"]
    own = [a for a in annotations if a["image_id"] == info["img_id"]]
    areas = [a["area"] for a in own]
    assert len(own) > 3 and truth.masks.sum((1, 2)).tolist() == pytest.approx(areas)

    assert "masks" not in boxes._truth(info, masks=False)  # beside a detector of boxes

    picture = np.full((*truth.masks.shape[1:], 3), 40, np.uint8)
    plain = boxes._paint(picture, ("nucleus",), InstanceData(bboxes=np.zeros((0, 4)), labels=[]))
    painted = boxes._paint(picture, ("nucleus",), truth)
    assert plain.shape == painted.shape == (boxes.SIDE, boxes.SIDE, 3)
    changed = (painted != plain).any(-1).mean()
    assert changed == pytest.approx(truth.masks.any(0).mean(), abs=0.01)


def test_the_best_box_is_drawn_last():
    from mmdet.structures import DetDataSample

    objects = InstanceData(
        bboxes=torch.tensor([[0.0, 0, 5, 5], [1, 1, 6, 6], [2, 2, 7, 7]]),
        scores=torch.tensor([0.6, 0.35, 0.9]),
        labels=torch.tensor([4, 5, 1]),
    )
    shown = boxes._sure(DetDataSample(pred_instances=objects))
    assert shown.labels.tolist() == [5, 4, 1]
