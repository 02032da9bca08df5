"""Damage inside of PNG files, and transparency that the training drops, are found before it."""

import zlib

import numpy as np
import pytest
from helpers.spoiled import each, edit
from PIL import Image
from preflight.test_coco import said, train_file
from preflight.toy_preflight import sentence

from normfix_mm.preflight import check


@pytest.fixture
def picture(own):
    return own / "train2017/000000000002.png"


def spoil(path, chunk: bytes, at: int = 20) -> None:
    data = bytearray(path.read_bytes())
    place = data.index(chunk) + 4 + at
    for k in range(20):
        data[place + k] ^= 0x5A
    path.write_bytes(data)


def test_a_png_that_is_damaged_inside_is_named(own, own_cfg, picture):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    Image.fromarray(noise).save(picture)
    check(own_cfg, ("train",))
    spoil(picture, b"IDAT", 200)
    text = sentence(own_cfg, ("train",))
    assert f"The picture {str(picture)!r} of train_dataloader.dataset cannot be read" in text
    assert "checksum" in text and "it is damaged, cut off or no picture" in text


def test_damage_beside_the_pixels_stops_nothing(own, own_cfg, picture):
    """Behind the pixels, where a program has left a text."""
    data = picture.read_bytes()
    content = b"tEXtComment\0" + b"x" * 60
    check_sum = zlib.crc32(content).to_bytes(4, "big")
    chunk = (len(content) - 4).to_bytes(4, "big") + content + check_sum
    picture.write_bytes(data[:-12] + chunk + data[-12:])
    check(own_cfg, ("train",))
    spoil(picture, b"tEXt")
    check(own_cfg, ("train",))


def clear(path, mode: str, ground: int = 0, suffix: str = ".png") -> None:
    """Black ink on a ground of this opacity."""
    pixels = np.zeros((64, 96, 4), np.uint8)
    pixels[..., 3] = ground
    pixels[10:30, 10:30, 3] = 255
    image = Image.fromarray(pixels)
    options = {}
    if mode == "P":
        image, options = Image.new("P", (96, 64)), dict(transparency=0)
    elif mode == "RGB":
        image, options = Image.new("RGB", (96, 64)), dict(transparency=(0, 0, 0))
    elif mode == "LA":
        image = image.convert("LA")
    elif suffix == ".webp":
        options = dict(lossless=True)
    image.save(path.with_suffix(suffix), **options)


SAYS = "of train_dataloader.dataset have an alpha channel, and"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparent_pictures_are_said(own, own_cfg, picture, capsys, mode):
    clear(picture, mode)
    text = said(own_cfg, capsys)
    assert f"warning: 1 pictures {SAYS} {str(picture)!r} is transparent, which training" in text
    assert text.count("alpha channel") == 1


def test_transparent_webp(own, own_cfg, picture, capsys):
    clear(picture, "RGBA", suffix=".webp")
    edit(
        train_file(own),
        each("file_name", lambda name: name.replace("2.png", "2.webp"), "images"),
    )
    assert f"warning: 1 pictures {SAYS}" in said(own_cfg, capsys)


def test_an_alpha_channel_that_is_opaque_all_over_is_no_matter(own, own_cfg, picture, capsys):
    clear(picture, "RGBA", ground=255)
    assert "alpha" not in said(own_cfg, capsys)


def test_a_training_that_keeps_the_channel_is_left_alone(own_cfg, picture, capsys):
    from normfix_mm.preflight.pictures import check_pictures, loader_of

    clear(picture, "RGBA")
    for flag in ("color", "unchanged"):
        step = dict(type="mmcv.LoadImageFromFile", color_type=flag)
        load = loader_of(dict(pipeline=[step]))
        check_pictures([str(picture)], str(picture.parent), "here", "", load)
        assert ("alpha channel" in capsys.readouterr().err) == (flag == "color")
