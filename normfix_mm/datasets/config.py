"""The datasets that a config names: which there are, of what class, with what classes and files."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from normfix_mm.errors import BadInput, quoted

LOADERS = {
    "train": ("train_dataloader", None),
    "val": ("val_dataloader", "val_evaluator"),
    "test": ("test_dataloader", "test_evaluator"),
}

_UNSPEAKABLE = ("Cc", "Cs", "Zl", "Zp")  # control characters, half characters, breaks of lines


def used_datasets(cfg, phases: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Name and config of each dataset of these phases."""
    for phase in phases:
        loader, _ = LOADERS[phase]
        if cfg.get(loader) is not None:
            for dataset in datasets(cfg[loader].dataset):
                yield f"{loader}.dataset", dataset


def datasets(dataset) -> Iterator[dict]:
    """The real datasets below wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get("datasets", [dataset["dataset"]] if "dataset" in dataset else None)
    if inner is None:
        yield dataset
    else:
        for each in inner:
            yield from datasets(each)


def transforms_named(dataset, name: str) -> list[dict]:
    """The steps of a dataset's pipeline whose type, a name or a class, begins with this."""
    steps = (step for step in dataset.get("pipeline") or () if isinstance(step, Mapping))
    return [step for step in steps if type_name(step).startswith(name)]


def type_name(config) -> str:
    """The bare name of what a config builds: without the registry that it is in."""
    kind = config.get("type")
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]


def dataset_class(dataset) -> type | None:
    """What the dataset's type stands for in the config's default scope; None if nothing."""
    from mmengine.registry import DATASETS

    kind = dataset.get("type")
    if not isinstance(kind, str):
        return kind
    with DATASETS.switch_scope_and_registry(None) as present:  # two packages, one CityscapesDataset
        return present.get(kind)


def classes_of(dataset, where: str) -> tuple[str, ...] | None:
    """The class names of a dataset, in the order of its labels; None where nothing names them.

    Raises:
        BadInput: They are no list of names, or those of the config are not all different. (What a
            dataset's own class calls its classes is as it is: ImageNet has two cranes.)
    """
    named = (dataset.get("metainfo") or {}).get("classes")
    standard = named is None
    if standard:
        named = getattr(dataset_class(dataset), "METAINFO", {}).get("classes")
    if isinstance(named, str) and os.path.isfile(named):  # a file with a name a line
        with open(named, encoding="utf-8") as file:
            named = file.read().splitlines()
    if isinstance(named, str):
        if not is_local(named):
            return None
        raise BadInput(
            f"metainfo.classes of {where} is the one text {named!r}, not a list of names; one "
            f"class needs a comma too: classes=({named!r},)."
        )
    if named is None:
        return None
    names = tuple(named)
    if not names or not all(isinstance(name, str) for name in names):
        raise BadInput(
            f"metainfo.classes of {where} is {named!r}; give the name of each class as a text."
        )
    odd = [name for name in names if any(unicodedata.category(c) in _UNSPEAKABLE for c in name)]
    if odd:
        raise BadInput(
            f"The classes of {where} have control characters or line breaks in their names, first "
            f"{odd[0]!r}; they end up in tables, pages and terminals: write the names without, "
            "also in the annotation files."
        )
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice and not standard:
        raise BadInput(
            f"metainfo.classes of {where} holds {quoted(twice)} more than once; give each class "
            "one place."
        )
    return names


def files_of(dataset) -> tuple[str, str]:
    """Annotation file and folder of images, joined with the root as OpenMMLab joins them."""
    root = dataset.get("data_root") or ""
    prefix = prefixes_of(dataset)
    images = prefix.get("img") or prefix.get("img_path") or ""
    return os.path.join(root, dataset.get("ann_file") or ""), os.path.join(root, images)


def prefixes_of(dataset) -> dict[str, str]:
    """The folders under the root, by what lies in them; MMPretrain names one alone."""
    prefix = dataset.get("data_prefix") or {}
    return dict(img_path=prefix) if isinstance(prefix, str) else dict(prefix)


def is_local(path: str) -> bool:
    """Whether a path is one of this machine's, not an address."""
    return "://" not in path


def set_num_classes(node, count: int) -> None:
    """Give every `num_classes` in this part of a config the value `count`."""
    if isinstance(node, dict):
        if "num_classes" in node:
            node["num_classes"] = count
        for child in node.values():
            set_num_classes(child, count)
    elif isinstance(node, (list, tuple)):
        for child in node:
            set_num_classes(child, count)


_OF_WORKERS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")


def drop_workers_options(cfg) -> None:
    """Where a loader has no worker processes, drop what torch accepts only with them."""
    for name, _ in LOADERS.values():
        loader = cfg.get(name)
        if isinstance(loader, dict) and not loader.get("num_workers"):
            for option in _OF_WORKERS:
                loader.pop(option, None)
