"""What an evaluation of a detector knows of each class, in a file beside the curves.

MMDetection's CocoMetric gives means over the classes, and lets the arrays go that they are means
of. Here those of the last evaluation stay in ``<time>/vis_data/classes.json``: AP and precision
over recall of each class, from pycocotools' own arrays; and which class is taken for which.
Nothing is predicted or evaluated a second time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from normfix_mm.checkpoints.whole_file import replacing

FILE = "vis_data/classes.json"
SCORE, IOU = 0.3, 0.5  # of the confusion; those of MMDetection's confusion_matrix.py


@HOOKS.register_module(force=True)
class ClassRecordHook(Hook):
    """Write ``classes.json`` at each evaluation by a CocoMetric."""

    def __init__(self) -> None:
        self._found: dict | None = None

    def before_val_epoch(self, runner) -> None:
        self._found = None
        for metric in runner.val_loop.evaluator.metrics:
            if _is_coco(metric) and "compute_metrics" not in vars(metric):
                metric.compute_metrics = partial(self._listen, metric, metric.compute_metrics)

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._found is None or not is_main_process():
            return
        with replacing(Path(runner.log_dir) / FILE) as part:
            part.write_text(json.dumps(dict(step=runner.iter) | self._found))

    def _listen(self, metric, compute, results: list) -> dict:
        with _kept() as evaluations:
            values = compute(results)
        done = [e for e in evaluations if e.eval and e.params.useCats]
        if done:
            self._found = record(done, metric.cat_ids, [found for _, found in results])
        return values


def _is_coco(metric) -> bool:
    """Without importing MMDetection where it is not in use."""
    return any(
        kind.__name__ == "CocoMetric" and kind.__module__.startswith("mmdet.")
        for kind in type(metric).__mro__
    )


@contextlib.contextmanager
def _kept() -> Iterator[list]:
    """Inside, what CocoMetric makes to evaluate by is kept in the list that this gives.

    CocoMetric holds it in a local variable; so the name by which it makes it is another's here.
    """
    from mmdet.evaluation.metrics import coco_metric

    kept: list = []

    def keeping(kind):
        def make(*args, **kwargs):
            kept.append(kind(*args, **kwargs))
            return kept[-1]

        return make

    names = ("COCOeval", "COCOevalMP")
    stock = {name: getattr(coco_metric, name) for name in names if hasattr(coco_metric, name)}
    try:
        for name, kind in stock.items():
            setattr(coco_metric, name, keeping(kind))
        yield kept
    finally:
        for name, kind in stock.items():
            setattr(coco_metric, name, kind)


def record(evaluations: Sequence, cat_ids: Sequence[int], predictions: Sequence[dict]) -> dict:
    """What there is to say of each class, ready for JSON.

    Args:
        evaluations: pycocotools' COCOeval of boxes or masks, or both, evaluated and accumulated.
        cat_ids: the category of each of the model's labels.
        predictions: of each image `img_id`, `bboxes` of shape (n, 4), corners, `labels`, `scores`.

    Returns:
        `classes`, their names; `objects`, how many of each there are; `kinds`, by 'bbox' and
        'segm' what :func:`by_class` gives; `confusion`, see there, `score` and `iou`.
    """
    truth = evaluations[0].cocoGt
    images = [int(image) for image in evaluations[0].params.imgIds]
    return dict(
        classes=[truth.cats[cat]["name"] for cat in cat_ids],
        objects=[len(truth.getAnnIds(images, [cat], iscrowd=False)) for cat in cat_ids],
        kinds={each.params.iouType: by_class(each, cat_ids) for each in evaluations},
        confusion=confusion(truth, cat_ids, predictions).tolist(),
        score=SCORE,
        iou=IOU,
    )


def by_class(evaluation, cat_ids: Sequence[int]) -> dict:
    """AP and precision over recall of each class, objects of all sizes.

    Returns:
        `iou`, the threshold that `ap_at` and `precision_at` belong to: .5 if it was evaluated, else
        the first; `ap` and `precision`, means over all thresholds. The precisions have the shape
        (classes, recalls), the recalls going evenly from 0 to 1. None for a class without objects.
    """
    # (thresholds, recalls, categories, sizes, numbers of detections); -1 without objects
    arrays = evaluation.eval["precision"][..., 0, -1]
    thresholds = np.asarray(evaluation.params.iouThrs)
    at = int(np.abs(thresholds - IOU).argmin()) if np.isclose(thresholds, IOU).any() else 0
    place = {int(cat): k for k, cat in enumerate(evaluation.params.catIds)}  # sorted there
    mine = [arrays[:, :, place[int(cat)]] for cat in cat_ids]
    there = [bool((each > -1).all()) for each in mine]

    def listed(values: list) -> list:
        return [np.round(v, 4).tolist() if ok else None for v, ok in zip(values, there)]

    return dict(
        iou=float(thresholds[at]),
        ap=listed([each.mean() for each in mine]),
        ap_at=listed([each[at].mean() for each in mine]),
        precision=listed([each.mean(0) for each in mine]),
        precision_at=listed([each[at] for each in mine]),
    )


def confusion(truth, cat_ids: Sequence[int], predictions: Sequence[dict]) -> np.ndarray:
    """How often an object of one class is covered by a box of another, counted in boxes.

    As MMDetection's tools/analysis_tools/confusion_matrix.py defines it: each box of a score of at
    least SCORE counts once for every object whose box it covers by an IoU of at least IOU, in the
    row of the object's class and the column of its own; one that covers none counts in the last
    row. An object that no box of its own class covers counts in the last column. Other than there,
    a crowd is no object, and a box in it no mistake, as in COCO's evaluation.

    Args:
        truth: pycocotools' COCO.

    Returns:
        Counts of shape (classes + 1, classes + 1), the last of each the background.
    """
    from pycocotools import mask

    label_of = {int(cat): label for label, cat in enumerate(cat_ids)}
    none = len(label_of)
    counts = np.zeros((none + 1, none + 1), int)
    for found in predictions:
        there = [a for a in truth.imgToAnns[found["img_id"]] if a["category_id"] in label_of]
        crowd = np.array([bool(a.get("iscrowd")) for a in there], bool)
        objects = np.array([label_of[a["category_id"]] for a in there], int)
        sure = np.asarray(found["scores"]) >= SCORE
        labels = np.asarray(found["labels"])[sure].astype(int)
        boxes = np.array(found["bboxes"], float).reshape(-1, 4)[sure]
        boxes[:, 2:] -= boxes[:, :2]
        covers = np.zeros((len(labels), len(there)), bool)
        if covers.size:
            known = np.array([a["bbox"] for a in there], float)
            covers = np.asarray(mask.iou(boxes, known, crowd.astype("u1"))) >= IOU
        excused = covers[:, crowd].any(1)
        covers, objects = covers[:, ~crowd], objects[~crowd]
        box, covered = covers.nonzero()
        np.add.at(counts, (objects[covered], labels[box]), 1)
        np.add.at(counts, (none, labels[~covers.any(1) & ~excused]), 1)
        right = covers & (labels[:, None] == objects)
        np.add.at(counts, (objects[~right.any(0)], none), 1)
    return counts
