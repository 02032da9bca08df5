"""A small detection set made from handwritten digits: what ``make demo`` trains on.

Source of the digits: ``sklearn.datasets.load_digits``, 1797 grey 8x8 images of ten classes
(Alpaydin & Kaynak, "Optical Recognition of Handwritten Digits", UCI, 1998), which ship inside
scikit-learn. Each picture shows a few of them, enlarged, turned, coloured, on a background of
band-limited noise and a gradient. One folder serves detection, instance and semantic segmentation::

    digits.json                      how the folder was made; its presence means "complete"
    annotations/instances_train.json COCO: boxes, masks (uncompressed RLE), categories '0'...'9'
    annotations/instances_val.json
    images/{train,val}/000000.jpg
    labels/{train,val}/000000.png    Cityscapes-style: 0...9 the digits, 10 background, 255 ignored

COCO category ids are the digit plus one (ids start at 1 there); ``digit_index`` in an annotation is
the row of ``load_digits`` it shows. Ignored are the half-transparent pixels round the ink.
Every picture is a function of (seed, split, its number), so runs are byte-identical and a larger
set begins with the smaller one. Train and val draw from disjoint digit images.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

CLASSES = tuple("0123456789")
BACKGROUND = 10
IGNORED = 255
VERSION = 1
VAL_SHARE = 0.2


def make_digits(
    out: str | os.PathLike, *, seed: int = 0, train: int = 640, val: int = 128, size: int = 128
) -> Path:
    """Write the set to the folder ``out`` and return its path; nothing is done if it is there.

    The folder appears whole or not at all. A folder made by other settings is replaced.

    Args:
        out: target folder.
        seed: of the split and of every picture.
        train, val: numbers of pictures.
        size: width and height of a picture in pixels, at least 64.

    Raises:
        ValueError: for a bad setting, or if ``out`` holds something this function did not make.
        ModuleNotFoundError: if scikit-learn or OpenCV is missing.
    """
    if train < 1 or val < 1:
        raise ValueError(f"Invalid number of pictures: train {train}, val {val}; both must be >= 1")
    if size < 64:
        raise ValueError(f"Invalid picture size: {size}; it must be at least 64 pixels")
    if seed < 0:
        raise ValueError(f"Invalid seed: {seed}; it must not be negative")
    out = Path(out)
    settings = dict(version=VERSION, seed=seed, train=train, val=val, size=size)
    if _made_by(out) == settings:
        return out
    if out.exists() and _made_by(out) is None and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists and is not a digits set; name another folder or remove it")

    digits, labels = _load_digits()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        partial.chmod(0o755)  # mkdtemp makes private folders
        for split, count, rows in zip(("train", "val"), (train, val), split_rows(digits, seed)):
            _write_split(partial, split, count, rows, digits, labels, seed, size)
        (partial / "digits.json").write_text(json.dumps(settings))
        if out.exists():
            shutil.rmtree(out)
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def split_rows(digits: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Disjoint rows of ``digits`` (N, 8, 8) for train and val.

    Equal images count as one, so that not even a duplicate is on both sides.
    """
    _, group = np.unique(digits.reshape(len(digits), -1), axis=0, return_inverse=True)
    group = group.reshape(-1)
    order = np.random.default_rng([seed, 2]).permutation(group.max() + 1)
    in_val = np.isin(group, order[: round(VAL_SHARE * len(order))])
    return np.flatnonzero(~in_val), np.flatnonzero(in_val)


def render(
    rng: np.random.Generator, rows: np.ndarray, digits: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, np.ndarray]]]:
    """One picture.

    Args:
        rng: the picture's own generator.
        rows: rows of ``digits`` to show, as far as there is room.
        digits: shape (N, 8, 8), values 0...1.
        size: pixels.

    Returns:
        picture (size, size, 3) uint8 BGR; ignored pixels (size, size) bool; and for each digit
        shown its row and its mask (size, size) bool. Masks do not overlap.
    """
    picture = _background(rng, size)
    taken = np.zeros((size, size), bool)
    ignored = np.zeros((size, size), bool)
    shown = []
    for row in rows:
        for _ in range(20):  # tries to find room; a crowded picture shows fewer digits
            ink = _ink(rng, digits[row], size)
            side = len(ink)
            x, y = rng.integers(0, size - side + 1, 2)
            window = np.s_[y : y + side, x : x + side]
            if not (taken[window] & (ink > 0.05)).any():
                break
        else:
            continue
        colour = _colour(rng, picture[window].mean((0, 1)))
        picture[window] += ink[..., None] * (colour - picture[window])
        mask = np.zeros((size, size), bool)
        mask[window] = ink >= 0.5
        taken[window] |= ink > 0.05
        ignored[window] |= (ink > 0.05) & (ink < 0.5)
        shown.append((int(row), mask))
    return np.clip(picture.round(), 0, 255).astype(np.uint8), ignored, shown


def rle(mask: np.ndarray) -> dict:
    """COCO's uncompressed run lengths of a (H, W) bool mask: column by column, zeros first."""
    flat = np.concatenate([[False], mask.T.reshape(-1)])
    starts = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(np.concatenate([[0], starts, [mask.size]]))
    return dict(size=list(mask.shape), counts=counts.tolist())


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Band-limited noise of three octaves, mostly grey, plus a gradient; (size, size, 3) float."""
    import cv2

    picture = np.zeros((size, size, 3))
    for cells, strength in ((4, 28.0), (10, 16.0), (24, 9.0)):
        grid = rng.normal(size=(cells, cells, 1)) + 0.5 * rng.normal(size=(cells, cells, 3))
        picture += strength * cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    slope = rng.uniform(-40, 40, (2, 3))
    axis = np.linspace(-0.5, 0.5, size)[:, None]
    picture += (axis * slope[0])[:, None] + (axis * slope[1])[None]
    return np.clip(picture + rng.uniform(30, 110, 3), 0, 255)


def _ink(rng: np.random.Generator, digit: np.ndarray, size: int) -> np.ndarray:
    """Opacity (side, side) of one digit (8, 8), enlarged to 2/9 ... 2/5 of the picture."""
    import cv2

    side = int(size * math.exp(rng.uniform(math.log(2 / 9), math.log(2 / 5))))
    scale = side / 10  # a margin of one source pixel, so that strokes are not cut when turned
    turn = cv2.getRotationMatrix2D((3.5, 3.5), rng.uniform(-8, 8), scale)
    turn[:, 2] += side / 2 - 0.5 - 3.5
    ink = cv2.warpAffine(digit, turn, (side, side), flags=cv2.INTER_CUBIC)
    return np.clip(2 * ink - 0.4, 0, 1)


def _colour(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A tint whose brightness is 90 ... 140 of 255 above what is behind it, as chalk on a board."""
    tint = rng.uniform(-30, 30, 3)
    return behind.mean() + rng.uniform(90, 140) + tint - tint.mean()


def _write_split(
    root: Path,
    split: str,
    count: int,
    rows: np.ndarray,
    digits: np.ndarray,
    labels: np.ndarray,
    seed: int,
    size: int,
) -> None:
    import cv2

    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        rng = np.random.default_rng([seed, ("train", "val").index(split), number])
        chosen = rng.choice(rows, rng.integers(3, 9), replace=False)
        picture, ignored, shown = render(rng, chosen, digits, size)
        name = f"{number:06d}.jpg"
        images.append(dict(id=number, file_name=name, width=size, height=size))
        label = np.full((size, size), BACKGROUND, np.uint8)
        label[ignored] = IGNORED
        for row, mask in shown:
            digit = int(labels[row])
            label[mask] = digit
            ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=number,
                    category_id=digit + 1,
                    iscrowd=0,
                    bbox=[int(xs[0]), int(ys[0]), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1],
                    area=int(mask.sum()),
                    segmentation=rle(mask),
                    digit_index=row,
                )
            )
        _imwrite(root / "images" / split / name, picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
        _imwrite(root / "labels" / split / name.replace(".jpg", ".png"), label)
    categories = [
        dict(id=i + 1, name=name, supercategory="digit") for i, name in enumerate(CLASSES)
    ]
    path = root / "annotations" / f"instances_{split}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))


def _imwrite(path: Path, picture: np.ndarray, options: list[int] | None = None) -> None:
    import cv2

    if not cv2.imwrite(str(path), picture, options or []):
        raise OSError(f"Could not write {path}; is the disk full?")


def _load_digits() -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "The digits come with scikit-learn, which is not installed; "
            "install it with `pip install scikit-learn`"
        ) from error
    bunch = load_digits()
    return bunch.images / 16, bunch.target


def _made_by(out: Path) -> dict | None:
    """The settings of a complete set in ``out``, or None."""
    try:
        return json.loads((out / "digits.json").read_text())
    except (OSError, ValueError):
        return None
