"""Headers and ends of picture files: size, kind, and whether a file is whole, without decoding it.

A JPEG file ends with a marker, a PNG file with a chunk, others say how long they are; what ends
otherwise is decoded. A PNG file has checksums all along it, by which damage inside is seen. Each
file is read once (``normfix_mm.datasets.remembered``).
"""

from __future__ import annotations

import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields

import numpy as np
from PIL import Image, UnidentifiedImageError

from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of
from normfix_mm.errors import BadInput, one_line
from normfix_mm.preflight.notes import Progress

Loader = Callable[[str], np.ndarray]
DEEP = " of 16 bits"  # or more, at the end of a kind
SEVERAL = "several "  # at the beginning of a kind: an animation, or pages
_ORIENTATION = 0x0112  # EXIF
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
_TAIL = 1024  # bytes
_THREADS = 8  # most of the time is waiting for a disk, or a network's


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself; the size is that of the stored pixels."""

    width: int
    height: int
    orientation: int  # EXIF's, 1 where there is none
    kind: str  # format and mode
    length: int  # bytes
    ending: int  # checksum of its last bytes
    clear: bool  # whether pixels of it can be transparent

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Equal for equal files, and hardly for others."""
        return self.length, self.ending


def read_headers(
    paths: Sequence[str], folder: str, what: str, where: str, load: Loader | None = None
) -> dict[str, Header]:
    """The header of each file, which is found to be whole.

    Args:
        what, where: what the files are, and whose, for sentences.
        load: decodes what Pillow does not know.

    Raises:
        BadInput: At the first that is cut off or no picture.
    """
    folder = os.path.abspath(folder)
    key = "pictures", [field.name for field in fields(Header)], folder
    known, progress = recall(*key), Progress(f"{what}s of {where}", len(paths))
    kept = {}

    def read(path: str) -> tuple[str, Header]:
        name, stamp = os.path.relpath(path, folder), stamp_of(path)
        there = known.get(name)
        if there and there[0] == stamp:
            header = Header(*there[1])
        else:
            header = _read(path, what, where, load)
        if settled(stamp):
            kept[name] = [stamp, astuple(header)]
        progress.step()
        return path, header

    with ThreadPoolExecutor(_THREADS) as pool:
        found = dict(pool.map(read, dict.fromkeys(paths)))
    if any(known.get(name) != each for name, each in kept.items()):
        remember(known | kept, *key)
    return found


def _read(path: str, what: str, where: str, load: Loader | None) -> Header:
    try:
        with open(path, "rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large ones
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
            file.seek(0)
            if not length:
                raise OSError("it is empty")
            try:
                with Image.open(file) as image:
                    width, height = image.size
                    orientation = _orientation(image)
                    deep = image.mode[0] in "IF" or ";16" in str(image.tile[:1])
                    kind = f"{image.format} {image.mode}{DEEP if deep else ''}"
                    if image.format != "MPO" and getattr(image, "is_animated", False):
                        kind = SEVERAL + kind  # cameras' MPO has a preview beside
                    clear = image.mode in _ALPHA or "transparency" in image.info
                    if not _ends(image.format, tail, length, file):
                        image.load()
                    elif image.format == "PNG":
                        _verify(image, path, load)
            except (UnidentifiedImageError, Image.DecompressionBombError):
                if load is None:
                    raise
                height, width = load(path).shape[:2]  # remote sensing has formats of its own
                orientation, kind, clear = 1, "other other", False
        return Header(width, height, orientation, kind, length, zlib.crc32(tail), clear)
    except Exception as error:  # Pillow has many, and so have other decoders
        raise unreadable(path, what, where, error) from None


def _verify(image: Image.Image, path: str, load: Loader | None) -> None:
    """Compare the checksums of a PNG file. Wrong ones beside the pixels may be no matter."""
    try:
        image.verify()
    except Exception:
        try:
            whole = load is not None and load(path) is not None
        except Exception:
            whole = False
        if not whole:
            raise


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # else Pillow decodes all of it to look behind the pixels
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def _ends(kind: str | None, tail: bytes, length: int, file) -> bool:
    """Whether the end of the file is that of a whole one; where not, decoding tells."""
    if kind in ("JPEG", "MPO"):
        return tail.rstrip(b"\0\r\n ").endswith(b"\xff\xd9")
    if kind == "PNG":
        return tail.endswith(b"IEND\xaeB`\x82")
    if kind == "WEBP":
        file.seek(4)
        return int.from_bytes(file.read(4), "little") + 8 <= length
    if kind == "BMP":
        file.seek(2)
        return int.from_bytes(file.read(4), "little") <= length
    return False


def unreadable(path: str, what: str, where: str, error: Exception) -> BadInput:
    name = os.path.basename(path)
    if name.startswith("._"):
        return BadInput(
            f"The {what} {path!r} of {where} is none but a hidden companion that macOS leaves "
            "beside copied files; delete all files that begin with '._', and their entries."
        )
    said = one_line(error, 120).replace(path, "it")
    return BadInput(
        f"The {what} {path!r} of {where} cannot be read ({said}); it is damaged, cut "
        "off or no picture: fetch or write it again, or take its entry out."
    )
