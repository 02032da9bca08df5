"""What of a folder without `train` and `val` is for validation stays so when images come and go."""

from pathlib import Path

import pytest

from normfix_mm.datasets.class_folder import ClassFolder
from normfix_mm.errors import BadInput

CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path) -> Path:
    for kind in CLASSES:
        (tmp_path / kind).mkdir()
        for k in range(25):
            (tmp_path / kind / f"{k:04}.png").touch()
    return tmp_path


def parts(folder: Path) -> tuple[set, set]:
    train, val = (set(ClassFolder(folder).images(part, CLASSES)) for part in ("train", "val"))
    assert not train & val
    return train, val


def test_an_image_that_is_added_moves_one_other_at_most(folder):
    train, val = parts(folder)
    assert len(val) == 10 and len(train) == 40 and {label for _, label in val} == {0, 1}
    for k in range(25):  # before, between and behind the others
        (folder / "cat" / f"{k:04}new.png").touch()
        new_train, new_val = parts(folder)
        moved = (new_val & train) | (new_train & val)
        assert len(moved) <= 1 and {label for _, label in moved} <= {0}
        train, val = new_train, new_val
    assert len(val) == 15


def test_an_image_that_is_removed_moves_one_other_at_most(folder):
    train, val = parts(folder)
    for k in range(20):
        (folder / "dog" / f"{k:04}.png").unlink()
        new_train, new_val = parts(folder)
        assert len((new_val & train) | (new_train & val)) <= 1
        train, val = new_train, new_val
    assert sum(label for _, label in val) == 1


def test_both_parts_have_an_image_of_each_class(folder):
    for k in range(2, 25):
        (folder / "cat" / f"{k:04}.png").unlink()
    for part in parts(folder):
        assert {label for _, label in part} == {0, 1}
    (folder / "cat/0001.png").unlink()
    with pytest.raises(BadInput, match="has one image; give at least two"):
        parts(folder)


def test_names_do_not_tell_which_are_drawn(folder):
    """Neither the same numbers in each class, nor the first of a class."""
    _, val = parts(folder)
    numbers = {kind: {name[4:] for name, label in val if label == kind} for kind in (0, 1)}
    assert numbers[0] != numbers[1]
    assert all(max(each) > "0012" > min(each) for each in numbers.values())
