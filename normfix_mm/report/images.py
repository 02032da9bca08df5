"""What a trained model sees: ground truth and predictions drawn on validation images.

Boxes and masks are drawn by MMEngine's visualizer. Small images are enlarged first, so that labels
can be read. Where there are masks, each object has a colour of its own instead of a box.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
from mmengine.structures import InstanceData

from .run import Run

SIDE = 300  # pixels of the longer side of a drawn image
SCORE = 0.35


def draw(runs: list[Run], count: int = 4) -> list[list[np.ndarray]]:
    """For each of some images: drawn with the ground truth, then with each run's predictions.

    Args:
        runs: with checkpoints, all on the same data; the first one's validation set is shown.
        count: number of images.

    Raises:
        FileNotFoundError: if the data or a checkpoint is missing.
    """
    import mmcv
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope

    init_default_scope("mmdet")
    for run in runs:
        if run.checkpoint is None:
            raise FileNotFoundError(f"{run.folder} holds no checkpoint")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools talks
        dataset = DATASETS.build(runs[0].config.val_dataloader.dataset)
    chosen = range(0, len(dataset), max(1, len(dataset) // count))[:count]
    infos = [dataset.get_data_info(index) for index in chosen]
    images = [mmcv.imread(info["img_path"], channel_order="rgb") for info in infos]
    names = tuple(dataset.metainfo["classes"])
    found = [_predict(run, [dataset[index] for index in chosen]) for run in runs]
    masks = any("masks" in objects for prediction in found for objects in prediction)
    rows = []
    for image, info, *predictions in zip(images, infos, *found):
        shown = [_truth(info, masks), *predictions]
        rows.append([_paint(image, names, objects) for objects in shown])
    return rows


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


def _predict(run: Run, samples: list[dict]) -> list[InstanceData]:
    """Objects in each sample, in numpy, by the run's newest checkpoint."""
    import torch
    from mmdet.apis import init_detector
    from mmengine.dataset import pseudo_collate
    from mmengine.utils import import_modules_from_strings

    cfg = run.config
    import_modules_from_strings(**cfg.get("custom_imports", dict(imports=[])))
    model = init_detector(cfg, str(run.checkpoint), device="cpu")
    found = []
    with torch.no_grad():
        for sample in samples:
            instances = model.test_step(pseudo_collate([sample]))[0].pred_instances
            found.append(instances[instances.scores >= SCORE].numpy())
    return found


def _paint(image: np.ndarray, names: tuple[str, ...], objects: InstanceData) -> np.ndarray:
    """The image, resized: boxes in their classes' colours with a label, or masks."""
    import cv2
    from matplotlib import colormaps
    from mmengine.visualization import Visualizer

    scale = SIDE / max(image.shape[:2])
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=way)
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
    few = len(names) <= 10
    map_ = colormaps["tab10" if few else "hsv"]
    colours = [tuple(int(255 * c) for c in map_(i if few else i / len(names))[:3]) for i in labels]
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
        colors="w",
        vertical_alignments="bottom",
        bboxes=[
            dict(facecolor=tuple(c / 255 for c in colour), pad=0.8, edgecolor="none")
            for colour in colours
        ],
    )
    return painter.get_image()


def png(image: np.ndarray) -> bytes:
    """PNG of an RGB image."""
    import cv2

    ok, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise ValueError(f"Could not encode an image of shape {image.shape} as PNG")
    return data.tobytes()
