"""Is the checkpoint there, whole, and one of this model?

Addresses (``torchvision://resnet50``) are fetched into the cache here, before anything else takes
time; what cannot be fetched is said now and not by the run.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from torch import nn

from normfix_mm.checkpoints import addresses, files
from normfix_mm.checkpoints.safe_load import is_trusted, load
from normfix_mm.errors import BadInput, one_line, quoted
from normfix_mm.preflight.notes import note, warn

_PICKLES = (".pkl", ".pickle")


def checkpoint_of(cfg) -> str | None:
    """The checkpoint that the Runner will load or resume from, if there is one."""
    path = cfg.get("load_from")
    if path is None and cfg.get("resume"):
        from mmengine.runner import find_latest_checkpoint

        marker = os.path.join(cfg.get("work_dir") or ".", "last_checkpoint")
        path = find_latest_checkpoint(os.path.dirname(marker)) if os.path.exists(marker) else None
    return path if path is not None and _is_readable(path) else None


def _is_readable(path: str) -> bool:
    """Whether it is a local file or an address that can be fetched, and no store of the user's."""
    return "://" not in path or path.startswith(addresses.KNOWN)


def read_checkpoint(path: str, source: str | None) -> dict:
    """Read a checkpoint file on the CPU, running nothing that is in it.

    Args:
        source: The option that named it; None if an argument of its own did.

    Raises:
        BadInput: If it is absent, truncated, no checkpoint, not finite, or cannot be read safely.
    """
    if path.startswith(addresses.KNOWN):
        return _finite(_fetched(path, source), path, source)
    path = os.path.expanduser(path)  # as mmengine does
    if os.path.isdir(path):
        raise BadInput(
            f"{path!r} is a folder; give the checkpoint file in it. (DeepSpeed's "
            "folders would have to be unpickled; their zero_to_fp32.py makes a file of one.)"
        )
    if not os.path.isfile(path):
        named = f"{path!r} of {source}" if source else repr(path)
        without = {
            None: "",
            "`--resume`": ", or give --resume alone to go on from the latest of the work dir",
        }.get(source, f", or set {source} to None to start without it")
        raise BadInput(f"The checkpoint {named} does not exist; correct the path{without}.")
    return _finite(load(path, source), path, source)


def _fetched(address: str, source: str | None) -> dict:
    from normfix_mm.checkpoints.mmengine_loading import load_from_address

    addresses.fetched(address, source)
    return load_from_address(address, "cpu")


def _finite(content: dict, path: str, source: str | None) -> dict:
    files.check_finite(content, f"{path!r} of {source}" if source else repr(path))
    return content


def check_pickles(cfg) -> None:
    """Refuse annotations and the like that are pickles, which run code while they are read.

    Raises:
        BadInput: At the first that is there and that nobody has vouched for.
    """
    for loader in ("train_dataloader", "val_dataloader", "test_dataloader", "model"):
        for path in _pickles(cfg.get(loader), ""):
            if os.path.isfile(path) and not is_trusted(path):
                raise BadInput(
                    f"{path!r} of {loader} is a pickle, which can run code while it is read: write "
                    "its content as JSON, or, if you trust whoever made it, name it with "
                    "--trust-checkpoint."
                )


def _pickles(node, root: str) -> Iterator[str]:
    """The files of a config that a framework will unpickle."""
    if isinstance(node, Mapping):
        root = node.get("data_root") or root
        for key, value in node.items():
            # OpenImages' classes are a hierarchy in an array of objects.
            ends = (
                (".pkl", ".pickle", ".np", ".npy")
                if key == "hierarchy_file"
                else (".pkl", ".pickle")
            )
            if key.endswith(("_file", "class_weight")) and isinstance(value, str):
                if value.endswith(ends):
                    yield os.path.join(root, value)
            else:
                yield from _pickles(value, root)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _pickles(child, root)


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
        _say_what_is_new(model, state, path)
        return
    try:
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (AttributeError, RuntimeError, TypeError) as error:  # another shape, or no tensor
        raise BadInput(
            f"The checkpoint {path!r} does not fit the model: {one_line(error)}; give the config "
            "that it was trained with."
        ) from None
    parameters = dict(model.named_parameters(remove_duplicate=False))
    # A version may add a buffer, but a norm without its statistics gives other outputs.
    missing = [
        name
        for name in missing
        if name in parameters or name.endswith(("running_mean", "running_var"))
    ]
    if missing:
        raise BadInput(
            f"The checkpoint {path!r} lacks {len(missing)} of the model's keys "
            f"({quoted(missing, 3)}); give the config that it was trained with."
        )


def _say_what_is_new(model: nn.Module, state: Mapping, path: str) -> None:
    """Of weights to start from: which of the model's parameters they leave as they are."""
    wanted = {n: p for n, p in model.named_parameters() if not n.endswith(".g")}
    fits = {n for n, p in wanted.items() if getattr(state.get(n), "shape", None) == p.shape}
    new = [name for name in wanted if name not in fits]
    if new:
        say = warn if len(fits) < len(new) else note
        say(
            f"{path!r} has {len(fits)} of the model's {len(wanted)} parameters; the others start "
            f"anew: {quoted(new, 3)}."
        )


def pretrained(node) -> Iterator[tuple[str, str]]:
    """What some ``init_cfg=dict(type='Pretrained')`` or ``pretrained`` names, and which of them."""
    if isinstance(node, dict):
        named = {"pretrained": node.get("pretrained")}  # mmseg's configs still use it
        if node.get("type") == "Pretrained":
            named["init_cfg"] = node.get("checkpoint")
        for option, path in named.items():
            if isinstance(path, str) and _is_readable(path):
                yield path, option
        for child in node.values():
            yield from pretrained(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from pretrained(child)
