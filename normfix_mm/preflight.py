"""What can be known to be wrong before a run costs time: paths, classes, checkpoints, the stack.

``tools/train.py`` and ``tools/test.py`` call :func:`check` before a Runner exists. Each finding is
a :class:`BadInput`, one sentence with cause and remedy. Remote paths are left to the Runner.
The weight forms of a checkpoint are compared in ``normfix_mm.preflight_forms``, optimizer and hooks
tried out in ``normfix_mm.preflight_training``, a segmenter's labels read in
``normfix_mm.preflight_segmentation``.
"""

from __future__ import annotations

import copy
import json
import mmap
import os
from collections.abc import Iterator, Sequence

LOADERS = {
    "train": ("train_dataloader", None),
    "val": ("val_dataloader", "val_evaluator"),
    "test": ("test_dataloader", "test_evaluator"),
}


class BadInput(ValueError):
    """A mistake in what the user gave; the message is complete and needs no traceback."""


def check_stack() -> None:
    """Refuse to go on without MMDetection and mmcv's operators.

    Raises:
        BadInput: With what is missing and how to get it.
    """
    try:
        import normfix_mm.detection  # noqa: F401
    except ImportError as error:
        raise BadInput(str(error)) from None


def check(cfg, phases: Sequence[str]) -> None:
    """Check a complete config (flags and overrides merged in).

    Args:
        cfg: mmengine Config.
        phases: Which of 'train', 'val', 'test' the run needs.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    from mmengine.registry import MODELS, DefaultScope

    from .preflight_forms import check_forms, check_initial_forms
    from .preflight_training import check_training

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        for phase in phases:
            loader, evaluator = LOADERS[phase]
            if cfg.get(loader) is not None:
                for dataset in datasets(cfg[loader].dataset):
                    _check_dataset(dataset, where=f"{loader}.dataset")
            if evaluator and cfg.get(evaluator) is not None:
                _check_evaluator(cfg[evaluator], evaluator)
        initial = {p: read_checkpoint(p, option) for p, option in _pretrained(cfg.model)}
        try:
            model = MODELS.build(copy.deepcopy(cfg.model))  # detectors write into their config
        except Exception as error:  # an unknown type or option, a rule that matches nothing, ...
            raise BadInput(f"The model cannot be built: {one_line(error)}") from None
        if cfg.get("default_scope") == "mmseg":
            from .preflight_segmentation import check_segmentation

            check_segmentation(cfg, model, phases)
        path = checkpoint_of(cfg)
        if path is not None:
            check_forms(model, read_checkpoint(path, "load_from"), path)
        elif "train" in phases and not cfg.get("load_from"):  # which would overwrite them
            check_initial_forms(model, initial)
        if "train" in phases:
            check_training(cfg, model)


def checkpoint_of(cfg) -> str | None:
    """The local checkpoint that the Runner will load or resume from, if there is one."""
    path = cfg.get("load_from")
    if path is None and cfg.get("resume"):
        from mmengine.runner import find_latest_checkpoint

        marker = os.path.join(cfg.get("work_dir") or ".", "last_checkpoint")
        path = find_latest_checkpoint(os.path.dirname(marker)) if os.path.exists(marker) else None
    return path if path is not None and _is_local(path) else None


def read_checkpoint(path: str, option: str) -> dict:
    """Read a checkpoint file on the CPU.

    Raises:
        BadInput: If it is absent, truncated, or not a checkpoint.
    """
    from mmengine.runner.checkpoint import _load_checkpoint

    if not os.path.isfile(path):
        raise BadInput(
            f"The checkpoint {path!r} of `{option}` does not exist; correct the path, or set "
            f"`{option}` to None to start without it."
        )
    try:
        checkpoint = _load_checkpoint(path, map_location="cpu")
    except Exception as error:  # zip, pickle and torch each have errors of their own
        raise BadInput(
            f"The checkpoint {path!r} of `{option}` cannot be read ({one_line(error, 120)}); it "
            "was probably cut off while being written or copied: fetch it again or use an earlier "
            "one."
        ) from None
    if not isinstance(checkpoint, dict):
        raise BadInput(
            f"{path!r} of `{option}` holds a {type(checkpoint).__name__}, not a checkpoint; save "
            "the state dict instead of the module."
        )
    return checkpoint


def datasets(dataset) -> Iterator[dict]:
    """The real datasets below wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get("datasets", [dataset["dataset"]] if "dataset" in dataset else None)
    if inner is None:
        yield dataset
    else:
        for each in inner:
            yield from datasets(each)


def _check_dataset(dataset, where: str) -> None:
    if dataset.get("backend_args") is not None:
        return  # files live behind a client of the user's
    root = dataset.get("data_root") or ""
    for folder in dict(dataset.get("data_prefix") or {}).values():
        folder = os.path.join(root, folder or "")
        if _is_local(folder) and not os.path.isdir(folder):
            raise BadInput(
                f"The folder {folder!r} of {where} does not exist; put the data there or set "
                "`data_root` and `data_prefix` (for example with --cfg-options)."
            )
    if not dataset.get("ann_file"):
        return
    ann_file = os.path.join(root, dataset["ann_file"])
    if not _is_local(ann_file):
        return
    if not os.path.isfile(ann_file):
        raise BadInput(
            f"The annotation file {ann_file!r} of {where} does not exist; put the data there or "
            "set `data_root` and `ann_file` (for example with --cfg-options)."
        )
    wanted = _classes(dataset)
    if wanted is None:
        return
    names = _category_names(ann_file)
    absent = [name for name in wanted if name not in names]
    if absent:
        raise BadInput(
            f"The annotation file {ann_file!r} of {where} has no category {listed(absent)} but "
            f"{listed(sorted(names))}; set `metainfo=dict(classes=...)` of the dataset (and "
            "`num_classes` of the head) to the classes of the file."
        )


def _check_evaluator(evaluator, where: str) -> None:
    for metric in evaluator if isinstance(evaluator, Sequence) else [evaluator]:
        ann_file = metric.get("ann_file")
        if ann_file and _is_local(ann_file) and not os.path.isfile(ann_file):
            raise BadInput(
                f"The annotation file {ann_file!r} of {where} does not exist; set "
                f"`{where}.ann_file` to the file of the evaluated dataset."
            )


def _classes(dataset) -> Sequence[str] | None:
    """Configured class names of a COCO-format dataset, None for other formats."""
    from mmdet.datasets import CocoDataset
    from mmengine.registry import DATASETS

    kind = dataset["type"]
    if isinstance(kind, str):  # mmdet and mmseg have a CityscapesDataset each
        with DATASETS.switch_scope_and_registry(None) as present:
            kind = present.get(kind)
    if kind is None or not issubclass(kind, CocoDataset):
        return None
    classes = (dataset.get("metainfo") or {}).get("classes", kind.METAINFO.get("classes"))
    return None if isinstance(classes, str) else classes  # a string names a file of classes


def _category_names(ann_file: str) -> set[str]:
    """Names under "categories", without parsing the rest: COCO's file has 450 MB."""
    unreadable = BadInput(
        f'The annotation file {ann_file!r} is not complete JSON in COCO format with "categories"; '
        "it was probably cut off: fetch or write it again."
    )
    if not os.path.getsize(ann_file):
        raise unreadable
    with open(ann_file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if not text[-64:].rstrip().endswith(b"}"):
            raise unreadable
        # The last "categories" is tried first; inside an annotation no list would follow it.
        start = text.rfind(b'"categories"')
        head = text[start : start + (1 << 20)] if start >= 0 else b""
    try:
        after = head.decode("utf-8", "ignore").split(":", 1)[1].lstrip()
        categories, _ = json.JSONDecoder().raw_decode(after)
        return {category["name"] for category in categories}
    except (IndexError, KeyError, TypeError, ValueError):
        pass
    try:
        with open(ann_file, encoding="utf-8") as file:
            return {category["name"] for category in json.load(file)["categories"]}
    except (KeyError, TypeError, ValueError):
        raise unreadable from None


def _pretrained(node) -> Iterator[tuple[str, str]]:
    """Local files that some ``init_cfg=dict(type='Pretrained')`` or ``pretrained`` names."""
    if isinstance(node, dict):
        named = {"pretrained": node.get("pretrained")}  # mmseg's configs still use it
        if node.get("type") == "Pretrained":
            named["init_cfg"] = node.get("checkpoint")
        for option, path in named.items():
            if isinstance(path, str) and _is_local(path):
                yield path, option
        for child in node.values():
            yield from _pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pretrained(child)


def _is_local(path: str) -> bool:
    return "://" not in path


def one_line(error: Exception, limit: int = 400) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def listed(names: Sequence, most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
