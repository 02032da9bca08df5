"""A folder of the user's own as the data of a config: path and classes given once.

What lies in it is the business of :class:`~normfix_mm.datasets.coco_folder.CocoFolder` (boxes,
masks) and :class:`~normfix_mm.datasets.seg_folder.SegFolder` (label images).
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from normfix_mm.datasets.config import datasets, set_num_classes
from normfix_mm.errors import BadInput

if TYPE_CHECKING:
    from mmengine.config import Config


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
        val_split: str = "val",
    ) -> Config:
        """Point every part of `cfg` that depends on the data at this folder, in place.

        Sets root, files and class names of the three dataloaders' datasets, what the evaluators
        compare with, and every `num_classes` in the model.

        Args:
            cfg: a config with `work_dir`, dataloaders and evaluators; those of val and test may
                be absent.
            classes: names in the order of the labels; by default all that the training set has.
            train_list, val_list: other lists than the folder's, for a split of one's own.
            val_split: 'train' if the images of `val_list` are among those of images/train.

        Raises:
            BadInput: A folder or file is absent or not as it should be, or has not these classes.
        """
        lists = [Path(path).resolve() if path else None for path in (train_list, val_list)]
        train, val = Split("train", lists[0]), Split(val_split, lists[1])
        self._check(train, val)
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

    def hold_out(self, out: Path, count: int) -> tuple[Path, Path]:
        """Lists in `out` of a split of the training images: all but `count`, and those.

        They are what `use` takes as `train_list` and `val_list`, with val_split='train'; the same
        for the same folder.

        Raises:
            BadInput: No training images, or fewer than twice `count`.
        """
        names = self.training_images()
        if len(names) < 2 * count:
            raise BadInput(
                f"{self.root} has {len(names)} images to train on; comparing holds {count} of them "
                f"out of the trials, and needs at least {2 * count}."
            )
        held = set(random.Random(0).sample(sorted(names), count))
        return self.write_list(out, "rest", set(names) - held), self.write_list(
            out, "held_out", held
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
    def training_images(self) -> list:
        """What tells the training images apart, in any order."""

    @abstractmethod
    def write_list(self, out: Path, name: str, chosen: set) -> Path:
        """A list of these training images."""
