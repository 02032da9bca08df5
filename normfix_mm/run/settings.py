"""Does anything read what ``--cfg-options`` sets?

mmengine takes every KEY=VALUE. One whose first name is misspelt, or is a name that the config file
uses while it is read (``data_root``, ``max_epochs``), changes nothing: the run goes on as before.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping, Sequence

from normfix_mm.errors import BadInput, quoted
from normfix_mm.preflight.notes import warn

# What mmengine's Runner looks up in a config beside its own arguments, and what this package does.
_READ = {
    *("activation_checkpointing", "compile", "custom_imports", "efficient_conv_bn_eval"),
    *("find_unused_parameters", "model_wrapper_cfg", "runner_type", "strategy", "sync_bn"),
    *("options", "row", "rows", "test_pipeline", "tta_model", "tta_pipeline", "tune_cfg"),
}


def check_settings(cfg, options: Mapping) -> None:
    """Compare the settings with a config that they are to be merged into.

    Raises:
        BadInput: A first name that nothing reads.
    """
    from mmengine.runner import Runner

    known = _READ | {*inspect.signature(Runner).parameters} - {"cfg"}
    for key in options:
        first = key.partition(".")[0]
        if first not in known:
            raise BadInput(f"--cfg-options {key}: {_unread(cfg, first, known)}")
        _warn_of_misspelling(cfg, key)


def _unread(cfg, name: str, known: set[str]) -> str:
    if name not in cfg:
        near = difflib.get_close_matches(name, known, 1)
        return (
            f"there is no setting {name!r}"
            + (f", but {near[0]!r}" if near else "")
            + "; correct the name."
        )
    places = [place for place in _places(cfg, name) if place.partition(".")[0] in known]
    write = f"write {quoted(places, 3)}" if places else "write the settings themselves"
    return (
        f"{name!r} is a name that the config file uses while it is read, and nothing reads it "
        f"after, so that this would change nothing; {write}, or a config with `_base_` of this one."
    )


def _places(node, name: str, path: str = "") -> Iterator[str]:
    """Where settings of this name stand below a config's top."""
    pairs: Iterator = iter(())
    if isinstance(node, Mapping) or hasattr(node, "items"):
        pairs = iter(node.items())
    elif isinstance(node, Sequence) and not isinstance(node, str):
        pairs = enumerate(node)
    for key, child in pairs:
        place = f"{path}.{key}" if path else str(key)
        if key == name and path:
            yield place
        yield from _places(child, name, place)


def _warn_of_misspelling(cfg, key: str) -> None:
    """Of settings that nothing constructs: what is constructed refuses what it does not take."""
    node = cfg
    for name in key.split("."):
        if not isinstance(node, Mapping) and node is not cfg:
            return
        if name not in node:
            near = difflib.get_close_matches(name, node, 1, 0.7)
            if near and "type" not in node and node is not cfg:
                warn(f"--cfg-options {key}: {name!r} is new beside {near[0]!r}; is it misspelt?")
            return
        node = node[name]
