"""Are the pictures there, whole, and of the size that their annotations were made for?

Only headers and ends of the files are read, each once (``normfix_mm.datasets.remembered``): a JPEG
file ends with a marker, a PNG file with a chunk, and what ends otherwise is decoded. Of each kind
of file, by format, mode and EXIF orientation, one is decoded as the training does it: what it
cannot read or turns is found by trying.
"""

from __future__ import annotations

import copy
import os
import unicodedata
import warnings
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from normfix_mm.datasets.config import transforms_named
from normfix_mm.datasets.remembered import recall, remember, settled, stamp_of
from normfix_mm.errors import BadInput, one_line
from normfix_mm.preflight.notes import Progress, warn

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif")
Loader = Callable[[str], np.ndarray]
_ORIENTATION, _EXCHANGED = 0x0112, 5  # EXIF; from this one on width and height are exchanged
_TAIL = 1024  # bytes
_THREADS = 8  # most of the time is waiting for a disk, or a network's
_DEEP = " of 16 bits"


@dataclass(frozen=True)
class Header:
    """What a picture file says of itself; the size is that of the stored pixels."""

    width: int
    height: int
    orientation: int  # EXIF's, 1 where there is none
    kind: str  # format and mode
    length: int  # bytes
    ending: int  # checksum of its last bytes

    @property
    def fingerprint(self) -> tuple[int, int]:
        """Equal for equal files, and hardly for others."""
        return self.length, self.ending


@dataclass
class Pictures:
    """The pictures of one dataset: path → header; and whether the training turns some kinds."""

    headers: dict[str, Header]
    turned: set[tuple[str, int]]

    def size(self, path: str) -> tuple[int, int]:
        """Width and height as the training sees them."""
        header = self.headers[path]
        if (header.kind, header.orientation) in self.turned:
            return header.height, header.width
        return header.width, header.height


def check_pictures(
    paths: Sequence[str], folder: str, where: str, source: str, load: Loader | None
) -> Pictures:
    """Read the headers of these pictures and decode one of each kind.

    Args:
        folder: where they lie, for what is remembered.
        source: the file that names them, '' if they were found in the folder.
        load: decodes a file as the training does; None if that is not known.

    Raises:
        BadInput: Some are not there, cut off or not readable.
    """
    _check_there(paths, folder, where, source)
    headers = read_headers(paths, folder, "picture", where, load)
    turned = set()
    kinds: dict[tuple[str, int], str] = {}
    for path, header in headers.items():
        kind = header.kind, header.orientation
        if kind not in kinds or header.width != header.height:  # a square shows no turning
            kinds.setdefault(kind, path)
            if headers[kinds[kind]].width == headers[kinds[kind]].height:
                kinds[kind] = path
    for (kind, orientation), path in kinds.items():
        header = headers[path]
        exchanged = orientation >= _EXCHANGED
        if load is not None:
            height, width = _decoded(path, load, where).shape[:2]
            exchanged = (width, height) == (header.height, header.width) != (height, width)
        if exchanged:
            turned.add((kind, orientation))
        same = sum(
            each.kind == kind and each.orientation == orientation for each in headers.values()
        )
        if orientation != 1 and not exchanged:
            warn(
                f"{same} pictures of {where}, first {path!r}, have EXIF orientation {orientation} "
                "(upside down or mirrored); training turns such pictures, so see that their "
                "annotations were drawn on the turned ones."
            )
        if kind.endswith(_DEEP):
            warn(
                f"{same} pictures of {where}, first {path!r}, have 16 or more bits a channel; "
                "training reads them as 8 bits, by dropping the lower ones: rescale them before."
            )
    return Pictures(headers, turned)


def check_sizes(
    pictures: Pictures, sizes: dict[str, tuple[int, int]], where: str, source: str
) -> None:
    """Compare the pictures with the sizes that their annotations were made for.

    Args:
        sizes: path → width, height.

    Raises:
        BadInput: With the first of those that differ.
    """
    wrong = [path for path, size in sizes.items() if pictures.size(path) != tuple(size)]
    if wrong:
        path = wrong[0]
        have, want = (
            "{}x{}".format(*map(int, each)) for each in (pictures.size(path), sizes[path])
        )
        orientation = pictures.headers[path].orientation
        turned = f", turned by its EXIF orientation {orientation}" if orientation != 1 else ""
        remedy = (
            "store the pixels as they are to be seen (Pillow's ImageOps.exif_transpose) and "
            if turned
            else ""
        )
        raise BadInput(
            f"The picture {path!r} of {where} has {have} pixels as training reads it{turned}, but "
            f"{source!r} says {want} ({len(wrong)} of {len(sizes)} pictures differ); {remedy}make "
            "the annotations anew for the pictures as they are, or put the pictures back that they "
            "were made for."
        )


def warn_of_leak(train: Pictures, held_out: Pictures, where: str) -> None:
    """Warn where pictures of the training set are evaluated on, under whatever name."""
    known: dict[tuple[int, int], str] = {h.fingerprint: path for path, h in train.headers.items()}
    shared = [(path, known.get(h.fingerprint)) for path, h in held_out.headers.items()]
    shared = [(path, other) for path, other in shared if other]
    if shared and all(_same_content(*pair) for pair in shared[:5]):
        path, other = shared[0]
        warn(
            f"{len(shared)} of {len(held_out.headers)} pictures of {where} are trained on as well, "
            f"first {path!r} (train: {other!r}); the evaluation then says nothing about new ones."
        )


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
    known, progress = recall("pictures", folder), Progress(f"{what}s of {where}", len(paths))
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
        remember(known | kept, "pictures", folder)
    return found


def loader_of(dataset) -> Loader | None:
    """Decodes a file as the first step of the dataset's pipeline does; None without one."""
    from mmengine.registry import TRANSFORMS

    steps = transforms_named(dataset, "LoadImage")
    if not steps:
        return None
    step = TRANSFORMS.build(copy.deepcopy(steps[0]))
    return lambda path: step(dict(img_path=path))["img"]


# -- one file -----------------------------------------------------------------------------------


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
                    kind = f"{image.format} {image.mode}{_DEEP if deep else ''}"
                    if not _ends(image.format, tail, length, file):
                        image.load()
            except (UnidentifiedImageError, Image.DecompressionBombError):
                if load is None:
                    raise
                height, width = load(path).shape[:2]  # remote sensing has formats of its own
                orientation, kind = 1, "other other"
        return Header(width, height, orientation, kind, length, zlib.crc32(tail))
    except Exception as error:  # Pillow has many, and so have other decoders
        raise _unreadable(path, what, where, error) from None


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


def _decoded(path: str, load: Loader, where: str) -> np.ndarray:
    try:
        pixels = load(path)
        if pixels is None:
            raise ValueError("its decoder returned nothing")
        return pixels
    except Exception as error:
        raise _unreadable(path, "picture", where, error) from None


def _unreadable(path: str, what: str, where: str, error: Exception) -> BadInput:
    name = os.path.basename(path)
    if name.startswith("._"):
        return BadInput(
            f"The {what} {path!r} of {where} is none but a hidden companion that macOS leaves "
            "beside copied files; delete all files that begin with '._', and their entries."
        )
    said = one_line(error, 120).replace(path, "it")
    return BadInput(
        f"The {what} {path!r} of {where} cannot be read ({said}); it is cut off or no "
        "picture: fetch or write it again, or take its entry out."
    )


def _check_there(paths: Sequence[str], folder: str, where: str, source: str) -> None:
    absent = [path for path in paths if not os.path.isfile(path)]
    if not absent:
        return
    path = absent[0]
    name = os.path.relpath(path, folder)
    named = f" that {source!r} names" if source else ""
    raise BadInput(
        f"{len(absent)} of {len(paths)} pictures of {where}{named} are not there, first {path!r}; "
        f"{_hint(name, folder)}."
    )


def _hint(name: str, folder: str) -> str:
    """What to do about a picture that is not there under this name."""
    if os.path.islink(os.path.join(folder, name)):
        return "its link points nowhere"
    if "\\" in name:
        return "write / in place of \\ in its file_name"
    parts = name.replace(os.sep, "/").split("/")
    for k in range(1, len(parts)):
        if os.path.isfile(os.path.join(folder, *parts[k:])):
            return f"leave {'/'.join(parts[:k])}/ out of file_name: data_prefix has it already"
    place = os.path.join(folder, *parts[:-1])
    for other in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if _plain(other) == _plain(parts[-1]):
            return f"there is {other!r}, of which case or accents are written otherwise"
        if os.path.splitext(other)[0] == os.path.splitext(parts[-1])[0]:
            return f"there is {other!r}, which ends otherwise"
    return "add them, or correct data_root, data_prefix or file_name"


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _same_content(one: str, other: str) -> bool:
    with open(one, "rb") as a, open(other, "rb") as b:
        return a.read() == b.read()


def unnamed(folder: str, named: Iterable[str]) -> int:
    """How many pictures of a folder are not among these."""
    known = {os.path.normpath(path) for path in named}
    count = 0
    for place, _, files in os.walk(folder):
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                count += os.path.normpath(os.path.join(place, name)) not in known
    return count
