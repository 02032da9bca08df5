"""Pictures that are absent, cut off, turned or of another size are found before training."""

import os
import shutil

import cv2
import numpy as np
import pytest
from helpers.spoiled import cut, each, edit, turn
from PIL import Image
from preflight.test_coco import said, train_file, val_file
from preflight.toy_preflight import sentence

from normfix_mm.preflight import check, headers, notes


@pytest.fixture
def picture(own):
    return own / "train2017/000000000002.png"


def rename(own, change):
    """Change the names that the annotations have for the pictures."""
    edit(train_file(own), each("file_name", change, "images"))


def test_missing_pictures_of_either_set(own, own_cfg, picture):
    picture.unlink()
    text = sentence(own_cfg)
    assert "1 of 4 pictures of train_dataloader.dataset that" in text
    assert f"are not there, first {str(picture)!r}; add them" in text
    check(own_cfg, ("test",))
    (own / "val2017/000000000003.png").unlink()
    for phase in ("val", "test"):  # which training would see after its last iteration
        assert f"1 of 4 pictures of {phase}_dataloader" in sentence(own_cfg, (phase,))


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda name: f"sub\\{name}", "write / in place of \\ in its file_name"),
        (lambda name: f"train2017/{name}", "leave train2017/ out of file_name"),
        (lambda name: f"C:/pictures/{name}", "leave C:/pictures/ out of file_name"),
        (lambda name: f"/absent/{name}", "first '/absent/000000000001.png'; '000000000001.png' is"),
        (lambda name: name.replace("png", "PNG"), "there is '000000000001.png', of which case"),
        (lambda name: name.replace("png", "jpg"), "there is '000000000001.png', which ends"),
    ],
    ids=["backslash", "prefix twice", "drive", "absolute", "case", "suffix"],
)
def test_names_that_lead_nowhere_get_a_hint(own, own_cfg, change, hint):
    rename(own, change)
    assert hint in sentence(own_cfg)


def test_names_in_the_way_of_addresses_get_a_hint(own, own_cfg, picture):
    picture.rename(picture.with_name("an ä.png"))
    rename(own, lambda name: "an%20%C3%A4.png" if name == picture.name else name)
    assert "there is 'an ä.png': write file_name as it is" in sentence(own_cfg)


def test_names_that_lead_somewhere(own, own_cfg, capsys):
    """Absolute, in a folder, a link, another alphabet."""
    folder = own / "train2017"
    (folder / "Bäume").mkdir()
    (folder / "000000000001.png").rename(folder / "Bäume/樹 1.png")
    (folder / "link.png").symlink_to(folder / "000000000002.png")
    names = ["Bäume/樹 1.png", "link.png", str(folder / "000000000003.png"), "000000000004.png"]

    def change(data):
        for image, name in zip(data["images"], names):
            image["file_name"] = name

    edit(train_file(own), change)
    assert "4 of 4 pictures" in said(own_cfg, capsys)
    (folder / "000000000002.png").unlink()
    assert "its link points nowhere" in sentence(own_cfg)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.97])
@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_picture_that_is_cut_off(own, own_cfg, picture, kind, part):
    other = picture.with_suffix(f".{kind}")
    Image.open(picture).save(other, **({"lossless": True} if kind == "webp" else {}))
    rename(own, lambda name: name.replace("2.png", f"2.{kind}"))
    check(own_cfg, ("train",))
    cut(other, part)
    text = sentence(own_cfg)
    assert f"The picture {str(other)!r} of train_dataloader.dataset cannot be read" in text


def test_what_follows_a_whole_picture_does_not_matter(own, own_cfg, picture):
    turned = turn(picture, 1)
    rename(own, lambda name: name.replace("2.png", "2.jpg"))
    with open(turned, "ab") as file:
        file.write(b"\0\n and what a telephone adds")
    check(own_cfg, ("train",))


def test_no_picture_at_all(own, own_cfg, picture):
    picture.write_bytes(b"<html>not found</html>")
    assert f"{str(picture)!r} of train_dataloader.dataset cannot be read" in sentence(own_cfg)
    picture.unlink()
    picture.mkdir()
    assert "are not there" in sentence(own_cfg)


def test_hidden_companions_of_macos(own, own_cfg, picture, capsys):
    for path in list(picture.parent.iterdir()):
        (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    said(own_cfg, capsys)  # unless they are listed
    rename(own, lambda name: f"._{name}")
    assert "hidden companion that macOS leaves" in sentence(own_cfg)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_pictures_that_a_camera_marked_as_turned(own, own_cfg, capsys, orientation):
    """OpenCV turns them; the annotations' size tells whether that was known."""
    for path in sorted((own / "train2017").iterdir()):
        turned = turn(path, orientation)
    rename(own, lambda name: name.replace("png", "jpg"))
    shape = cv2.imread(str(turned)).shape[:2]
    assert shape == ((96, 64) if orientation > 4 else (64, 96))
    if orientation < 5:
        text = said(own_cfg, capsys, ("train",))
        assert ("have EXIF orientation 3; training turns" in text) == (orientation == 3)
        return
    text = sentence(own_cfg)
    assert (
        f"has 64x96 pixels as training reads it, turned by its EXIF orientation {orient(text)}"
        in text
    )
    assert "says 96x64 (4 of 4 pictures differ)" in text and "exif_transpose" in text

    def swap(data):
        for image in data["images"]:
            image["width"], image["height"] = image["height"], image["width"]

    edit(train_file(own), swap)
    check(own_cfg, ("train",))


def orient(text):
    return text.split("EXIF orientation ")[1][0]


def test_a_reader_that_ignores_the_orientation(own, own_cfg, capsys):
    for path in sorted((own / "train2017").iterdir()):
        turn(path, 6)
    rename(own, lambda name: name.replace("png", "jpg"))
    load = own_cfg.train_dataloader.dataset.pipeline[0]
    load.color_type = "color_ignore_orientation"
    assert "EXIF" not in said(own_cfg, capsys, ("train",))


def test_square_pictures_do_not_show_that_they_are_turned(own, own_cfg, capsys):
    for path in sorted((own / "train2017").iterdir()):
        Image.open(path).resize((64, 64)).save(path)
        turn(path, 6)
    rename(own, lambda name: name.replace("png", "jpg"))
    edit(train_file(own), each("width", 64, "images"))
    text = said(own_cfg, capsys, ("train",))
    assert "4 pictures of train_dataloader.dataset, first" in text and "orientation 6" in text


def test_pictures_that_were_resized_afterwards(own, own_cfg, picture):
    Image.open(picture).resize((48, 32)).save(picture)
    text = sentence(own_cfg)
    assert f"The picture {str(picture)!r} of train" in text and "has 48x32 pixels" in text
    assert "instances_train2017.json' says 96x64 (1 of 4 pictures differ)" in text


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pictures_of_other_modes_are_tried_as_they_are_read(own, own_cfg, picture, capsys, mode):
    image = Image.open(picture)
    if mode == "I;16":
        image = Image.fromarray(np.full((64, 96), 4000, np.uint16))
    elif mode == "CMYK":
        picture = picture.with_suffix(".jpg")
        rename(own, lambda name: name.replace("2.png", "2.jpg"))
        image = image.convert(mode)
    else:
        image = image.convert(mode)
    image.save(picture)
    text = said(own_cfg, capsys)
    assert ("have 16 or more bits" in text) == (mode == "I;16")


def test_sixteen_bits_in_colours(own, own_cfg, picture, capsys):
    cv2.imwrite(str(picture), np.full((64, 96, 3), 4000, np.uint16))
    assert "1 pictures of train_dataloader.dataset, first" in said(own_cfg, capsys)


def test_a_format_that_the_training_cannot_read(own, own_cfg, picture):
    other = picture.with_suffix(".ico")  # which Pillow knows, OpenCV does not
    Image.open(picture).save(other, sizes=[(96, 64)])
    rename(own, lambda name: name.replace("2.png", "2.ico"))
    assert f"{str(other)!r} of train_dataloader.dataset cannot be read" in sentence(own_cfg)


def test_pictures_of_both_sets_are_said(own, own_cfg, picture, capsys):
    """Under another name as well."""
    assert "trained on as well" not in said(own_cfg, capsys)
    shutil.copy(picture, own / "val2017/000000000004.png")
    text = said(own_cfg, capsys)
    assert "warning: 1 of 4 pictures of val_dataloader.dataset are trained on as well" in text
    shutil.copy(val_file(own), train_file(own))
    own_cfg.train_dataloader.dataset.data_prefix.img = "val2017/"
    assert "4 of 4 pictures" in said(own_cfg, capsys)


def test_pictures_that_no_annotation_names_are_counted(own, own_cfg, picture, capsys):
    shutil.copy(picture, picture.with_name("more.png"))
    assert f"1 pictures in {picture.parent} are named by no annotation" in said(own_cfg, capsys)


def test_a_second_start_reads_no_picture_again(own, own_cfg, picture, monkeypatch):
    for path in picture.parent.iterdir():
        os.utime(path, (1e9, 1e9))
    check(own_cfg, ("train",))
    read = []
    one = headers._read
    monkeypatch.setattr(headers, "_read", lambda *a: read.append(a[0]) or one(*a))
    check(own_cfg, ("train",))
    assert read == []
    cut(picture)
    assert "cannot be read" in sentence(own_cfg)
    assert read == [str(picture)]


def test_a_long_check_says_how_far_it_is(own_cfg, capsys, monkeypatch):
    monkeypatch.setattr(notes, "_EVERY", -1)
    assert "pictures of train_dataloader.dataset: 3 of 4 looked at" in said(own_cfg, capsys)


def test_one_process_of_a_machine_looks_into_the_files(own_cfg, picture, capsys, monkeypatch):
    picture.unlink()
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert said(own_cfg, capsys) == ""


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_several_pictures_in_a_file_are_said(own, own_cfg, capsys, picture, suffix):
    with Image.open(picture) as image:
        more = [Image.new("RGB", image.size, (k, k, k)) for k in (50, 90)]
        image.save(picture.with_suffix(f".{suffix}"), save_all=True, append_images=more)
    edit(
        train_file(own),
        lambda data: data["images"][1].update(file_name=picture.with_suffix(f".{suffix}").name),
    )
    assert "1 pictures of train_dataloader.dataset, first" in said(own_cfg, capsys)
    assert "hold several pictures, of which training sees the first" in said(own_cfg, capsys)


def test_pictures_in_hidden_folders_are_said(own, own_cfg, capsys, picture):
    (picture.parent / ".copies").mkdir()
    shutil.move(picture, picture.parent / ".copies")
    name = f".copies/{picture.name}"
    edit(train_file(own), lambda data: data["images"][1].update(file_name=name))
    assert "lie in a hidden folder" in said(own_cfg, capsys)


def test_a_folder_of_a_picture_s_name_gets_a_hint(own, own_cfg, picture):
    picture.unlink()
    picture.mkdir()
    assert "what has this name is a folder" in sentence(own_cfg)
