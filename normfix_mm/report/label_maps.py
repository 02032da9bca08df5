"""What a trained segmenter sees: image, true and predicted label maps, in the classes' colours.

The colours are the dataset's palette. MMSegmentation makes one up at random where a dataset has
none; instead of that one, here are Petroff's ten colours, then darker ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmengine.dataset import BaseDataset

from normfix_mm.report.images import Drawn, enlarged, predict
from normfix_mm.report.plots import PETROFF
from normfix_mm.report.run import Run

STRIPES = ((255, 255, 255), (96, 96, 96))  # two colours for pixels of no class, 4 pixels wide
NOTE = "Each pixel has the colour of its class; where the truth is striped, none is asked for."


def draw(runs: list[Run], dataset: BaseDataset, chosen: Sequence[int]) -> Drawn:
    """For each chosen image: itself, its truth, and each run's prediction."""
    from mmseg.apis import init_model

    samples = [dataset[index] for index in chosen]
    images = [
        mmcv.imread(dataset.get_data_info(i)["img_path"], channel_order="rgb") for i in chosen
    ]
    truths = [sample["data_samples"].gt_sem_seg.data[0].numpy() for sample in samples]
    found = [
        [end.pred_sem_seg.data[0].numpy() for end in predict(run, init_model, samples)]
        for run in runs
    ]
    told = runs[0].config.val_dataloader.dataset.get("metainfo", {}).get("palette")
    colours = palette(dataset, told)
    rows = [
        [enlarged(image), *(paint(enlarged(m.astype("u1"), exact=True), colours) for m in maps)]
        for image, *maps in zip(images, truths, *found)
    ]
    titles = ["image", "ground truth", *(f"{run.name}: prediction" for run in runs)]
    legend = list(zip(dataset.metainfo["classes"], colours))
    ignored = any((truth >= len(colours)).any() for truth in truths)
    return Drawn(titles, rows, NOTE, legend, ignored)


def palette(dataset: BaseDataset, told: Sequence | None = None) -> list[tuple[int, int, int]]:
    """An RGB colour for each class.

    Args:
        told: the palette that the config gives the dataset, if any.
    """
    metainfo = dataset.metainfo
    first = getattr(dataset, "datasets", [dataset])[0]  # of several that are one
    given = told or getattr(type(first), "METAINFO", {}).get("palette")
    return (
        [tuple(map(int, colour)) for colour in metainfo["palette"]]
        if given
        else generated(len(metainfo["classes"]))
    )


def generated(count: int) -> list[tuple[int, int, int]]:
    """So many RGB colours, all different up to 70; each ten are darker than those before."""
    shades = (0.55 ** (i // len(PETROFF)) for i in range(count))
    return [tuple(int(shade * c) for c in PETROFF[i % 10]) for i, shade in enumerate(shades)]


def paint(labels: np.ndarray, colours: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """A label map (H, W) as RGB (H, W, 3): each class in its colour, any other value striped."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    painted = table[labels]
    stripe = np.indices(labels.shape).sum(0) // 4 % 2
    none = labels >= len(colours)
    painted[none] = np.array(STRIPES, np.uint8)[stripe[none]]
    return painted
