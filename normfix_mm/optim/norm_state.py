"""What norm fixing puts into a checkpoint, and what it makes of it when a run goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from normfix_mm.kernels.norms import squared_norms
from normfix_mm.optim.weights import WeightInfo

if TYPE_CHECKING:
    from normfix_mm.optim.norm_fix import NormFix

VERSION = 2
_KEYS = {"version", "mode", "names", "target"}


def pack_state(fixing: NormFix) -> dict[str, Any]:
    """Version, mode, selected names, names of those held at present, and the target."""
    return {
        "version": VERSION,
        "mode": fixing.mode,
        "selected": [info.name for info in fixing.selected],
        "names": fixing.names,
        "target": fixing.target.detach().clone(),
    }


def adopt_state(fixing: NormFix, state: dict[str, Any]) -> Tensor:
    """The target of a state for the weights that train now.

    Weights may have been frozen or thawed since the state was written; they leave or join with
    their present norm, as in the run that wrote it.

    Raises:
        ValueError: no state of norm fixing, or one of other weights or another mode.
    """
    lacking = sorted(_KEYS - set(state if isinstance(state, Mapping) else ()))
    if lacking:
        raise ValueError(f"NormFix: the state lacks {lacking}: it is no state of NormFix.")
    if state["version"] not in (1, VERSION):
        raise ValueError(
            f"NormFix: the state has version {state['version']}, this package reads {VERSION}:"
            " resume with the package version that wrote it."
        )
    if state["mode"] != fixing.mode:
        raise ValueError(
            f"NormFix: the state was written with mode={state['mode']!r}, this run has"
            f" mode={fixing.mode!r}: resume with the same mode, or start without resuming."
        )
    for key in ("names", "selected")[: state["version"]]:
        names = state.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"NormFix: the state's {key!r} is no list of names: it is damaged.")
    # Version 1 named only those that trained.
    here = fixing.names if state["version"] == 1 else [info.name for info in fixing.selected]
    there = list(state["names"] if state["version"] == 1 else state["selected"])
    if here != there:
        only_there = [n for n in there if n not in set(here)]
        only_here = [n for n in here if n not in set(there)]
        raise ValueError(
            f"NormFix: the state fixes other weights (only there: {only_there[:5]}, only here:"
            f" {only_here[:5]}, or in another order): resume with the same model and selection."
        )
    try:
        target = torch.as_tensor(state["target"]).to(fixing.target.device, torch.float64).clone()
    except (RuntimeError, TypeError, ValueError):
        raise ValueError("NormFix: the state's target is no number: it is damaged.") from None
    size = () if fixing.mode == "joint" else (len(here),)
    held = set(state["names"])
    if target.shape == size and size:
        for k, info in enumerate(fixing.selected):
            if info.name not in held:  # whatever it was then
                target[k] = squared_norms([info.param]).sqrt()[0].to(target)
        used = target[[name in held for name in there]]
    else:
        used = target if held else target + 1  # where nothing was held it is 0
    if target.shape != size or not bool(((used > 0) & used.isfinite()).all()):
        raise ValueError("NormFix: the state's target is not a positive norm: it is damaged.")
    if size:
        return target
    return moved_target(target, [i for i in fixing.selected if i.name in held], fixing.infos)


def moved_target(target: Tensor, before: Sequence[WeightInfo], now: Sequence[WeightInfo]) -> Tensor:
    """The joint target when the weights that are held change from `before` to `now`.

    What stays keeps its share, what joins brings its present norm. The share is a ratio of present
    norms: the difference of two squares would be all rounding where what stays is small beside what
    leaves, and below zero where a weight was written by hand.
    """
    stay = [i.param for i in before if i in now]
    join = [i.param for i in now if i not in before]
    square = target.square()
    if not stay:
        square = torch.zeros_like(square)
    elif len(stay) < len(before):
        share = squared_norms(stay).sum() / squared_norms([i.param for i in before]).sum()
        square = square * share.to(square)
    if join:
        square = square + squared_norms(join).sum().to(square)
    return square.sqrt()
