"""A folder in COCO format as the data of a detection config.

FOLDER/images/{train,val}/…            FOLDER/annotations/instances_{train,val}.json

or, without a split, FOLDER/images/… and one file in FOLDER/annotations/, or one FOLDER/*.json: then
a fifth of the pictures that it names is for validation, those whose file names have the least
hashes. What each part has stands in a file of its own in the run's work dir. Where the pictures of
a file lie, in images/, in a folder of it or in the root, is seen by some of them.

MMDetection numbers the classes in the order of each file's categories, whatever order the config
names them in, and its evaluation wants `iscrowd` of each annotation. Files are taken as people have
them: where one is not in order, a copy of it that is stands in the work dir, and is what the config
names.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.datasets.coco_annotations import Annotations, read_annotations
from normfix_mm.datasets.coco_entries import read_json
from normfix_mm.datasets.folder import ALL, Folder, Split, drawn, refuse_part
from normfix_mm.errors import BadInput, listing

if TYPE_CHECKING:
    from mmengine.config import Config


_LOOKED_AT = 50  # pictures of a file that show where all of them lie


class CocoFolder(Folder):
    """Images, and boxes or masks of what is on them."""

    layout = (
        "a COCO-format folder has images/{train,val} and annotations/instances_{train,val}.json, "
        "or images/ and one file in annotations/"
    )

    @cached_property
    def whole(self) -> Path | None:
        """The one annotation file of a folder without a split; None of one that has it."""
        images, files = self.root / "images", self._files()
        split = not images.is_dir() or (images / "val").is_dir()
        return None if split or len(files) != 1 else files[0]

    def parts(self, split: Split) -> list[Path]:
        return [self.root / self._place(split), self.annotations(split)]

    def classes(self, split: Split) -> Sequence[str]:
        return read_annotations(self.annotations(split)).names

    def settings(self, split: Split, classes: Sequence[str], cfg: Config) -> dict:
        path = self.annotations(split)
        there = read_annotations(path)
        missing = [name for name in classes if name not in there.names]
        if missing:
            raise BadInput(f"{path} has no class {missing[0]!r}; it has {listing(there.names)}.")
        kept = {image[0] for image in self.images(split)} if self._is_drawn(split) else None
        if kept is not None or _wants_order(there, classes):
            work_dir = Path(cfg.get("work_dir") or "work_dirs")
            path = _in_order(path, classes, work_dir, split.name, kept)
        place = self._place(split)
        return dict(ann_file=str(path), data_prefix=dict(img=f"{place}/" if place else ""))

    def set_evaluators(self, cfg: Config) -> None:
        for phase in ("val", "test"):
            loader, evaluator = cfg.get(f"{phase}_dataloader"), cfg.get(f"{phase}_evaluator")
            if loader is None or evaluator is None:
                continue
            dataset = loader.dataset
            while "ann_file" not in dataset:
                dataset = dataset.dataset
            for each in evaluator if isinstance(evaluator, list) else [evaluator]:
                each.ann_file = dataset.ann_file

    def splits(
        self, train_list: Path | None, val_list: Path | None, val_split: str
    ) -> tuple[Split, Split]:
        if self.whole and not (train_list or val_list):
            return ALL, Split("val", None)
        if self.whole and train_list is None:
            train_list = self.whole  # beside another file to validate on
        if val_list is None and (self.whole or val_split == "train"):
            val_list = self._named("val")
            if not val_list.is_file():
                self._refuse_unlisted("val")
        return super().splits(train_list, val_list, val_split)

    def drawn_here(self, train: Split, val: Split) -> str | None:
        if not self._is_drawn(val):
            return None
        held, every = self.images(val), read_annotations(self.annotations(val)).images
        return (
            f"no split: {len(held)} of {len(every)} pictures are held for validation, those of "
            f"{self.annotations(val).relative_to(self.root)} whose names have the least hashes "
            "(to choose them: --train-list FILE --val-list FILE)."
        )

    def images(self, split: Split) -> list[list]:
        """The entries of the split's images, as :class:`Annotations` has them.

        Raises:
            BadInput: There are too few to be split.
        """
        path = self.annotations(split)
        images = read_annotations(path).images
        if not self._is_drawn(split):
            return images
        names = {_normal(image[1]) for image in images}
        if len(names) < 2:
            raise BadInput(f"{path} names one picture; give at least two, one to validate on.")
        held = drawn(names)
        return [each for each in images if (_normal(each[1]) in held) == (split.name == "val")]

    def pictures(self, split: Split) -> set[str]:
        place = self._place(split)
        return {
            _normal(f"{place}/{image[1]}" if place else image[1]) for image in self.images(split)
        }

    def training_images(self, train: Split = ALL) -> list:
        if train.list is None:
            refuse_part(self.root)
            if not self.annotations(train).exists():
                self._refuse_unlisted("train")
        return [image[0] for image in self.images(train)]

    def write_list(self, out: Path, name: str, chosen: set, train: Split = ALL) -> Path:
        data, _ = read_json(self.annotations(train))
        _keep(data, chosen)
        with replacing(out / f"instances_{name}.json") as part:
            part.write_text(json.dumps(data))
        return out / f"instances_{name}.json"

    def annotations(self, split: Split) -> Path:
        """The file that names the split's images, and perhaps others."""
        return split.list or self.whole or self._named(split.name)

    def refuse_unnamed(self) -> None:
        """Refuse annotation files of which nothing says what they are for.

        Raises:
            BadInput: With what was found.
        """
        if not self.whole and self._files() and (self.root / "images").is_dir():
            for part in ("train", "val"):
                if not self._named(part).exists():
                    self._refuse_unlisted(part)

    def _check(self, *splits: Split) -> None:
        refuse_part(self.root)
        for split in splits:
            if not self.annotations(split).exists():
                self._refuse_unlisted(split.name)
            place = self.root / self._place(split)
            if split.name == "val" and not place.exists() and (self.root / "images/train").is_dir():
                raise BadInput(
                    f"{place} does not exist; {self.layout}: put the pictures there, or say "
                    "--val-split train if they lie in images/train."
                )
        super()._check(*splits)

    def _refuse_unlisted(self, part: str) -> None:
        """Say that there is no annotation file of 'train' or 'val', and what there is."""
        path, files = self._named(part), self._files()
        places = [f"images/{name}" for name in ("train", "val")]
        places = [name for name in places if (self.root / name).is_dir()] or ["images/"]
        if not files or not (self.root / places[0]).is_dir():
            raise BadInput(f"{path} does not exist; {self.layout}.")
        if self.whole:
            remedy = "or give neither: a fifth of the pictures is then held for validation"
        elif len(files) > 1:
            remedy = "or leave one file: a fifth of its pictures is then held for validation"
        else:
            remedy = "or put all pictures into images/: a fifth is then held for validation"
        use = "train" if part == "train" else "validate"
        raise BadInput(
            f"{self.root} has pictures in {listing(places)} and the annotation files "
            f"{listing(file.relative_to(self.root).as_posix() for file in files)}, but nothing "
            f"says which are to {use} on ({path.name}); name the files "
            f"by --train-list FILE and --val-list FILE, {remedy}."
        )

    def _named(self, part: str) -> Path:
        return self.root / f"annotations/instances_{part}.json"

    def _files(self) -> list[Path]:
        """What may be annotations: in annotations/ or, where that has none, beside images/."""
        beside = [] if (self.root / "labels").is_dir() else [self.root]
        for folder in (self.root / "annotations", *beside):
            if found := sorted(path for path in folder.glob("*.json") if path.name[0] != "."):
                return found
        return []

    def _is_drawn(self, split: Split) -> bool:
        """Whether the split is made here."""
        return self.whole is not None and split.list is None

    def _place(self, split: Split) -> str:
        """The folder below the root where the images of a split lie."""
        images, path = self.root / "images", self.annotations(split)
        parted = any((images / part).is_dir() for part in ("train", "val"))
        if not images.is_dir() or not path.is_file() or (parted and not self.whole):
            return f"images/{split.name}"
        names = [image[1] for image in read_annotations(path).images]
        some = names[:: -(-len(names) // _LOOKED_AT)]
        folders = sorted(path.name for path in images.iterdir() if path.is_dir())
        best, most = "images", 0
        for place in ("images", *(f"images/{name}" for name in folders), ""):
            count = sum((self.root / place / name).is_file() for name in some)
            if count > most:
                best, most = place, count
            if count == len(some):
                break
        return best


def _normal(name: str) -> str:
    """A file's name, however it is written."""
    return os.path.normpath(name)


def _keep(data: dict, chosen: Collection) -> None:
    """Leave out of a file's contents all images but those of these ids, and their annotations."""
    data["images"] = [image for image in data["images"] if image["id"] in chosen]
    entries = data.get("annotations", ())
    data["annotations"] = [entry for entry in entries if entry["image_id"] in chosen]


def _wants_order(there: Annotations, classes: Sequence[str]) -> bool:
    """Whether MMDetection would misread the file, or its evaluation fail on it."""
    order = [name for name in there.names if name in classes]
    return bool(
        order != list(classes) or there.byte_order_mark or there.crowd_unknown or there.zero_id
    )


def _in_order(
    path: Path, classes: Sequence[str], work_dir: Path, name: str, chosen: Collection | None = None
) -> Path:
    """A copy in the work dir with categories in the order of `classes` and all that is needed.

    Args:
        chosen: ids of the images that it has; all by default.
    """
    data, _ = read_json(path)
    if chosen is not None:
        _keep(data, chosen)
    place = {each: k for k, each in enumerate(classes)}
    data["categories"].sort(key=lambda category: place.get(category["name"], len(place)))
    free = max((a["id"] for a in data.get("annotations", ())), default=0) + 1
    for annotation in data.get("annotations", ()):
        annotation.setdefault("iscrowd", 0)
        annotation["id"] = annotation["id"] or free
    mark = hashlib.sha256(repr((str(path), classes)).encode()).hexdigest()[:8]
    copy = (work_dir / "annotations" / f"{name}_{path.stem}_{mark}.json").resolve()
    text = json.dumps(data)
    if not copy.is_file() or copy.read_text() != text:  # else what was found in it is still known
        with replacing(copy) as part:
            part.write_text(text)
        times = path.stat()
        os.utime(copy, ns=(times.st_atime_ns, times.st_mtime_ns))  # as old as what it holds
    return copy
