"""CIFAR-10 in small: two zip files of JPEGs by class, decoded once into memory."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Images:
    """Images and classes.

    Attributes:
        pixels: uint8, shape (N, 3, 32, 32).
        labels: int64, shape (N,).
    """

    pixels: Tensor
    labels: Tensor


def load(folder: Path) -> tuple[Images, Images]:
    """The images of train.zip and test.zip, CLASS/NAME.jpg each."""
    return _load(folder / "train.zip"), _load(folder / "test.zip")


def _load(archive: Path) -> Images:
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))
        classes = sorted({name.split("/")[0] for name in names})
        pictures = [np.asarray(Image.open(io.BytesIO(file.read(name)))) for name in names]
    labels = [classes.index(name.split("/")[0]) for name in names]
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.tensor(labels))


def augmented(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Float images, shifted by up to four pixels and flipped at random."""
    count = len(pixels)
    padded = torch.nn.functional.pad(normalized(pixels), (4, 4, 4, 4))
    shifts = torch.randint(0, 9, (2, count), generator=random)
    flips = torch.rand(count, generator=random) < 0.5
    out = torch.stack([p[:, y : y + 32, x : x + 32] for p, y, x in zip(padded, *shifts.tolist())])
    return torch.where(flips.view(-1, 1, 1, 1), out.flip(3), out)


def normalized(pixels: Tensor) -> Tensor:
    """Float images by the mean and deviation of CIFAR-10's channels."""
    mean = torch.tensor([125.3, 123.0, 113.9]).view(3, 1, 1)
    std = torch.tensor([63.0, 62.1, 66.7]).view(3, 1, 1)
    return (pixels.float() - mean) / std
