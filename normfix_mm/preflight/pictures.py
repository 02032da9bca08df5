"""Are the pictures there, whole, and of the size that their annotations were made for?

Only headers and ends of the files are read (``headers``). Of each kind of file, by format, mode and
EXIF orientation, one is decoded as the training does it: what it cannot read or turns is found by
trying. So is, of a few, what it drops of transparent ones.
"""

from __future__ import annotations

import copy
import filecmp
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import torch
from PIL import Image
from torch import nn

from normfix_mm.datasets.config import transforms_named
from normfix_mm.datasets.seg_folder import visible
from normfix_mm.errors import BadInput
from normfix_mm.preflight.headers import DEEP, SEVERAL, Header, Loader, read_headers, unreadable
from normfix_mm.preflight.notes import warn

# What people keep pictures in, whether or not it can be read.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"),
    *(".heic", ".heif", ".avif", ".jp2"),
)
_LOOKED_AT = 5  # pictures with an alpha channel, many of which are opaque all over
_EXCHANGED = 5  # EXIF orientations from this one on exchange width and height


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
    hidden = [path for path in paths if _is_hidden(os.path.relpath(path, folder))]
    if hidden:
        warn(
            f"{len(hidden)} pictures of {where}, first {hidden[0]!r}, lie in a hidden folder; most "
            "such are copies that a program has left: delete them."
        )
    turned = set()
    kinds: dict[tuple[str, int], list[str]] = {}
    for path, header in headers.items():
        kinds.setdefault((header.kind, header.orientation), []).append(path)
    for (kind, orientation), those in kinds.items():
        square = {path: 0 for path in those if headers[path].width == headers[path].height}
        one = next((path for path in those if path not in square), those[0])
        exchanged = orientation >= _EXCHANGED
        if load is not None:
            height, width = _decoded(one, load, where).shape[:2]
            exchanged &= (width, height) != (headers[one].width, headers[one].height)
        if exchanged:
            turned.add((kind, orientation))
        unseen = [*square] if orientation >= _EXCHANGED else those if orientation > 1 else []
        if unseen:
            warn(
                f"{len(unseen)} pictures of {where}, first {unseen[0]!r}, have EXIF orientation "
                f"{orientation}; training turns such pictures, which their sizes do not show, so "
                "see that their annotations were drawn on the turned ones."
            )
        if kind.startswith(SEVERAL):
            warn(
                f"{len(those)} pictures of {where}, first {those[0]!r}, hold several pictures, of "
                "which training sees the first."
            )
        if kind.endswith(DEEP):
            warn(
                f"{len(those)} pictures of {where}, first {those[0]!r}, have 16 or more bits a "
                "channel; training reads them as 8 bits, by dropping the lower ones: rescale them "
                "before."
            )
    if load is not None:
        _warn_of_transparency([path for path in headers if headers[path].clear], load, where)
    return Pictures(headers, turned)


def _warn_of_transparency(paths: list[str], load: Loader, where: str) -> None:
    few = paths[:: -(-len(paths) // _LOOKED_AT)] if paths else []
    one = next((path for path in few if _is_clear(path)), None)
    if one is not None and _decoded(one, load, where).shape[2:] != (4,):
        warn(
            f"{len(paths)} pictures of {where} have an alpha channel, and {one!r} is transparent, "
            "which training drops: it sees whatever colours stand there, often black; flatten them "
            "first (onto white, for example)."
        )


def _is_clear(path: str) -> bool:
    """Whether some pixel is not opaque."""
    try:
        with Image.open(path) as image:
            return image.convert("RGBA").getchannel("A").getextrema()[0] < 255
    except Exception:  # which the training's own decoder may read
        return False


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
    if shared and all(filecmp.cmp(*pair, shallow=False) for pair in shared[:5]):
        path, other = shared[0]
        warn(
            f"{len(shared)} of {len(held_out.headers)} pictures of {where} are trained on as well, "
            f"first {path!r} (train: {other!r}); the evaluation then says nothing about new ones."
        )


def warn_of_normalization(model: nn.Module) -> None:
    """Warn where mean and std are those of pixels from 0 to 1, as in torchvision's examples."""
    shift, scale = (
        getattr(getattr(model, "data_preprocessor", None), name, None) for name in ("mean", "std")
    )
    if isinstance(scale, torch.Tensor) and shift.max() <= 1 and scale.max() < 1:
        warn(
            f"model.data_preprocessor has mean {shift.flatten().tolist()} and std "
            f"{scale.flatten().tolist()}, which are of pixels from 0 to 1; they are read from 0 to "
            "255: multiply both by 255."
        )


def loader_of(dataset) -> Loader | None:
    """Decodes a file as the first step of the dataset's pipeline does; None without one."""
    from mmengine.registry import TRANSFORMS

    steps = transforms_named(dataset, "LoadImage")
    if not steps:
        return None
    step = TRANSFORMS.build(copy.deepcopy(steps[0]))
    return lambda path: step(dict(img_path=path))["img"]


def _decoded(path: str, load: Loader, where: str) -> np.ndarray:
    try:
        pixels = load(path)
        if pixels is None:
            raise ValueError("its decoder returned nothing")
        return pixels
    except Exception as error:
        raise unreadable(path, "picture", where, error) from None


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
    if os.path.isdir(os.path.join(folder, name)):
        return "what has this name is a folder"
    if "\\" in name:
        return "write / in place of \\ in its file_name"
    parts = name.replace(os.sep, "/").split("/")
    for k in range(1, len(parts)):
        if os.path.isfile(os.path.join(folder, *parts[k:])):
            if parts[0] == "..":  # a path of its own, often of another machine
                return f"{parts[-1]!r} is in {folder!r}: write file_name as a path below it"
            return f"leave {'/'.join(parts[:k])}/ out of file_name: data_prefix has it already"
    if unquote(name) != name and os.path.isfile(os.path.join(folder, unquote(name))):
        return f"there is {unquote(name)!r}: write file_name as it is, without % and numbers"
    place = os.path.join(folder, *parts[:-1])
    for other in sorted(os.listdir(place)) if os.path.isdir(place) else ():
        if _plain(other) == _plain(parts[-1]):
            return f"there is {other!r}, of which case or accents are written otherwise"
        if os.path.splitext(other)[0] == os.path.splitext(parts[-1])[0]:
            return f"there is {other!r}, which ends otherwise"
    return "add them, or correct data_root, data_prefix or file_name"


def _is_hidden(name: str) -> bool:
    return any(part[0] == "." and part != ".." for part in name.split(os.sep)[:-1] if part)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def unnamed(folder: str, named: Iterable[str]) -> int:
    """How many pictures of a folder are not among these."""
    known = {os.path.normpath(path) for path in named}
    there = visible(Path(folder), SUFFIXES)
    return sum(os.path.normpath(path) not in known for path in there)
