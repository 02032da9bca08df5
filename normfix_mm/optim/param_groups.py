"""Parameter groups for an optimizer: no decay on what the ε-shift or norm fixing takes care of.

Both papers leave biases undecayed, the code of the ε-shifted regularizer too. A shared parameter
counts once, and parameters with equal options share one group, because one group a parameter makes
every optimizer step slow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from normfix_mm.errors import BadInput
from normfix_mm.layers.options import as_number
from normfix_mm.optim.weights import eps_shift_weights, norm_fix_weights, unwrapped, weights_of

Options = Mapping[str, Any]


def param_groups(
    model: nn.Module,
    weight_decay: float | None,
    *,
    eps_shift: bool | Options = True,
    norm_fix: bool | Options = False,
    decay_biases: bool = False,
    decay_norms: bool = True,
    options: Callable[[str, nn.Parameter], Options | None] | None = None,
) -> list[dict[str, Any]]:
    """Groups of all parameters of a model, for any torch optimizer.

    Args:
        model: after `normalize_layers`, which adds gains; frozen parameters are in the groups as
            well, so that they can thaw.
        weight_decay: of the parameters that no treatment gets; None leaves it to the optimizer.
        eps_shift: whether `EpsShift` will be attached, or its `include` and `exclude`.
        norm_fix: whether `NormFix` will be attached, or its `weights`, `include` and `exclude`.
        decay_biases: of all layers, norms too.
        decay_norms: the weights of norms, and gains.
        options: further options of a parameter's group, by name and parameter, for example
            dict(lr=0.01), or None to leave it out. A weight_decay among them wins, but for weights
            that a treatment gets.

    Raises:
        ValueError: a pattern that matches nothing, a weight_decay that is no number.

    Example:
        >>> groups = nf.param_groups(model, weight_decay=1e-4)
        >>> optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
        >>> nf.EpsShift(optimizer, model, lam=1e-4, eps=1e-3)
    """
    if weight_decay is not None and not 0 <= as_number(weight_decay) < float("inf"):
        raise BadInput(f"Invalid weight_decay: {weight_decay!r}; give a number ≥ 0, or None.")
    model = unwrapped(model)
    treated = set()
    for select, given in ((eps_shift_weights, eps_shift), (norm_fix_weights, norm_fix)):
        if given is not False:
            rules = {} if given is True else dict(given)
            treated |= {info.param for info in select(model, frozen=True, **rules)}
    groups: dict[str, dict[str, Any]] = {}
    for info in weights_of(model):
        further = options(info.name, info.param) if options else {}
        if further is None:
            continue
        is_bias = info.kind == "bias" or info.name.rpartition(".")[2] == "bias"  # of a norm
        decayed = decay_biases if is_bias else decay_norms or info.kind not in ("norm", "gain")
        chosen: dict[str, Any] = {} if weight_decay is None else {"weight_decay": weight_decay}
        if not decayed:
            chosen = {"weight_decay": 0.0}
        chosen |= further
        if info.param in treated:
            chosen["weight_decay"] = 0.0
        key = repr(sorted(chosen.items()))
        groups.setdefault(key, {"params": [], **chosen})["params"].append(info.param)
    return list(groups.values())
