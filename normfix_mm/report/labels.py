"""What a trained classifier says: validation images with their class, and with its own answer.

And of many of them how often which class is taken for which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mmcv
import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from torch import nn

from normfix_mm.report.images import SIDE, Drawn, enlarged, predict, validation_set
from normfix_mm.report.run import Run

COUNT = 8  # images that are drawn
MOST = 500  # images that the confusion is counted on
RIGHT, WRONG, NEUTRAL = (0x2E, 0x7D, 0x4F), (0xB0, 0x3A, 0x2E), (0x59, 0x63, 0x6E)
NOTE = "The number behind an answer is its probability in per cent; wrong answers are red."


@dataclass
class Confusion:
    """How often which class was taken for which.

    Attributes:
        names: the classes.
        counts: images, shape (classes, classes): true class, answer.
        of: how many validation images there are; fewer may have been tried.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    of: int


def draw(runs: list[Run], dataset: BaseDataset, chosen: Sequence[int]) -> Drawn:
    """For each chosen image: with its class, then with each run's answer."""
    samples = [dataset[index] for index in chosen]
    infos = [dataset.get_data_info(index) for index in chosen]
    images = [_image(info) for info in infos]
    truths = [int(info["gt_label"]) for info in infos]
    names = dataset.metainfo["classes"]
    found = [predict(run, load, samples) for run in runs]
    rows = []
    for index, (image, truth) in enumerate(zip(images, truths)):
        row = [_captioned(image, names[truth], NEUTRAL)]
        for answers in found:
            scores = answers[index].pred_score.numpy()
            answer = int(scores.argmax())
            text = f"{names[answer]} {100 * scores[answer]:.0f}"
            row.append(_captioned(image, text, RIGHT if answer == truth else WRONG))
        rows.append(row)
    titles = ["ground truth", *(f"{run.name}: answers" for run in runs)]
    return Drawn(titles, rows, NOTE)


def confusion(run: Run) -> Confusion:
    """What the run's checkpoint answers, on at most ``MOST`` evenly spaced images.

    Raises:
        FileNotFoundError: if the data or the checkpoint is missing.
    """
    dataset = validation_set(run)
    names = tuple(dataset.metainfo["classes"])
    counts = np.zeros((len(names), len(names)), int)
    chosen = range(0, len(dataset), -(-len(dataset) // MOST))
    answers = predict(run, load, (dataset[index] for index in chosen))
    for index, answer in zip(chosen, answers):
        truth = int(dataset.get_data_info(index)["gt_label"])
        counts[truth, int(answer.pred_score.argmax())] += 1
    return Confusion(names, counts, len(dataset))


def load(cfg: Config, checkpoint: str, device: str) -> nn.Module:
    """The trained classifier, for evaluation."""
    from normfix_mm.checkpoints import files
    from normfix_mm.models.build import build_model

    model = build_model(cfg)
    model.load_state_dict(files.read(checkpoint)[0])
    return model.to(device).eval()


def _image(info: dict) -> np.ndarray:
    """RGB; a data set such as CIFAR holds its images in memory, as RGB."""
    if "img_path" in info:
        return mmcv.imread(info["img_path"], channel_order="rgb")
    return info["img"]


def _captioned(image: np.ndarray, text: str, colour: tuple[int, int, int]) -> np.ndarray:
    """The image, resized, on a square with a line of text below it."""
    from PIL import Image, ImageDraw, ImageFont

    image = enlarged(image)
    height, width = image.shape[:2]
    line = SIDE // 9
    page = Image.new("RGB", (SIDE, SIDE + line), colour)
    page.paste((0xFF, 0xFF, 0xFF), (0, 0, SIDE, SIDE))
    page.paste(Image.fromarray(image), ((SIDE - width) // 2, (SIDE - height) // 2))
    ImageDraw.Draw(page).text((6, SIDE + 4), text, fill="white", font=ImageFont.load_default(20))
    return np.asarray(page)
