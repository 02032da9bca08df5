"""What is tuned, and on what: a config with its data, and the config of each trial."""

from __future__ import annotations

import copy
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mmengine.config import Config

from normfix_mm.datasets import folder_of
from normfix_mm.errors import BadInput
from normfix_mm.tuning.knobs import set_values


@dataclass
class Job:
    """What to tune, and on what.

    Args:
        given: the config as given.
        name: what the study is called.
        out: where trials and results go.
        folder: data of one's own, for a config of `configs/coco_folder` or `configs/seg_folder`.
        classes: of the folder; by default all that it has.
        hold_out: images of the training set that judge the trials; 0 takes the validation images.
        seed: of every trial that sets none.
        lists: `train_list`, `val_list` and `val_split` of the folder, as its `use` takes them.

    Attributes:
        whole: the config with the folder's data and the seed.
        cfg: the same as the trials train it, without the images that are held out.
        digest: of the folder's files, and the lists; empty without one.

    Raises:
        BadInput: the folder is not what the config trains on.
    """

    given: Config
    name: str
    out: Path
    folder: Path | None = None
    classes: Sequence[str] | None = None
    hold_out: int = 0
    seed: int = 0
    lists: Sequence = ()
    whole: Config = field(init=False)
    cfg: Config = field(init=False)
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        options = dict(zip(("train-list", "val-list", "val-split"), self.lists))
        options |= {"hold-out": self.hold_out, "classes": self.classes}
        for option, given in options.items():
            if given and self.folder is None:
                raise BadInput(f"--{option} is of a FOLDER's images; name the folder.")
        self.digest = "" if self.folder is None else _digest(self.folder, self.lists)
        data = self.given, self.folder, self.out
        self.whole = self.cfg = with_folder(
            *data, self.classes, self.lists, partial(print, flush=True)
        )
        if self.hold_out:
            lists = held_out(*data, self.hold_out, *self.lists[:1])
            self.cfg = with_folder(*data, self.classes, lists)
        for cfg in (self.whole, self.cfg):
            set_values(cfg, dict(seed=self.seed))

    def data(self) -> dict:
        """The part of the settings that says which data this is."""
        if self.folder is None:
            return dict(folder=None, classes=None, hold_out=None)
        return dict(folder=self.digest, classes=self.classes or "all", hold_out=self.hold_out)


def with_folder(
    cfg: Config,
    folder: Path | None,
    out: Path,
    classes: Sequence[str] | None = None,
    lists: Sequence = (),
    say: Callable[[str], None] = lambda text: None,
) -> Config:
    """A copy of the config with the data of a folder.

    Args:
        out: where annotations that had to be put in order or were split are kept.
        lists, say: as `train_list`, `val_list` and `val_split`, and `say`, of the folder's `use`.

    Raises:
        BadInput: the folder is not what the config trains on.
    """
    cfg = copy.deepcopy(cfg)
    if folder is None:
        return cfg
    cfg.work_dir = str(out)
    return folder_of(cfg, folder).use(cfg, classes, *lists, say=say)


def held_out(
    cfg: Config, folder: Path, out: Path, count: int, train_list: str | Path | None = None
) -> tuple[Path, Path, str]:
    """Lists in `out` of the folder's training images, all but `count`, and those; as `with_folder`
    takes them.

    Raises:
        BadInput: there are too few images.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        try:
            made = folder_of(cfg, folder).hold_out(Path(temporary), count, train_list)
        except (FileNotFoundError, ValueError) as error:
            raise BadInput(str(error)) from None
        # Another worker's trainings may be reading what is there, which is the same.
        for path in made:
            there = out / path.name
            if not there.exists() or there.read_bytes() != path.read_bytes():
                path.replace(there)
    return out / made[0].name, out / made[1].name, "train"


def tidied(cfg: Config) -> Config:
    """The config as a trial runs it: logged where we look, one checkpoint kept."""
    checkpoint = (cfg.get("default_hooks") or {}).get("checkpoint")
    if checkpoint:
        checkpoint["max_keep_ckpts"] = 1
    visualizer = cfg.get("visualizer")
    if visualizer is not None:
        backends = list(visualizer.get("vis_backends") or [])
        if not any(backend["type"] == "LocalVisBackend" for backend in backends):
            visualizer["vis_backends"] = [*backends, dict(type="LocalVisBackend")]
    return cfg


def flattened(node, prefix: str = "") -> dict[str, object]:
    """The settings of a config by dotted name."""
    if isinstance(node, (dict, Config)) and len(node):
        pairs = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(n, (dict, list, tuple)) for n in node):
        pairs = enumerate(node)
    else:
        return {} if prefix == "work_dir" else {prefix: node if _is_plain(node) else str(node)}
    leaves: dict[str, object] = {}
    for key, child in pairs:
        leaves |= flattened(child, f"{prefix}.{key}" if prefix else str(key))
    return leaves


def _is_plain(node) -> bool:
    return node is None or isinstance(node, (bool, int, float, str, list, tuple, dict))


def _digest(folder: Path, lists: Sequence = ()) -> str:
    """Of the names and sizes of a folder's files, wherever it lies, and of what the lists hold."""
    if not folder.is_dir():
        raise BadInput(f"The folder {folder} does not exist.")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    told = "\n".join(f"{path.relative_to(folder)} {path.stat().st_size}" for path in files)
    for given in filter(None, lists):
        path = Path(given)
        told += "\n" + (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else str(given)
        )
    return hashlib.sha256(told.encode()).hexdigest()[:16]
