"""What is kept of a COCO evaluation, against MMDetection's own classwise AP and confusion tool."""

import importlib.util
import json
import logging
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmdet.evaluation import CocoMetric
from mmdet.evaluation.metrics import coco_metric
from mmengine.structures import InstanceData
from pycocotools import mask

from normfix_mm.engine.hooks import class_record

NAMES = ("cat", "dog", "nobody", "hen")
CATS = (7, 3, 9, 5)  # in this order in the file, not sorted


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """An annotation file of 12 images with objects of three of four classes."""
    rng = np.random.default_rng(0)
    images = [dict(id=i, width=100, height=100, file_name=f"{i}.jpg") for i in range(12)]
    annotations = []
    for image in images:
        for _ in range(rng.integers(0, 5)):
            x, y, w, h = (*rng.integers(0, 60, 2).tolist(), *rng.integers(10, 40, 2).tolist())
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=image["id"],
                    category_id=int(rng.choice([7, 3, 5])),
                    bbox=[x, y, w, h],
                    area=w * h,
                    iscrowd=0,
                    segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                )
            )
    categories = [dict(id=cat, name=name) for cat, name in zip(CATS, NAMES)]
    path = tmp_path_factory.mktemp("coco") / "truth.json"
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
    return path


def predicted(truth, seed=1):
    """Of each image some of its boxes, shaken, some with another class, and some out of nowhere."""
    rng, data = np.random.default_rng(seed), json.loads(truth.read_text())
    results = []
    for image in data["images"]:
        own = [a for a in data["annotations"] if a["image_id"] == image["id"]]
        rows = []
        for each in own * 2:
            x, y, w, h = np.array(each["bbox"]) + rng.normal(0, 2.5, 4)
            right = rng.random() < 0.7
            label = CATS.index(each["category_id"]) if right else rng.integers(4)
            rows.append([x, y, x + w, y + h, label, rng.random()])
        rows.append([1, 1, 20, 20, rng.integers(4), rng.random()])
        table = np.array(rows)
        masks = np.zeros((len(rows), 100, 100), np.uint8)
        for canvas, (x, y, right, bottom) in zip(masks, table[:, :4].round().astype(int)):
            canvas[max(y, 0) : bottom, max(x, 0) : right] = 1
        found = dict(
            img_id=image["id"],
            bboxes=table[:, :4],
            labels=table[:, 4].astype(int),
            scores=table[:, 5],
            masks=[mask.encode(np.asfortranarray(canvas)) for canvas in masks],
        )
        results.append((dict(img_id=image["id"], width=100, height=100), found))
    return results


def evaluated(truth, results, **options):
    """What CocoMetric says, and what is kept."""
    metric = CocoMetric(ann_file=str(truth), classwise=True, **options)
    metric.dataset_meta = dict(classes=NAMES)
    with class_record._kept() as kept:
        said = metric.compute_metrics(results)
    return said, class_record.record(kept, metric.cat_ids, [found for _, found in results])


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_ap_of_each_class_is_mmdetection_s(truth, kind):
    said, kept = evaluated(truth, predicted(truth), metric=kind)
    assert kept["classes"] == list(NAMES)
    found = kept["kinds"][kind]
    assert found["ap"][2] is None and found["precision_at"][2] is None  # no object of it
    there = [ap for ap in found["ap"] if ap is not None]
    for cat, ap in zip(CATS, found["ap"]):
        # MMDetection's table gives the values in the order of the categories' numbers to the names
        # in the order of the file: with numbers such as these, to the wrong ones.
        told = said[f"{NAMES[sorted(CATS).index(cat)]}_precision"]
        assert np.isnan(told) if ap is None else ap == pytest.approx(told, abs=6e-4)
    assert 0.1 < min(there) < max(there) < 0.9
    assert np.mean(there) == pytest.approx(said[f"{kind}_mAP"], abs=6e-4)
    at = [ap for ap in found["ap_at"] if ap is not None]
    assert found["iou"] == 0.5 and np.mean(at) == pytest.approx(said[f"{kind}_mAP_50"], abs=6e-4)
    curves = [curve for curve in found["precision_at"] if curve is not None]
    assert np.mean(curves) == pytest.approx(np.mean(at), abs=1e-3)  # the area below
    data = json.loads(truth.read_text())["annotations"]
    assert kept["objects"] == [sum(a["category_id"] == cat for a in data) for cat in CATS]


def test_thresholds_of_one_s_own(truth):
    said, kept = evaluated(truth, predicted(truth), iou_thrs=np.linspace(0.6, 0.95, 8))
    found = kept["kinds"]["bbox"]
    assert found["iou"] == 0.6
    there = [ap for ap in found["ap"] if ap is not None]
    assert np.mean(there) == pytest.approx(said["bbox_mAP"], abs=6e-4)


def test_the_confusion_is_that_of_mmdetection_s_tool(truth):
    tool = Path(mmdet.__file__).parent / ".mim/tools/analysis_tools/confusion_matrix.py"
    spec = importlib.util.spec_from_file_location("confusion_matrix", tool)
    theirs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(theirs)
    results = predicted(truth)
    data = json.loads(truth.read_text())["annotations"]
    expected = np.zeros((5, 5))
    for _, found in results:
        objects = [
            dict(bbox=[x, y, x + w, y + h], bbox_label=CATS.index(a["category_id"]))
            for a in data
            if a["image_id"] == found["img_id"]
            for x, y, w, h in [a["bbox"]]
        ]
        boxes = InstanceData(
            bboxes=torch.tensor(found["bboxes"]),
            labels=torch.tensor(found["labels"]),
            scores=torch.tensor(found["scores"]),
        )
        if objects:
            theirs.analyze_per_img_dets(expected, objects, boxes, score_thr=0.3)
        else:  # where it fails
            for label, score in zip(found["labels"], found["scores"]):
                expected[-1, label] += score >= 0.3
    _, kept = evaluated(truth, results)
    assert np.array_equal(kept["confusion"], expected)
    assert expected[:-1, :-1].sum() > expected.trace() > 5
    assert expected[-1].any() and expected[:, -1].any()


def test_a_crowd_is_no_object_and_excuses_what_lies_in_it(truth, tmp_path):
    data = json.loads(truth.read_text())
    crowd = dict(image_id=0, category_id=7, bbox=[0, 0, 50, 50], area=2500, iscrowd=1)
    counts = mask.encode(np.asfortranarray(np.ones((100, 100), np.uint8)))
    counts["counts"] = counts["counts"].decode()
    data["annotations"] = [dict(crowd, id=1, segmentation=counts)]
    path = tmp_path / "crowd.json"
    path.write_text(json.dumps(data))
    inside, beside = [10.0, 10, 30, 30], [60.0, 60, 90, 90]
    found = dict(img_id=0, bboxes=np.array([inside, beside]), labels=np.array([0, 1]))
    found["scores"] = np.array([0.9, 0.9])
    _, kept = evaluated(path, [(dict(img_id=0), found)])
    counts = np.array(kept["confusion"])
    assert counts.sum() == 1 and counts[4, 1] == 1
    assert kept["objects"] == [0, 0, 0, 0]


def test_mmdetection_is_left_as_it_was(truth, caplog):
    stock = coco_metric.COCOeval
    with caplog.at_level(logging.CRITICAL), pytest.raises(KeyError):
        evaluated(truth, predicted(truth), metric_items=["no such item"])
    assert coco_metric.COCOeval is stock
