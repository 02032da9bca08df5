"""What a trained model sees: ground truth and predictions drawn on validation images.

Boxes are drawn by MMDetection's own visualizer. Small images are enlarged first, so that its
labels can be read.
"""

from __future__ import annotations

import numpy as np

from .run import Run

SIDE = 448  # pixels of the longer side of a drawn image
SCORE = 0.35


def draw(runs: list[Run], count: int = 6) -> list[list[np.ndarray]]:
    """Rows of drawn RGB images: the ground truth, then each run's predictions.

    Args:
        runs: with checkpoints, all on the same data; the first one's validation set is shown.
        count: number of rows.

    Raises:
        FileNotFoundError: if the data or a checkpoint is missing.
    """
    import mmcv
    from mmdet.registry import DATASETS
    from mmengine.registry import init_default_scope
    init_default_scope('mmdet')
    for run in runs:
        if run.checkpoint is None:
            raise FileNotFoundError(f'{run.folder} holds no checkpoint')
    dataset = DATASETS.build(runs[0].config.val_dataloader.dataset)
    chosen = range(0, len(dataset), max(1, len(dataset) // count))[:count]
    infos = [dataset.get_data_info(index) for index in chosen]
    images = [mmcv.imread(info['img_path'], channel_order='rgb') for info in infos]
    painter = _painter(dataset.metainfo['classes'])
    rows = [[_paint(painter, image, *_truth(info))] for image, info in zip(images, infos)]
    for run in runs:
        found = _predict(run, [dataset[index] for index in chosen])
        for row, image, prediction in zip(rows, images, found):
            row.append(_paint(painter, image, *prediction))
    return rows


def _truth(info: dict) -> tuple[np.ndarray, np.ndarray, None]:
    objects = [o for o in info['instances'] if not o.get('ignore_flag')]
    return (np.array([o['bbox'] for o in objects], np.float32).reshape(-1, 4),
            np.array([o['bbox_label'] for o in objects], int), None)


def _predict(run: Run, samples: list[dict]) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Boxes (N, 4), labels (N,) and scores (N,) of each sample, by the run's newest checkpoint."""
    import torch
    from mmdet.apis import init_detector
    from mmengine.dataset import pseudo_collate
    from mmengine.utils import import_modules_from_strings
    cfg = run.config
    import_modules_from_strings(**cfg.get('custom_imports', dict(imports=[])))
    model = init_detector(cfg, str(run.checkpoint), device='cpu')
    found = []
    with torch.no_grad():
        for sample in samples:
            instances = model.test_step(pseudo_collate([sample]))[0].pred_instances
            instances = instances[instances.scores >= SCORE]
            found.append((instances.bboxes.numpy(), instances.labels.numpy(),
                          instances.scores.numpy()))
    return found


def _painter(classes: tuple[str, ...]):
    from matplotlib import colormaps
    from mmdet.visualization import DetLocalVisualizer
    colours = colormaps['tab10' if len(classes) <= 10 else 'hsv']
    palette = [tuple(int(255 * c) for c in colours(i if len(classes) <= 10 else i / len(classes))[:3])
               for i in range(len(classes))]
    painter = DetLocalVisualizer(line_width=2, alpha=1, text_color=(255, 255, 255))
    painter.dataset_meta = dict(classes=classes, palette=palette)
    return painter


def _paint(painter, image: np.ndarray, boxes: np.ndarray, labels: np.ndarray,
           scores: np.ndarray | None) -> np.ndarray:
    import cv2
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    scale = SIDE / max(image.shape[:2])
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=way)
    instances = InstanceData(bboxes=torch.as_tensor(boxes) * scale, labels=torch.as_tensor(labels))
    sample = DetDataSample()
    if scores is None:
        sample.gt_instances = instances
    else:
        instances.scores = torch.as_tensor(scores)
        sample.pred_instances = instances
    painter.add_datasample('', image, sample, draw_gt=scores is None,
                           draw_pred=scores is not None, pred_score_thr=SCORE)
    return painter.get_image()



def png(image: np.ndarray) -> bytes:
    """PNG of an RGB image."""
    import cv2
    ok, data = cv2.imencode('.png', image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise ValueError(f'Could not encode an image of shape {image.shape} as PNG')
    return data.tobytes()
