"""Validation images beside what is true of them and what trained models see in them.

A config's scope says what its model is: ``boxes`` draws for MMDetection, ``label_maps`` for
MMSegmentation, ``labels`` for MMPretrain. What they share is here.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from normfix_mm.report.run import NoRun, Run

SIDE = 400  # pixels of the longer side of a drawn image
PAINTERS = dict(mmdet="boxes", mmseg="label_maps", mmpretrain="labels")


@dataclass
class Drawn:
    """Pictures of some validation images.

    Attributes:
        titles: what each picture of an image shows.
        rows: for each image its pictures, RGB uint8 of shape (H, W, 3), one for each title.
        note: what a reader must know to read them.
        legend: class names and their RGB colours, where pixels have the colours of classes.
        ignored: whether a picture has pixels of no class, which are striped.
    """

    titles: list[str]
    rows: list[list[np.ndarray]]
    note: str
    legend: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    ignored: bool = False


def draw(runs: list[Run], count: int = 4) -> Drawn:
    """Pictures of some images of the first run's validation set.

    Args:
        runs: with checkpoints, all on the same data.
        count: number of images, unless the painter draws another.

    Raises:
        FileNotFoundError: if the data or a checkpoint is missing.
        NoRun: if detectors and segmenters are mixed, or of another framework.
    """
    from matplotlib import rc_context
    from mmengine.registry import DefaultScope

    scopes = {run.scope for run in runs}
    if len(scopes) > 1 or not scopes <= set(PAINTERS):
        raise NoRun(
            f"runs of {' and '.join(sorted(scopes))} have no pictures in common; give runs of one "
            f"of {', '.join(PAINTERS)}"
        )
    (scope,) = scopes
    for run in runs:
        if run.checkpoint is None:
            raise FileNotFoundError(f"{run.folder} holds no checkpoint")
    painter = importlib.import_module(f".{PAINTERS[scope]}", __package__)
    count = getattr(painter, "COUNT", count)
    dataset = validation_set(runs[0])
    with DefaultScope.overwrite_default_scope(scope):
        chosen = range(0, len(dataset), max(1, len(dataset) // count))[:count]
        with rc_context({"text.parse_math": False}):  # a `$` in a class's name is no formula
            return painter.draw(runs, dataset, chosen)


def validation_set(run: Run):
    """The run's validation set, built.

    Raises:
        FileNotFoundError: it has none.
    """
    from mmengine.registry import DATASETS, DefaultScope

    if run.config.get("val_dataloader") is None:
        raise FileNotFoundError(f"the run of {run.folder} has no validation set")
    importlib.import_module(f"{run.scope}.datasets")
    with (
        DefaultScope.overwrite_default_scope(run.scope),
        contextlib.redirect_stdout(io.StringIO()),  # pycocotools talks
    ):
        return DATASETS.build(run.config.val_dataloader.dataset)


def predict(run: Run, load: Callable, samples: Iterable[dict]) -> list:
    """The data sample that the run's checkpoint makes of each input.

    Args:
        load: as the framework's ``init_detector`` and ``init_model``.
    """
    import torch
    from mmengine.dataset import pseudo_collate
    from mmengine.utils import import_modules_from_strings

    import normfix_mm.engine  # noqa: F401  whose loading of checkpoints runs no code of theirs

    cfg = run.config
    import_modules_from_strings(**cfg.get("custom_imports", dict(imports=[])))
    model = load(cfg, str(run.checkpoint), device="cpu")
    with torch.no_grad(), warnings.catch_warnings():
        # MMSegmentation's on sizes that would align better: training has said it.
        warnings.filterwarnings("ignore", "When align_corners=True")
        return [model.test_step(pseudo_collate([sample]))[0] for sample in samples]


def enlarged(image: np.ndarray, exact: bool = False) -> np.ndarray:
    """An image of shape (H, W[, 3]) whose longer side is SIDE pixels.

    Args:
        exact: repeat or drop pixels instead of interpolating, as labels need it.
    """
    import cv2

    scale = SIDE / max(image.shape[:2])
    way = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    way = cv2.INTER_NEAREST if exact else way
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=way)


def png(image: np.ndarray) -> bytes:
    """PNG of an RGB image."""
    import cv2

    ok, data = cv2.imencode(".png", image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    if not ok:
        raise ValueError(f"Could not encode an image of shape {image.shape} as PNG")
    return data.tobytes()
