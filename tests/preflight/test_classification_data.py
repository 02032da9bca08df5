"""A classifier's folder: what would be learned wrongly is said or refused before training."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.small_folders import config_of
from mmengine.config import Config
from PIL import Image

import normfix_mm.classification  # noqa: F401
from normfix_mm.datasets import folder_of
from normfix_mm.errors import BadInput
from normfix_mm.preflight import check

CLASSES = ("cat", "dog", "owl")
PARTS = ("train", "val")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Four pictures of each class to train on, two to validate on."""
    rng = np.random.default_rng(0)
    for part, count in zip(PARTS, (4, 2)):
        for name in CLASSES:
            (tmp_path / "own" / part / name).mkdir(parents=True)
            for k in range(count):
                noise = Image.fromarray(rng.integers(0, 255, (40, 40, 3), np.uint8))
                noise.save(tmp_path / "own" / part / name / f"{part}{k}.png")
    return tmp_path / "own"


def used(folder: Path, classes=None) -> Config:
    cfg = Config.fromfile(config_of("resnet_r18", "baseline"))
    cfg.work_dir = str(folder.parent / "run")
    cfg.model.backbone.init_cfg = None
    return folder_of(cfg, folder).use(cfg, classes)


def said(folder: Path, capsys, classes=None) -> str:
    capsys.readouterr()
    check(used(folder, classes), ("train", "val"))
    printed = capsys.readouterr()
    return printed.out + printed.err


def test_a_folder_in_order_gets_two_lines(folder, capsys):
    text = said(folder, capsys)
    assert "train_dataloader.dataset: 12 pictures of 3 classes." in text
    assert "val_dataloader.dataset: 6 pictures of 3 classes." in text and "pictures in" not in text


@pytest.mark.parametrize("names", [("Train", "Val"), ("training", "validation")])
def test_parts_of_other_names_are_no_classes(folder, names):
    """They would be learned as two classes, with images of both to validate on."""
    for part, name in zip(PARTS, names):
        (folder / part).rename(folder / name)
    with pytest.raises(BadInput, match="parts of a data set and no classes; name them train and"):
        used(folder)


def test_parts_within_the_classes_are_no_images_of_one_kind(folder):
    """The images to validate on would be trained on."""
    for name in CLASSES:
        for part in PARTS:
            shutil.move(folder / part / name, folder / name / part)
    for part in PARTS:
        (folder / part).rmdir()
    with pytest.raises(BadInput, match="cat holds train, val: a class within which"):
        used(folder)


def test_a_class_called_train_is_one(folder, capsys):
    for part in PARTS:
        (folder / part / "owl").rename(folder / part / "train")
    assert "12 pictures of 3 classes" in said(folder, capsys)


def test_hidden_folders_hold_no_images(folder, capsys):
    (folder / "train/cat/.ipynb_checkpoints").mkdir()
    shutil.copy(folder / "val/cat/val0.png", folder / "train/cat/.ipynb_checkpoints")
    assert "12 pictures" in said(folder, capsys) and "trained on" not in said(folder, capsys)


def test_links_to_folders_are_followed(folder, capsys):
    more = folder.parent / "more"
    shutil.move(folder / "train/cat", more)
    (folder / "train/cat").mkdir()
    shutil.move(more / "train0.png", folder / "train/cat")
    (folder / "train/cat/more").symlink_to(more)
    (more / "back").symlink_to(folder / "train/cat")  # without an end
    assert "train_dataloader.dataset: 12 pictures of 3 classes." in said(folder, capsys)


def test_a_class_of_another_folder_is_none(folder):
    with pytest.raises(BadInput, match="has no class folder '../val/cat'"):
        used(folder, ("../val/cat", "dog"))


def test_one_class_alone_is_refused(folder):
    """The loss would be 0, and every answer right."""
    with pytest.raises(BadInput, match="one class, of which a softmax is always 1"):
        check(used(folder, ("dog",)), ("train", "val"))


@pytest.mark.parametrize("suffix", [".heic", ".gif"])
def test_pictures_that_are_left_out_are_said(folder, capsys, suffix):
    for k in range(3):
        (folder / f"train/cat/more{k}{suffix}").write_bytes(b"x")
    assert f"3 pictures in {folder / 'train'} are not used by this run" in said(folder, capsys)


def test_folders_within_a_class_are_said(folder, capsys):
    for part in PARTS:
        (folder / part / "pets").mkdir()
        for name in ("cat", "dog"):
            shutil.move(folder / part / name, folder / part / "pets")
    text = said(folder, capsys)
    assert "8 pictures of train_dataloader.dataset, first 'pets/cat/train0.png', lie in" in text
    inner = said(folder, capsys, ("owl", "pets/cat", "pets/dog"))  # named, they are classes
    assert "3 classes" in inner and "lie in" not in inner


def test_pictures_of_two_classes_are_said(folder, capsys):
    shutil.copy(folder / "train/cat/train0.png", folder / "train/dog/other.png")
    assert "1 pictures of train_dataloader.dataset are there as of two classes" in said(
        folder, capsys
    )


@pytest.mark.parametrize("name", ["a\nb.png", " a.png"])
def test_names_that_a_list_would_change_are_refused(folder, name):
    (folder / "train/cat/train0.png").rename(folder / "train/cat" / name)
    if name[0] == " ":
        (folder / "train/cat").rename(folder / "train/ cat")
        (folder / "val/cat").rename(folder / "val/ cat")
    with pytest.raises(BadInput, match="cannot stand in a list of a line each: rename"):
        used(folder)


def test_a_file_name_in_another_encoding_is_refused(folder):
    shutil.copy(folder / "train/cat/train0.png", bytes(folder / "train/cat") + b"/\xe4.png")
    with pytest.raises(BadInput, match="what is no UTF-8"):
        used(folder)


def test_a_list_that_lacks_a_class_is_said(folder, capsys):
    cfg = used(folder)
    listed = Path(cfg.train_dataloader.dataset.ann_file)
    listed.write_text("".join(x for x in listed.open() if "owl" not in x))
    check(cfg, ("train", "val"))
    assert "No picture of train_dataloader.dataset is of class 'owl'" in capsys.readouterr().err
