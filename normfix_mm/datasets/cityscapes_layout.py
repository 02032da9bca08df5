"""Cityscapes' folder: which images there are, and that each has its annotation.

    leftImg8bit/{train,val,test}/CITY/CITY_…_leftImg8bit.png
    gtFine/{train,val}/CITY/CITY_…_gtFine_{polygons.json,labelIds.png,instanceIds.png}

is what leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from normfix_mm.errors import BadInput

WHOLE = {"train": 2975, "val": 500, "test": 1525}  # images
LABELLED = ("train", "val")
IMAGE, TRUTH = "_leftImg8bit.png", "_gtFine_"
IDS, POLYGONS = "labelIds.png", "polygons.json"


@dataclass(frozen=True)
class Picture:
    """An image, and where its annotations stand: `truth` + 'labelIds.png' and so on."""

    image: Path
    truth: str
    instances: bool  # whether the evaluation reads its instanceIds.png


def pictures(root: str | Path) -> dict[str, list[Picture]]:
    """The images of each split, sorted; 'test' only if it is there.

    Raises:
        BadInput: The folder has another layout, an image has no annotation, or the reverse.
    """
    root = Path(root).expanduser()
    _check_top(root)
    found = {}
    for split in WHOLE:
        folder = root / "leftImg8bit" / split
        images = sorted(_visible(folder, IMAGE))
        if split not in LABELLED:
            if images:
                found[split] = [Picture(image, "", False) for image in images]
            continue
        if not images:
            raise BadInput(
                f"{folder} {'holds no CITY/*' + IMAGE if folder.is_dir() else 'does not exist'}; "
                "extract leftImg8bit_trainvaltest.zip once more."
            )
        truths = root / "gtFine" / split
        there = {
            f"{path.parent.name}/{path.name.removesuffix(kind)}"
            for kind in (POLYGONS, IDS)
            for path in _visible(truths, f"{TRUTH}{kind}")
        }
        names = {
            image: f"{image.parent.name}/{image.name.removesuffix(IMAGE)}{TRUTH}"
            for image in images
        }
        _check_pairs(names, there, truths)
        found[split] = [
            Picture(image, str(truths / name), split == "val") for image, name in names.items()
        ]
    return found


def _visible(folder: Path, end: str) -> Iterator[Path]:
    """Files of the cities; macOS leaves a hidden '._' companion beside each that was copied."""
    return (path for path in folder.glob(f"*/*{end}") if not path.name.startswith("."))


def _check_top(root: Path) -> None:
    if not root.is_dir():
        raise BadInput(f"The folder {str(root)!r} does not exist; give that of leftImg8bit/.")
    for part in ("leftImg8bit", "gtFine"):
        if (root / part).is_dir():
            continue
        archives = sorted(path.name for path in root.glob(f"{part}*.zip"))
        if archives:
            raise BadInput(
                f"{root} holds {archives[0]} but no {part}/: the archive is not extracted; "
                f"run `unzip {archives[0]}` in that folder."
            )
        for level in ("*", "*/*"):
            for inner in sorted(root.glob(f"{level}/{part}")):
                raise BadInput(
                    f"{part}/ is not in {root} but in {inner.parent}; give the folder that holds "
                    "both leftImg8bit/ and gtFine/, or move it there."
                )
        if root.name in ("leftImg8bit", "gtFine"):
            raise BadInput(f"{root} is one part of Cityscapes; give its parent, {root.parent}.")
        raise BadInput(
            f"{root} has no {part}/; extract {part}_trainvaltest.zip of cityscapes-dataset.com "
            "there."
        )


def _check_pairs(names: dict[Path, str], there: set[str], truths: Path) -> None:
    bare = [image for image, name in names.items() if name not in there]
    if bare:
        raise BadInput(
            f"{len(bare)} of {len(names)} images have no annotation under {truths}, first "
            f"{bare[0].name}; extract gtFine_trainvaltest.zip once more."
        )
    lost = sorted(there - set(names.values()))
    if lost:
        raise BadInput(
            f"{len(lost)} of {len(there)} annotations under {truths} have no image, first "
            f"{lost[0]}*; extract leftImg8bit_trainvaltest.zip once more."
        )
