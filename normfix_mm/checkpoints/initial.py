"""Do the files that ``init_cfg=dict(type='Pretrained')`` names have weights for their modules?

mmengine loads what has the module's names and passes over the rest: with a whole model's file for a
backbone, whose names all begin with ``backbone.``, that is everything, and training starts from
random weights.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Collection, Iterable, Mapping

from torch import nn

from normfix_mm.checkpoints.forms import pretrained
from normfix_mm.errors import BadInput, quoted
from normfix_mm.typed import invocation


def check_initial_keys(model: nn.Module, checkpoints: Mapping[str, Mapping]) -> None:
    """Refuse a file none of whose keys is one of the module's that it initializes.

    Args:
        checkpoints: path to content of the files; others are not looked at.

    Raises:
        BadInput: With the first such file and the prefix that would fit, if one would.
    """
    for name, module in model.named_modules():
        for path, prefix in () if _loads_itself(module) else pretrained(module):
            if path in checkpoints:
                _check(module, name, checkpoints[path], path, prefix)


def _check(module: nn.Module, name: str, content: Mapping, path: str, prefix: str) -> None:
    given = content.get("state_dict", content)
    if prefix:
        state = {n.removeprefix(prefix): w for n, w in given.items() if n.startswith(prefix)}
    else:
        state = {n.removeprefix("module."): w for n, w in given.items()}
    names = module.state_dict().keys()
    if not names or state.keys() & names or _renames(module, state, given):
        return
    fitting = _prefix(given, names)
    below = f" below {prefix!r}" if prefix else ""
    if prefix and given.keys() & names:
        remedy = "leave its prefix out"
    elif fitting is not None:
        remedy = f"give it prefix={fitting!r}"
    else:
        remedy = f"give one of the same network, or convert it (`{invocation('convert')}`)"
    raise BadInput(
        f"None of the {len(given)} keys of {path!r}{below} ({quoted(given, 2)}) is one of "
        f"{name or 'the model'}, whose init_cfg names it: training would start from random "
        f"weights; {remedy}, or set init_cfg=None."
    )


def _loads_itself(module: nn.Module) -> bool:
    """Whether its class reads the file by rules of its own, as MMDetection's Swin does."""
    methods = (kind.__dict__.get("init_weights") for kind in type(module).__mro__)
    called = {name for method in methods if method for name in _names(method)}
    return any("load" in name.lower() for name in called)


def _names(method) -> Iterable[str]:
    code = getattr(method, "__code__", None)
    return code.co_names if code else ()


def _renames(module: nn.Module, state: Mapping, given: Mapping) -> bool:
    """Whether the module takes keys of an older version, which only its own loading tells."""
    versioned = OrderedDict(state)
    versioned._metadata = getattr(given, "_metadata", OrderedDict())  # type: ignore[attr-defined]
    try:
        missing = module.load_state_dict(versioned, strict=False).missing_keys
    except Exception:  # of another shape, which a key of the module's is
        return True
    # An old BN's counter is never missed, nor is a gain.
    wanted = {name for name, _ in module.named_parameters() if not name.endswith(".g")}
    return not wanted <= {*missing}


def _prefix(given: Iterable[str], names: Collection[str]) -> str | None:
    """What stands in a file before most of a module's names, None if nothing does."""
    found = Counter(
        key.removesuffix(name)
        for key in given
        for name in (".".join(key.split(".")[k:]) for k in range(1, key.count(".") + 1))
        if name in names
    )
    return next((p for p, count in found.most_common(1) if 2 * count > len(names)), None)
