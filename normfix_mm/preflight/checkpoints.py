"""Is the checkpoint there, whole, and one of this model?"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator

from torch import nn

from normfix_mm.checkpoints import files
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.data import is_local


def checkpoint_of(cfg) -> str | None:
    """The local checkpoint that the Runner will load or resume from, if there is one."""
    path = cfg.get("load_from")
    if path is None and cfg.get("resume"):
        from mmengine.runner import find_latest_checkpoint

        marker = os.path.join(cfg.get("work_dir") or ".", "last_checkpoint")
        path = find_latest_checkpoint(os.path.dirname(marker)) if os.path.exists(marker) else None
    return path if path is not None and is_local(path) else None


def read_checkpoint(path: str, source: str | None) -> dict:
    """Read a checkpoint file on the CPU, running nothing that is in it.

    Args:
        source: The option that named it; None if an argument of its own did.

    Raises:
        BadInput: If it is absent, truncated, no checkpoint, or cannot be read safely.
    """
    if not os.path.isfile(path):
        named = f"{path!r} of {source}" if source else repr(path)
        without = {
            None: "",
            "`--resume`": ", or give --resume alone to go on from the latest of the work dir",
        }.get(source, f", or set {source} to None to start without it")
        raise BadInput(f"The checkpoint {named} does not exist; correct the path{without}.")
    return files.load(path, source)


def check_keys(model: nn.Module, checkpoint: dict, path: str, complete: bool) -> None:
    """Refuse a checkpoint that shares no key with the model, or, if `complete`, lacks some.

    A missing `g` is allowed: the layer sets it to |W| when its weight is loaded, which keeps the
    function of a plain checkpoint. If `complete`, the weights are loaded into `model`, since only
    its modules know how keys of older versions are to be renamed.

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
            f"({quoted(missing, 3)}); give the config that it was trained with."
        )


def pretrained(node) -> Iterator[tuple[str, str]]:
    """Local files that some ``init_cfg=dict(type='Pretrained')`` or ``pretrained`` names."""
    if isinstance(node, dict):
        named = {"pretrained": node.get("pretrained")}  # mmseg's configs still use it
        if node.get("type") == "Pretrained":
            named["init_cfg"] = node.get("checkpoint")
        for option, path in named.items():
            if isinstance(path, str) and is_local(path):
                yield path, option
        for child in node.values():
            yield from pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from pretrained(child)
