"""What can be known to be wrong before a run costs time: paths, classes, checkpoints, the stack.

``tools/train.py`` and ``tools/test.py`` call :func:`check` before a Runner exists. Each finding is
a :class:`BadInput`, one sentence with cause and remedy. Remote paths are left to the Runner.
Data and classes are looked at in ``normfix_mm.preflight_data``, the weight forms of a checkpoint
compared in ``normfix_mm.preflight_forms``, optimizer and hooks tried out in
``normfix_mm.preflight_training``, a segmenter's labels read in
``normfix_mm.preflight_segmentation`` and its heads tried in ``normfix_mm.preflight_heads``.
"""

from __future__ import annotations

import copy
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


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

    from .preflight_data import check_classes, check_data
    from .preflight_forms import check_forms, check_initial_forms
    from .preflight_training import check_training

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        check_data(cfg, phases)
        initial = {
            path: read_checkpoint(path, f"`{option}`") for path, option in _pretrained(cfg.model)
        }
        model = build_model(cfg)
        check_classes(cfg, phases, model)
        if cfg.get("default_scope") == "mmseg":
            from .preflight_segmentation import check_segmentation

            check_segmentation(cfg, model, phases)
        path = checkpoint_of(cfg)
        if path is not None:
            checkpoint = read_checkpoint(path, source)
            check_keys(model, checkpoint, path, complete="test" in phases)
            check_forms(model, checkpoint, path)
        elif "train" in phases and not cfg.get("load_from"):  # which would overwrite them
            check_initial_forms(model, initial)
        if "train" in phases:
            check_training(cfg, model)


def build_model(cfg) -> nn.Module:
    """The model of a config, with no weights loaded.

    Raises:
        BadInput: It cannot be built.
    """
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmdet")):
        try:
            return MODELS.build(copy.deepcopy(cfg.model))  # detectors write into their config
        except Exception as error:  # an unknown type or option, a rule that matches nothing, ...
            text = one_line(error)
            merged = "; to replace a part of a `_base_` config give _delete_=True"
            raise BadInput(
                f"The model cannot be built: {text}"
                f"{merged if 'unexpected keyword argument' in text else ''}"
            ) from None


def checkpoint_of(cfg) -> str | None:
    """The local checkpoint that the Runner will load or resume from, if there is one."""
    path = cfg.get("load_from")
    if path is None and cfg.get("resume"):
        from mmengine.runner import find_latest_checkpoint

        marker = os.path.join(cfg.get("work_dir") or ".", "last_checkpoint")
        path = find_latest_checkpoint(os.path.dirname(marker)) if os.path.exists(marker) else None
    return path if path is not None and is_local(path) else None


def read_checkpoint(path: str, source: str | None) -> dict:
    """Read a checkpoint file on the CPU.

    Args:
        source: The option that named it; None if an argument of its own did.

    Raises:
        BadInput: If it is absent, truncated, or not a checkpoint.
    """
    from mmengine.runner.checkpoint import _load_checkpoint

    named = f"{path!r} of {source}" if source else repr(path)
    if not os.path.isfile(path):
        without = {
            None: "",
            "`--resume`": ", or give --resume alone to go on from the latest of the work dir",
        }.get(source, f", or set {source} to None to start without it")
        raise BadInput(f"The checkpoint {named} does not exist; correct the path{without}.")
    try:
        checkpoint = _load_checkpoint(path, map_location="cpu")
    except Exception as error:  # zip, pickle and torch each have errors of their own
        raise BadInput(
            f"The checkpoint {named} cannot be read ({one_line(error, 120)}); it "
            "was probably cut off while being written or copied: fetch it again or use an earlier "
            "one."
        ) from None
    if not isinstance(checkpoint, dict):
        raise BadInput(
            f"{named} holds a {type(checkpoint).__name__}, not a checkpoint; save "
            "the state dict instead of the module."
        )
    return checkpoint


def check_keys(model: nn.Module, checkpoint: dict, path: str, complete: bool) -> None:
    """Refuse a checkpoint that shares no key with the model, or, if `complete`, lacks some.

    A missing gain is none: its layer starts at |W|, the function of a plain checkpoint. The weights
    that are there are written into `model`, by its own rules for the names of older versions.

    Raises:
        BadInput: With the first keys concerned.
    """
    given = checkpoint.get("state_dict", checkpoint)
    state = OrderedDict((name.removeprefix("module."), value) for name, value in given.items())
    state._metadata = getattr(given, "_metadata", OrderedDict())  # versions, for those rules
    if not state.keys() & model.state_dict().keys():
        raise BadInput(
            f"None of the {len(state)} keys of {path!r} is one of the model's; for a backbone use "
            "its init_cfg, or convert with --as-model."
        )
    if not complete:
        return
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:  # another shape
        raise BadInput(
            f"The checkpoint {path!r} does not fit the model: {one_line(error)}; give the config "
            "that it was trained with."
        ) from None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    missing = [name for name in missing if name in parameters]  # a version may add a buffer
    if missing:
        raise BadInput(
            f"The checkpoint {path!r} lacks {len(missing)} of the model's keys "
            f"({listed(missing, 3)}); give the config that it was trained with."
        )


def _pretrained(node) -> Iterator[tuple[str, str]]:
    """Local files that some ``init_cfg=dict(type='Pretrained')`` or ``pretrained`` names."""
    if isinstance(node, dict):
        named = {"pretrained": node.get("pretrained")}  # mmseg's configs still use it
        if node.get("type") == "Pretrained":
            named["init_cfg"] = node.get("checkpoint")
        for option, path in named.items():
            if isinstance(path, str) and is_local(path):
                yield path, option
        for child in node.values():
            yield from _pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pretrained(child)


def is_local(path: str) -> bool:
    return "://" not in path


def one_line(error: Exception, limit: int = 400) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}…"


def listed(names: Sequence, most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name) for name in names[:most]) + more
