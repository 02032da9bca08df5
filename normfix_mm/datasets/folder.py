"""A folder of the user's own as the data of a config: path and classes given once.

What lies in it is the business of :class:`~normfix_mm.datasets.coco_folder.CocoFolder` (boxes,
masks) and :class:`~normfix_mm.datasets.seg_folder.SegFolder` (label images).
"""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from normfix_mm.datasets.config import datasets, set_num_classes
from normfix_mm.errors import BadInput, listing

if TYPE_CHECKING:
    from mmengine.config import Config


_PARTS = ("images", "annotations", "labels")
FOR_VALIDATION = 5  # of a folder without a split, one image in so many


def drawn(names: Collection[str]) -> set[str]:
    """Those of a folder without a split that are for validation: a fifth, one at least.

    They are those with the least hashes, so that a name that is added or removed moves one other at
    most.
    """
    count = max(1, len(names) // FOR_VALIDATION)
    return set(sorted(names, key=_lot)[:count])


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogateescape")).digest()


def lines_of(path: Path) -> list[str]:
    """The names in a list of a line each."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    return [line for line in map(str.strip, text.splitlines()) if line]


def refuse_part(root: Path) -> None:
    """Refuse images/, or a folder in it, in place of the folder that holds all.

    Raises:
        BadInput: It is one; the sentence names the folder that is meant.
    """
    for depth, above in enumerate(list(root.parents)[:2]):
        part = root.relative_to(above).parts[0]
        beside = [f"{name}/" for name in _PARTS if name != part and (above / name).is_dir()]
        beside += [path.name for path in sorted(above.glob("*.json")) if part == "images"]
        if part in _PARTS and beside and not (root / "images").is_dir():
            parent = "its parent" if depth == 0 else "its parent's parent"
            raise BadInput(
                f"{root} is a part of {above}, which has {listing(beside)} beside {part}/; give "
                f"{parent} {above}."
            )


def refuse_unlistable(names: Iterable[str]) -> None:
    """Refuse names that a list of a line each, as the frameworks read them, would change.

    Raises:
        BadInput: The first of them.
    """
    for name in names:
        try:
            whole = bool(name.encode())
        except UnicodeEncodeError:  # a file name in another encoding
            whole = False
        if not whole or name != name.strip() or name.splitlines() != [name]:
            raise BadInput(
                f"The image {name!r} cannot stand in a list of a line each: rename its file or "
                "folder without line breaks, spaces at the ends, and what is no UTF-8."
            )


@dataclass(frozen=True)
class Split:
    """Some of the folder's images.

    Attributes:
        name: 'train' or 'val', the part of the folder where they lie.
        list: the file that says which they are; None for all that lie there.
    """

    name: str
    list: Path | None


ALL = Split("train", None)  # all that the folder has to train on


class Folder(ABC):
    """A folder with images/{train,val} and what is to be learned of them."""

    layout: str  # what the folder has to hold, for sentences

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser().resolve()

    def use(
        self,
        cfg: Config,
        classes: Sequence[str] | None = None,
        train_list: str | Path | None = None,
        val_list: str | Path | None = None,
        val_split: str | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> Config:
        """Point every part of `cfg` that depends on the data at this folder, in place.

        Sets root, files and class names of the three dataloaders' datasets, what the evaluators
        compare with, and every `num_classes` in the model.

        Args:
            cfg: a config with `work_dir`, dataloaders and evaluators; those of val and test may
                be absent.
            classes: names in the order of the labels; by default all that the training set has.
            train_list, val_list: other lists than the folder's, for a split of one's own.
            val_split: 'train' if the images to validate on lie in images/train; 'val' by default.
            say: called with one line where the folder has no split and was split here.

        Raises:
            BadInput: A folder or file is absent or not as it should be, or has not these classes;
                or lists were given of which the second has no picture that the first lacks.
        """
        lists = _existing(train_list, "train"), _existing(val_list, "val")
        train, val = self.splits(*lists, val_split or "val")
        self._check(train, val)
        if train.list or val.list:
            self._refuse_same(train, val)
        if said := self.drawn_here(train, val):
            say(said)
        classes = tuple(classes or self.classes(train))
        settings = {"train": self.settings(train, classes, cfg)}
        settings["val"] = settings["test"] = self.settings(val, classes, cfg)
        for phase, there in settings.items():
            loader = cfg.get(f"{phase}_dataloader")
            for dataset in datasets(loader.dataset) if loader is not None else ():
                dataset.update(data_root=str(self.root), metainfo=dict(classes=classes), **there)
        self.set_evaluators(cfg)
        set_num_classes(cfg.model, len(classes))
        return cfg

    def hold_out(
        self, out: Path, count: int, train_list: str | Path | None = None
    ) -> tuple[Path, Path]:
        """Lists in `out` of a split of the training images: all but `count`, and those.

        They are what `use` takes as `train_list` and `val_list`, with val_split='train'; the same
        for the same folder.

        Args:
            train_list: as of `use`.

        Raises:
            BadInput: No training images, or fewer than twice `count`.
        """
        train = Split("train", _existing(train_list, "train"))
        names = self.training_images(train)
        if len(names) < 2 * count:
            raise BadInput(
                f"{self.root} has {len(names)} images to train on; comparing holds {count} of them "
                f"out of the trials, and needs at least {2 * count}."
            )
        held = set(random.Random(0).sample(sorted(names), count))
        parts = dict(rest=set(names) - held, held_out=held)
        rest, judging = (self.write_list(out, name, each, train) for name, each in parts.items())
        return rest, judging

    def splits(
        self, train_list: Path | None, val_list: Path | None, val_split: str
    ) -> tuple[Split, Split]:
        """The images to train and to validate on.

        Raises:
            BadInput: Those to validate on would be all that are trained on.
        """
        if val_split == "train" and val_list is None:
            raise BadInput(
                "--val-split train says where the pictures to validate on lie, beside those to "
                "train on, and not which they are; name them by --val-list FILE."
            )
        return Split("train", train_list), Split(val_split, val_list)

    def drawn_here(self, train: Split, val: Split) -> str | None:
        """What is to be said if the folder has no split and these are one that was made here."""
        return None

    def _refuse_same(self, train: Split, val: Split) -> None:
        trained, judged = self.pictures(train), self.pictures(val)
        if judged and judged <= trained:
            raise BadInput(
                f"All {len(judged)} pictures to validate on, first {min(judged)!r}, are among the "
                f"{len(trained)} to train on, and would say nothing about new ones; give two lists "
                "without a common picture by --train-list FILE and --val-list FILE."
            )

    def _check(self, *splits: Split) -> None:
        for path in (each for split in splits for each in self.parts(split)):
            if not path.exists():
                raise BadInput(f"{path} does not exist; {self.layout}.")

    # -- what a kind of folder knows -------------------------------------------------------------

    @abstractmethod
    def parts(self, split: Split) -> list[Path]:
        """Folders and files that have to be there."""

    @abstractmethod
    def classes(self, split: Split) -> Sequence[str]:
        """All that the folder has, in the order of the labels."""

    @abstractmethod
    def settings(self, split: Split, classes: Sequence[str], cfg: Config) -> dict:
        """What a dataset of these images is told, beside root and classes."""

    @abstractmethod
    def set_evaluators(self, cfg: Config) -> None:
        """Tell the evaluators what the datasets were told."""

    @abstractmethod
    def pictures(self, split: Split) -> set[str]:
        """The names of the split's images below the root, which may be without their endings."""

    @abstractmethod
    def training_images(self, train: Split = ALL) -> list:
        """What tells the training images apart, in any order."""

    @abstractmethod
    def write_list(self, out: Path, name: str, chosen: set, train: Split = ALL) -> Path:
        """A list of these training images."""


def _existing(path: str | Path | None, part: str) -> Path | None:
    if path is not None and not Path(path).is_file():
        raise BadInput(f"--{part}-list {path} is no file; correct the path.")
    return None if path is None else Path(path).resolve()
