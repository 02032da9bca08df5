"""Spoiling data as people's data are spoilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image


def edit(file: Path, change: Callable[[dict], object]) -> Path:
    """Change a JSON file in place."""
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    return file


def each(key: str, value: object, of: str = "annotations") -> Callable[[dict], object]:
    """A change that gives every entry this value, or what a function makes of the old one."""

    def change(data: dict) -> None:
        for entry in data[of]:
            entry[key] = value(entry[key]) if callable(value) else value

    return change


def first(key: str, value: object, of: str = "annotations") -> Callable[[dict], object]:
    """A change of the first entry alone."""
    return lambda data: data[of][0].update({key: value})


def without(key: str, of: str = "annotations") -> Callable[[dict], object]:
    return lambda data: [entry.pop(key) for entry in data[of]]


def cut(file: Path, part: float = 0.5) -> None:
    """Keep the beginning of a file, as an interrupted copy does."""
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])


def turn(file: Path, orientation: int) -> Path:
    """The picture as a JPEG file that a camera marked as turned; its pixels stay as they lie."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = file.with_suffix(".jpg")
    with Image.open(file) as image:
        image.convert("RGB").save(turned, exif=exif, quality=95)
    file.unlink()
    return turned
