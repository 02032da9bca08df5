"""What a trained detector sees: ground truth and predictions drawn on validation images.

Boxes and masks are drawn by MMEngine's visualizer. Small images are enlarged first, so that labels
can be read. Where there are masks, each object has a colour of its own instead of a box.
"""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.dataset import BaseDataset
from mmengine.structures import InstanceData

from normfix_mm.report.images import SIDE, Drawn, enlarged, predict
from normfix_mm.report.plots import class_colours
from normfix_mm.report.run import Run

SCORE = 0.35
LUMINANCE = (0.299, 0.587, 0.114)
NOTE = f"Predictions with a score under {SCORE:.0%} are left out; "
BOXES = "the number after a class is the score in per cent."
MASKS = "each mask has a colour of its own, whatever its class."


def draw(runs: list[Run], dataset: BaseDataset, chosen: Sequence[int]) -> Drawn:
    """For each chosen image: drawn with the ground truth, then with each run's predictions."""
    from mmdet.apis import init_detector

    infos = [dataset.get_data_info(index) for index in chosen]
    images = [mmcv.imread(info["img_path"], channel_order="rgb") for info in infos]
    names = tuple(dataset.metainfo["classes"])
    samples = [dataset[index] for index in chosen]
    found = [[_sure(end) for end in predict(run, init_detector, samples)] for run in runs]
    masks = any("masks" in objects for prediction in found for objects in prediction)
    rows = []
    for image, info, *predictions in zip(images, infos, *found):
        shown = [_truth(info, masks), *predictions]
        rows.append([_paint(image, names, objects) for objects in shown])
    titles = ["ground truth", *(f"{run.name}: predictions" for run in runs)]
    return Drawn(titles, rows, NOTE + (MASKS if masks else BOXES))


def _truth(info: dict, masks: bool) -> InstanceData:
    """Boxes of the annotated objects, and their masks if there are and they are to be shown."""
    objects = [o for o in info["instances"] if not o.get("ignore_flag")]
    truth = InstanceData(
        bboxes=np.array([o["bbox"] for o in objects], np.float32).reshape(-1, 4),
        labels=np.array([o["bbox_label"] for o in objects], int),
    )
    if masks and objects and all("mask" in o for o in objects):
        size = info["height"], info["width"]
        truth.masks = np.stack([_bitmap(o["mask"], *size) for o in objects])
    return truth


def _bitmap(segmentation: list | dict, height: int, width: int) -> np.ndarray:
    """Bool array (height, width) of COCO's polygons or run lengths."""
    from pycocotools import mask

    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        segmentation = mask.frPyObjects(segmentation, height, width)
    if isinstance(segmentation, list):
        segmentation = mask.merge(segmentation)
    return mask.decode(segmentation).astype(bool)


def _sure(sample) -> InstanceData:
    """A prediction's objects of a score worth showing, in numpy, the best last and so on top."""
    objects = sample.pred_instances
    objects = objects[objects.scores >= SCORE]
    return objects[objects.scores.argsort(stable=True)].numpy()


def _paint(image: np.ndarray, names: tuple[str, ...], objects: InstanceData) -> np.ndarray:
    """The image, resized: boxes in their classes' colours with a label, or masks."""
    import cv2
    from matplotlib import colormaps
    from mmengine.visualization import Visualizer

    scale = SIDE / max(image.shape[:2])
    image = enlarged(image)
    if not len(objects):
        return image
    painter = Visualizer(image=image)
    masks = objects.get("masks")
    if masks is not None:
        size = image.shape[1::-1]
        masks = [cv2.resize(m.astype("u1"), size, interpolation=cv2.INTER_NEAREST) for m in masks]
        hues = colormaps["tab10"]
        colours = [tuple(int(255 * c) for c in hues(i % 10)[:3]) for i in range(len(masks))]
        painter.draw_binary_masks(np.stack(masks).astype(bool), colors=colours, alphas=0.6)
        return painter.get_image()
    labels, boxes = objects.labels, objects.bboxes * scale
    colours = [class_colours(len(names))[i] for i in labels]
    texts = [names[i] for i in labels]
    if "scores" in objects:
        texts = [f"{text} {100 * score:.0f}" for text, score in zip(texts, objects.scores)]
    painter.draw_bboxes(boxes, edge_colors=colours, line_widths=2)
    # Above the box, or inside where that would be outside of the image.
    places = np.stack(
        [boxes[:, 0], np.where(boxes[:, 1] > 16, boxes[:, 1] - 2, boxes[:, 1] + 14)], 1
    )
    painter.draw_texts(
        texts,
        places,
        font_sizes=10,
        colors=["k" if np.dot(colour, LUMINANCE) > 150 else "w" for colour in colours],
        vertical_alignments="bottom",
        bboxes=[
            dict(facecolor=tuple(c / 255 for c in colour), pad=0.8, edgecolor="none")
            for colour in colours
        ],
    )
    return painter.get_image()
