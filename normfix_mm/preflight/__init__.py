"""What can be known to be wrong before a run costs time: paths, classes, checkpoints, the stack.

The commands call :func:`check` before a Runner exists. Each finding is a
:class:`normfix_mm.errors.BadInput`, one sentence with cause and remedy. Remote paths are left to
the Runner.

    stack               the packages
    data                files, classes and masks of the datasets
    checkpoints         what `load_from`, `--resume` and `init_cfg` name
    training            optimizer wrapper and hooks, tried out
    segmentation_data   a segmenter's images and labels
    segmentation_heads  its heads, losses and crops
    classification_data a classifier's images, classes, head and metrics
"""

from __future__ import annotations

from collections.abc import Sequence


def check(cfg, phases: Sequence[str], source: str | None = "`load_from`") -> None:
    """Check a complete config (flags and overrides merged in).

    Args:
        cfg: mmengine Config.
        phases: Which of 'train', 'val', 'test' the run needs.
        source: The option that gave ``cfg.load_from``, for the messages; None for an argument.

    Raises:
        BadInput: At the first thing that is wrong.
    """
    from mmengine.registry import DefaultScope

    from normfix_mm.checkpoints.forms import check_forms, check_initial_forms
    from normfix_mm.models.build import build_model
    from normfix_mm.preflight.checkpoints import (
        check_keys,
        checkpoint_of,
        pretrained,
        read_checkpoint,
    )
    from normfix_mm.preflight.data import check_classes, check_data
    from normfix_mm.preflight.training import check_training

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        check_data(cfg, phases)
        initial = {
            path: read_checkpoint(path, f"`{option}`") for path, option in pretrained(cfg.model)
        }
        model = build_model(cfg)
        check_classes(cfg, phases, model)
        if cfg.get("default_scope") == "mmseg":
            from normfix_mm.preflight.segmentation_data import check_segmentation

            check_segmentation(cfg, model, phases)
        if cfg.get("default_scope") == "mmpretrain":
            from normfix_mm.preflight.classification_data import check_classification

            check_classification(cfg, model, phases)
        path = checkpoint_of(cfg)
        if path is not None:
            checkpoint = read_checkpoint(path, source)
            check_keys(model, checkpoint, path, complete="test" in phases)
            check_forms(model, checkpoint, path)
        elif "train" in phases and not cfg.get("load_from"):  # which would overwrite them
            check_initial_forms(model, initial)
        if "train" in phases:
            check_training(cfg, model)
