"""The generated digits: deterministic, split without overlap, annotations that agree."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from sklearn.datasets import load_digits

from normfix_mm.datasets import digits
from normfix_mm.datasets.digits import BACKGROUND, IGNORED, make_digits, split_rows

TOOL = Path(__file__).resolve().parents[2] / "tools/make_digits.py"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp("digits") / "set", train=24, val=8)


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def annotations(root, split):
    return json.loads((root / f"annotations/instances_{split}.json").read_text())


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_in_another_process(root, tmp_path):
    command = [sys.executable, str(TOOL), str(tmp_path / "again"), "--train", "24", "--val", "8"]
    subprocess.run(command, check=True, capture_output=True)
    assert contents(tmp_path / "again") == contents(root)


def test_other_seed_gives_other_pictures(root, tmp_path):
    other = contents(make_digits(tmp_path / "other", seed=1, train=24, val=8))
    same = contents(root)
    assert not any(other[name] == same[name] for name in same if name.endswith(".jpg"))


def test_a_larger_set_begins_with_the_smaller_one(root, tmp_path):
    larger, small = contents(make_digits(tmp_path / "larger", train=30, val=8)), contents(root)
    assert all(larger[name] == small[name] for name in small if name.endswith((".jpg", ".png")))


def test_train_and_val_share_no_digit_image(root):
    images = load_digits().images
    seen = {}
    for split in ("train", "val"):
        rows = {a["digit_index"] for a in annotations(root, split)["annotations"]}
        seen[split] = {images[row].tobytes() for row in rows}
    assert seen["train"]
    assert seen["val"]
    assert not seen["train"] & seen["val"]


def test_split_keeps_duplicates_together_and_uses_every_row():
    images = np.random.default_rng(0).random((40, 8, 8))
    images[20:] = images[:20]  # every image twice
    train, val = split_rows(images, seed=3)
    assert sorted([*train, *val]) == list(range(40))
    assert set(train % 20).isdisjoint(val % 20)
    assert len(val) == 8


@pytest.mark.parametrize("split", ["train", "val"])
def test_masks_boxes_areas_classes_and_label_images_agree(root, split):
    coco = COCO(str(root / f"annotations/instances_{split}.json"))  # decodes the masks its own way
    target = load_digits().target
    assert [c["name"] for c in coco.loadCats(coco.getCatIds())] == list("0123456789")
    assert len(coco.imgs) == {"train": 24, "val": 8}[split]
    for info in coco.imgs.values():
        label = cv2.imread(
            str(root / "labels" / split / info["file_name"].replace("jpg", "png")),
            cv2.IMREAD_UNCHANGED,
        )
        picture = cv2.imread(str(root / "images" / split / info["file_name"]))
        assert picture.shape == (128, 128, 3)
        assert label.shape == (128, 128)
        expected = np.full((128, 128), BACKGROUND)
        objects = coco.imgToAnns[info["id"]]
        assert objects
        for ann in objects:
            mask = coco.annToMask(ann).astype(bool)
            ys, xs = np.nonzero(mask)
            assert ann["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
            assert ann["area"] == mask.sum() > 20
            assert ann["category_id"] - 1 == target[ann["digit_index"]]
            assert (expected[mask] == BACKGROUND).all(), "masks overlap"
            expected[mask] = ann["category_id"] - 1
        known = label != IGNORED
        assert (label[known] == expected[known]).all()
        # What is ignored is a ring: never within a digit, and not much of the picture.
        assert (expected[~known] == BACKGROUND).all()
        assert 0 < (~known).mean() < 0.25


def test_digits_are_the_ones_named(root):
    """The brighter pixels of a box look like the source image, enlarged."""
    images = load_digits().images
    data = annotations(root, "val")
    likeness = []
    for ann in data["annotations"]:
        x, y, w, h = ann["bbox"]
        picture = cv2.imread(str(root / f"images/val/{ann['image_id']:06d}.jpg"))
        crop = cv2.resize(picture[y : y + h, x : x + w].mean(2), (32, 32))
        source = images[ann["digit_index"]]
        ys, xs = np.nonzero(source > 5)
        source = cv2.resize(source[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1], (32, 32))
        likeness.append(np.corrcoef(crop.ravel(), source.ravel())[0, 1])
    assert np.median(likeness) > 0.75


def test_a_complete_set_is_left_alone_and_other_settings_replace_it(tmp_path):
    out = make_digits(tmp_path / "set", train=2, val=1)
    before = (out / "digits.json").stat().st_mtime_ns
    make_digits(out, train=2, val=1)
    assert (out / "digits.json").stat().st_mtime_ns == before
    make_digits(out, train=3, val=1)
    assert len(list((out / "images/train").iterdir())) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(digits, "_imwrite", full)
    with pytest.raises(OSError, match="disk full"):
        make_digits(tmp_path / "set", train=2, val=1)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_else_is_not_touched(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(ValueError, match="not a digits set"):
        make_digits(tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(train=0), "number of pictures"),
        (dict(size=32), "picture size"),
        (dict(seed=-1), "seed"),
    ],
)
def test_bad_settings(tmp_path, setting, message):
    with pytest.raises(ValueError, match=message):
        make_digits(tmp_path / "set", **setting)
