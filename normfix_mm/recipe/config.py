"""A recipe's choices written into a config of configs/from_imagenet.

The schedule is one cycle, a warm-up and a cosine to zero; ten validations, the best checkpoint kept
beside the last. Pictures are cropped a little and scaled anew each time, their colours vary; they
are mirrored where names of classes do not forbid it.

A classifier's pictures are squeezed before they are cropped, as they are in validation: of one that
is long, RandomResizedCrop finds no piece of about a square, and would always take the middle. The
squeezed one has twice the size, so that a crop need not be enlarged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from normfix_mm.datasets.contents import CLASSIFY, DETECT, INSTANCES, SEGMENT
from normfix_mm.errors import BadInput
from normfix_mm.recipe.rules import METHODS, TASKS, VALIDATIONS

_WARM_UP = 0.05  # of the training, of 500 iterations at most
_KEPT = 20  # checkpoints in a run, so often can it be gone on with
_LOGGED = 50  # lines in the log of a run at least
_SCALES = (0.75, 1.0)  # of the size; a crop enlarges what is on it


@dataclass(frozen=True)
class Choices:
    """What a run is trained with, in the way that it stands in its work dir.

    Attributes:
        size: width and height of a training picture.
        epoch_length: iterations of an epoch.
        flip: whether pictures are mirrored.
    """

    task: str
    method: str
    size: tuple[int, int]
    epochs: int
    epoch_length: int
    lr: float
    flip: bool


def config_path(task: str, method: str) -> Path:
    """The config of configs/from_imagenet that a recipe begins with."""
    here = Path(__file__).resolve().parents[1]
    folders = here.parent / "configs", here / ".mim/configs"
    pattern = f"from_imagenet/{TASKS[task].model}_{METHODS[method]}_*.py"
    found = [path for folder in folders for path in folder.glob(pattern)]
    if not found:
        raise BadInput(f"There is no {folders[0]}/{pattern} to begin with; install it again.")
    return found[0]


def write_size(cfg: Config, task: str, size: tuple[int, int], flip: bool) -> None:
    """The pipelines of training and validation, in place."""
    from_files = cfg.train_dataloader.dataset.pipeline
    load = from_files[0]
    annotate = [step for step in from_files if step["type"] == "LoadAnnotations"]
    pack = from_files[-1]
    mirror = [dict(type="RandomFlip", prob=0.5)] if flip else []
    resize = dict(type="Resize", scale=size, keep_ratio=True)
    vary = dict(type="RandomResize", scale=size, ratio_range=_SCALES, keep_ratio=True)
    if task in (DETECT, INSTANCES):
        # A crop that holds no box is drawn anew.
        crop = dict(type="RandomCrop", crop_size=(0.75, 0.75), crop_type="relative_range")
        colours = dict(type="YOLOXHSVRandomAug")  # cannot write into a mirrored picture
        steps = [load, *annotate, crop, vary, colours, *mirror, pack]
    elif task == SEGMENT:
        window = size[::-1]
        around = dict(vary, ratio_range=(0.75, 1.5))
        crop = dict(type="RandomCrop", crop_size=window, cat_max_ratio=0.9)
        colours = dict(type="PhotoMetricDistortion", brightness_delta=16)
        steps = [load, *annotate, around, crop, *mirror, colours, pack]
        cfg.model.data_preprocessor.size = window
    else:
        width, height = size
        resize = dict(type="Resize", scale=size)
        squeeze = dict(type="Resize", scale=(2 * width, 2 * height))
        crop = dict(
            type="RandomResizedCrop",
            scale=(height, width),
            crop_ratio_range=(0.4, 1.0),
            aspect_ratio_range=(0.75 * width / height, width / height / 0.75),
        )
        mirror = [dict(each, direction="horizontal") for each in mirror]
        colours = dict(type="ColorJitter", brightness=0.2, contrast=0.2, saturation=0.2)
        steps = [load, squeeze, crop, *mirror, colours, pack]
    cfg.train_dataloader.dataset.pipeline = steps
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        pipeline = loader.dataset.pipeline
        place = next(k for k, step in enumerate(pipeline) if step["type"] == "Resize")
        pipeline[place] = resize


def write_length(cfg: Config, choices: Choices) -> None:
    """Schedule, validations, checkpoints, the early word, in place; once more, the last counts."""
    task = TASKS[choices.task]
    iterations = choices.epochs * choices.epoch_length
    by_epoch = choices.task != SEGMENT
    length = choices.epochs if by_epoch else iterations
    interval = max(1, math.ceil(length / VALIDATIONS))
    if by_epoch:
        cfg.train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=length, val_interval=interval)
    else:
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=length, val_interval=interval)
    warm_up = min(round(iterations * _WARM_UP), 500)
    fall = dict(begin=warm_up, end=iterations, T_max=iterations - warm_up, eta_min=0.0)
    cfg.param_scheduler = [dict(type="CosineAnnealingLR", by_epoch=False) | fall]
    if warm_up > 1:
        rise = dict(type="LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=warm_up)
        cfg.param_scheduler.insert(0, rise)
    cfg.optim_wrapper.optimizer.lr = choices.lr
    cfg.default_hooks.checkpoint.update(
        interval=max(1, math.ceil(length / _KEPT)),
        max_keep_ckpts=1,
        save_best=task.metric,
        rule="greater",
    )
    cfg.default_hooks.logger.update(interval=max(1, min(10, iterations // _LOGGED)))
    count = len(cfg.train_dataloader.dataset.metainfo["classes"])
    # What one gets for always saying the same: of classes alike in number, one of them is right.
    nothing = {SEGMENT: 100 / count, CLASSIFY: 120 / count}.get(choices.task, 0.005)
    word = dict(
        type="EarlyWordHook", metric=task.metric, nothing=nothing, after=int(0.3 * iterations)
    )
    hooks = [hook for hook in cfg.get("custom_hooks") or [] if hook["type"] != word["type"]]
    cfg.custom_hooks = [*hooks, word]
