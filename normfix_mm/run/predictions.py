"""What the flags of ``tools/test.py`` change in a config: of a detector, segmenter or classifier.

Which of them it is, the scope says in which the config runs. A segmenter's predictions are PNG
files, one for each image, of class numbers, or of what the last evaluator writes that has an
``output_dir``: for Cityscapes the label ids that the benchmark's server takes.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from pathlib import Path

from normfix_mm.datasets.config import datasets, type_name
from normfix_mm.errors import BadInput

_KEPT_META = (
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "scale_factor",
    "flip",
    "flip_direction",
)


def segments(cfg) -> bool:
    return cfg.get("default_scope") == "mmseg"


def classifies(cfg) -> bool:
    return cfg.get("default_scope") == "mmpretrain"


def paint(cfg, folder: str | None, show: bool, wait_time: float) -> None:
    """Paint the predictions, into windows or into files under `folder`.

    Raises:
        BadInput: The config has no hook or visualizer for it.
    """
    from matplotlib import rcParams

    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None or cfg.get("visualizer") is None:
        hooks, painter = ("", "Universal") if classifies(cfg) else ("Det", "DetLocal")
        hooks, painter = ("Seg", "SegLocal") if segments(cfg) else (hooks, painter)
        raise BadInput(
            "--show and --show-dir need default_hooks.visualization=dict(type="
            f"'{hooks}VisualizationHook') and visualizer=dict(type='{painter}Visualizer', "
            "vis_backends=[dict(type='LocalVisBackend')]) in the config."
        )
    rcParams["text.parse_math"] = False  # a `$` in a class's name is no formula
    if classifies(cfg):
        hook.type, hook.enable, hook.interval = "ClassVisualizationHook", True, 1
        hook.show, hook.wait_time, hook.out_dir = show, wait_time, folder
        return
    hook.draw, hook.interval = True, 1  # upstream MMSegmentation heeds it in tests as well
    if show:
        hook.show, hook.wait_time = True, wait_time
    if folder and segments(cfg):
        cfg.visualizer.save_dir = folder  # a folder vis_data/ in it
    elif folder:
        hook.test_out_dir = folder
        # At each batch the hook puts the work dir in front of it anew, unless that is absolute.
        cfg.work_dir = os.path.abspath(cfg.work_dir)


def use_tta(cfg) -> None:
    """Wrap model and pipeline for test-time augmentation, with flips if the config says nothing."""
    inner = list(datasets(cfg.test_dataloader.dataset))
    views = [dict(type="RandomFlip", prob=1.0), dict(type="RandomFlip", prob=0.0)]
    *steps, pack = inner[0].pipeline
    if segments(cfg):
        # Labels are compared with the merged prediction, which is not flipped.
        labels = [step for step in steps if _is_labels(step)]
        steps = [step for step in steps if not _is_labels(step)]
        transforms = [views, *([label] for label in labels), [pack]]
        model = dict(type="SegTTAModel")
    elif classifies(cfg):
        transforms = [views, [pack]]
        model = dict(type="AverageClsScoreTTA")
    else:
        transforms = [views, [dict(type="PackDetInputs", meta_keys=_KEPT_META)]]
        nms = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100)
        model = dict(type="DetTTAModel", tta_cfg=nms)
    if "tta_pipeline" not in cfg:
        cfg.tta_pipeline = [*steps, dict(type="TestTimeAug", transforms=transforms)]
    if "tta_model" not in cfg:
        cfg.tta_model = model
    for dataset in inner:
        dataset.pipeline = cfg.tta_pipeline
    cfg.model = dict(**cfg.tta_model, module=cfg.model)


def write_predictions(cfg, folder: str, alone: bool) -> str:
    """Have a segmenter's predictions written, and evaluate nothing if `alone`.

    Returns:
        The folder that they are written to. The caller gives it the name `folder` when all are
        there (:func:`finish_predictions`), so that `folder` is complete or absent.

    Raises:
        BadInput: `folder` is there already, or no evaluator of the config writes.
    """
    part = f"{folder}.part"
    for path in (folder, part):  # the latter is of an interrupted run
        if os.path.exists(path):
            raise BadInput(f"{path!r} exists already; remove it, or name another folder.")
    evaluators = cfg.test_evaluator
    evaluators = list(evaluators) if isinstance(evaluators, (list, tuple)) else [evaluators]
    writing = [each for each in evaluators if {"output_dir", "format_only"} <= _options(each)]
    if not writing:
        raise BadInput(
            "No evaluator of the config writes predictions; add dict(type='IoUMetric') to "
            "test_evaluator."
        )
    writing[-1].update(output_dir=part)
    if "keep_results" in _options(writing[-1]):
        writing[-1].update(keep_results=True)
    if alone:
        writing[-1].update(format_only=True)
        cfg.test_evaluator = [writing[-1]]
        for dataset in datasets(cfg.test_dataloader.dataset):
            dataset.pipeline = _without_labels(dataset.pipeline)
            dataset.get("data_prefix", {}).pop("seg_map_path", None)
        if "tta_pipeline" in cfg:
            cfg.tta_pipeline = _without_labels(cfg.tta_pipeline)
    else:
        cfg.test_evaluator = evaluators
    return part


def check_writable(path: str) -> None:
    """Try whether a file can be written, which is done after the evaluation alone.

    Raises:
        BadInput: It cannot.
    """
    present = os.path.exists(path)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "ab"):
            pass
    except OSError as error:
        raise BadInput(
            f"{path!r} of --out cannot be written ({error.strerror}); choose another file."
        ) from None
    if not present:
        os.remove(path)


def check_names(dataset) -> None:
    """Refuse to write predictions over each other: they have the bare names of the images.

    Raises:
        BadInput: Two images of the dataset, in different folders, have one name.
    """
    seen: dict[str, str] = {}
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)["img_path"]
        other = seen.setdefault(Path(path).stem, path)
        if other != path:
            raise BadInput(
                f"The predictions of {other!r} and {path!r} would be one file, "
                f"{Path(path).stem}.png; write those of one folder at a time, with "
                "test_dataloader.dataset.data_prefix.img_path."
            )


def finish_predictions(part: str, folder: str) -> int | None:
    """Name the complete predictions `folder`; how many there are, None in all but one process."""
    from mmengine.dist import is_main_process

    if not is_main_process():
        return None
    os.replace(part, folder)
    return sum(1 for _ in Path(folder).glob("*.png"))


def _is_labels(step) -> bool:
    return type_name(step) == "LoadAnnotations"


def _without_labels(steps) -> list:
    """A pipeline without LoadAnnotations, inside of TestTimeAug as well."""
    return list(_kept(steps))


def _kept(steps) -> Iterator:
    for step in steps:
        if isinstance(step, (list, tuple)):  # the views of one augmentation
            views = _without_labels(step)
            if views:
                yield views
        elif not _is_labels(step):
            if "transforms" in step:
                step = dict(step, transforms=_without_labels(step["transforms"]))
            yield step


def _options(metric) -> set[str]:
    """The options that an evaluator takes by name."""
    from mmengine.registry import METRICS, DefaultScope

    scope = DefaultScope.overwrite_default_scope("mmseg")
    with scope, METRICS.switch_scope_and_registry(None) as present:
        kind = present.get(metric["type"])
    return set() if kind is None else set(inspect.signature(kind).parameters)
