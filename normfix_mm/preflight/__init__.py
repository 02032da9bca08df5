"""What can be known to be wrong before a run costs time: paths, classes, checkpoints, the stack.

The commands call :func:`check` before a Runner exists. Each finding is a
:class:`normfix_mm.errors.BadInput`, one sentence with cause and remedy. Data in remote stores are
left to the Runner.

    stack               the packages
    data                folders and files of the datasets, and in COCO format what is in them:
    coco, coco_entries  annotations
    pictures, headers   pictures
    pipelines           what is made of pictures and labels, tried out on one
    evaluators          what is compared with
    classes             of the datasets and of the heads
    checkpoints         what `load_from`, `--resume` and `init_cfg` name
    resumed             what a resumed run keeps, whatever the config says
    trained_classes     the classes that a checkpoint was trained on
    trained_model       the settings of the model that it was trained with
    precision           half precision that the model's operators lack
    training            optimizer wrapper and hooks, tried out
    schedules           as long as the training?
    segmentation_data   a segmenter's images and labels
    segmentation_heads  its heads, losses and crops
    classification_data a classifier's images and labels, and what its evaluators count
    notes               what is said and does not stop the run
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def check(
    cfg,
    phases: Sequence[str],
    source: str | None = "`load_from`",
    contents: bool = True,
) -> None:
    """Check a complete config (flags and overrides merged in).

    Annotation files, pictures and label files are looked into by the first process of a machine
    alone; what was found is remembered until they change.

    Args:
        cfg: mmengine Config.
        phases: Which of 'train', 'val', 'test' the run needs.
        source: The option that gave ``cfg.load_from``, for the messages; None for an argument.
        contents: Whether to look into annotation files, pictures and label files.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    from mmengine.registry import DefaultScope

    from normfix_mm.checkpoints.forms import check_forms, check_initial_forms
    from normfix_mm.checkpoints.initial import check_initial_keys
    from normfix_mm.models.build import build_model
    from normfix_mm.preflight.checkpoints import (
        check_keys,
        check_pickles,
        checkpoint_of,
        pretrained,
        read_checkpoint,
    )
    from normfix_mm.preflight.classes import check_heads, check_same_classes
    from normfix_mm.preflight.data import check_contents, check_files, length_of
    from normfix_mm.preflight.evaluators import check_predicted
    from normfix_mm.preflight.pictures import warn_of_normalization
    from normfix_mm.preflight.precision import check_half
    from normfix_mm.preflight.resumed import warn_of_restored
    from normfix_mm.preflight.schedules import check_samplers, check_schedules
    from normfix_mm.preflight.trained_classes import check_class_order, check_resumable
    from normfix_mm.preflight.trained_model import warn_of_other_settings
    from normfix_mm.preflight.training import check_saving, check_training

    contents = contents and os.environ.get("LOCAL_RANK", "0") == "0"

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        check_pickles(cfg)
        check_files(cfg, phases)
        if contents:
            check_contents(cfg, phases)
        check_same_classes(cfg, phases)
        check_samplers(cfg, phases)
        path = checkpoint_of(cfg)
        # A run that goes on has its weights from its checkpoint; those it once started from may be
        # gone.
        starts = "train" in phases and not (cfg.get("resume") and path is not None)
        initial = {
            named: read_checkpoint(named, f"`{option}`")
            for named, option in (pretrained(cfg.model) if starts else ())
        }
        model = build_model(cfg)
        check_heads(cfg, phases, model)
        check_predicted(cfg, phases, model)
        warn_of_normalization(model)
        if cfg.get("default_scope") == "mmseg":
            from normfix_mm.preflight.segmentation_data import check_labels
            from normfix_mm.preflight.segmentation_heads import check_crop, check_losses

            if contents:
                check_labels(cfg, model, phases)
            if "train" in phases:
                check_losses(model)
                check_crop(cfg, model)
        if cfg.get("default_scope") == "mmpretrain":
            from normfix_mm.preflight.classification_data import check_guesses, check_images

            if contents:
                check_images(cfg, model, phases)
            check_guesses(cfg, model, phases)
        if path is not None:
            checkpoint = read_checkpoint(path, source)
            whole = "test" in phases or bool(cfg.get("resume"))
            check_keys(model, checkpoint, path, complete=whole)
            check_forms(model, checkpoint, path)
            if whole:
                warn_of_other_settings(checkpoint, path, cfg)
            if cfg.get("resume"):
                check_resumable(checkpoint, path, cfg)
                warn_of_restored(checkpoint, path, cfg)
            if "test" in phases:
                check_class_order(checkpoint, path, cfg)
        elif "train" in phases and not cfg.get("load_from"):  # which would overwrite them
            check_initial_keys(model, initial)
            check_initial_forms(model, initial)
        if "train" in phases:
            check_half(cfg, model)
            check_training(cfg, model)
            check_saving(cfg)
            check_schedules(cfg, length_of if contents else lambda dataset: None)
