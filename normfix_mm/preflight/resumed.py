"""What a resumed run takes from its checkpoint, whatever the config says by now.

mmengine restores the optimizer's options (lr, momentum, weight_decay) and all of the schedules with
their state, so that changes of them in the config have no effect, without a word. And a run that
has reached its end trains nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping

from normfix_mm.checkpoints.stored_config import settings_of
from normfix_mm.errors import quoted
from normfix_mm.preflight.notes import warn


def warn_of_restored(checkpoint: Mapping, path: str, cfg) -> None:
    """Say what of the config will not be heeded.

    Args:
        checkpoint: what the run is to go on from, with `epoch` and `iter` in its metadata.
    """
    meta = checkpoint["meta"]
    loop = cfg.get("train_cfg") or {}
    for counted, longest in (("epoch", "max_epochs"), ("iter", "max_iters")):
        length = loop.get(longest)
        if isinstance(length, int) and meta[counted] >= length:
            warn(
                f"The run of {path!r} is at its end ({counted} {meta[counted]} of {length}): "
                f"nothing is left to train, unless train_cfg.{longest} is raised."
            )
    stored = meta.get("cfg")
    stored_names = ("optim_wrapper", "param_scheduler")
    then = settings_of(stored, stored_names) if isinstance(stored, str) else {}
    for name in ("optim_wrapper.optimizer", "optim_wrapper.paramwise_cfg", "param_scheduler"):
        before, now = plain(_setting(then, name)), plain(_setting(cfg, name))
        if name.endswith("paramwise_cfg") and _setting(then, "optim_wrapper"):
            # The regularizer is attached as the config says by now.
            before, now = (
                {key: value for key, value in (options or {}).items() if key != "eps_shift"}
                for options in (before, now)
            )
        elif before is None or not now:
            continue
        changed = [key for key in _changes(before, now, name) if "type" not in key]
        if changed:
            warn(
                f"{quoted(changed)} of the config are not those of the run of {path!r}, and a "
                "resumed run keeps its own, from the checkpoint; to train with the new ones, start "
                "from its weights with load_from."
            )


def _setting(config, name: str):
    """What a config (mmengine's is no Mapping) or a stored one has under a dotted name, or None."""
    for part in name.split("."):
        config = config.get(part) if hasattr(config, "get") else None
    return config


def _changes(before, now, name: str) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*before, *(key for key in now if key not in before)]
        parts = [_changes(before.get(key), now.get(key), f"{name}.{key}") for key in keys]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        parts = [_changes(*pair, f"{name}.{k}") for k, pair in enumerate(zip(before, now))]
    else:
        return [] if before == now else [name]
    return [change for part in parts for change in part]


def plain(node):
    """A part of a config, or of a stored one, of dictionaries and lists alone."""
    if isinstance(node, Mapping):
        return {str(key): plain(value) for key, value in node.items()}
    return [plain(each) for each in node] if isinstance(node, (list, tuple)) else node
