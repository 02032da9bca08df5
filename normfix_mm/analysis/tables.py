"""What every weight of a model gets, as tables for the log before training."""

from collections import defaultdict
from collections.abc import Sequence

from torch import nn
from torch.optim import Optimizer

from normfix_mm.optim.claims import claims, decay_of, groups_of, resting
from normfix_mm.optim.weights import WeightInfo, weights_of


def treatment_table(model: nn.Module, optimizer: Optimizer) -> str:
    """What every parameter of the model gets, one row per class of parameter.

    Columns: treatment, kind, form, number of tensors, number of elements, joint L2 norm, and the
    first and last name of the class.
    """
    groups, rests = groups_of(optimizer), resting(optimizer)
    table = claims(optimizer)
    rows: dict[tuple, list[WeightInfo]] = defaultdict(list)
    for w in weights_of(model):
        if not w.param.requires_grad:
            treatment = "frozen"
        elif w.param not in groups:
            treatment = "not in the optimizer"
        elif w.param in rests:
            treatment = "rate 0"
        elif w.param in table:
            treatment = table[w.param]
        else:
            option = decay_of(groups[w.param])
            treatment = f"decay {groups[w.param][option]:g}" if option else "none"
        rows[treatment, w.kind, w.form or "-"].append(w)
    lines = [("treatment", "kind", "form", "tensors", "elements", "joint norm", "from … to")]
    for key in sorted(rows):
        group = rows[key]
        norm = sum(_square(w) for w in group) ** 0.5
        span = group[0].name if len(group) == 1 else f"{group[0].name} … {group[-1].name}"
        elements = sum(w.param.numel() for w in group)
        lines.append((*key, str(len(group)), f"{elements:,}", f"{norm:.4g}", span))
    return _aligned(lines)


def joint_norm_table(infos: list[WeightInfo]) -> str:
    """The weights whose joint norm is fixed, one row per part of the model and form of layer.

    Columns: part, kind, form, number of tensors, number of elements, L2 norm, and the share of the
    joint norm's square, which says how far the parts can move against each other.
    """
    rows: dict[tuple, list[WeightInfo]] = defaultdict(list)
    for w in infos:
        rows[_part(w.name), w.kind, w.form or "plain"].append(w)
    squares = {key: sum(_square(w) for w in group) for key, group in rows.items()}
    total = sum(squares.values())
    lines = [("part", "kind", "form", "tensors", "elements", "norm", "share")]
    for key, group in rows.items():
        elements = sum(w.param.numel() for w in group)
        share = f"{squares[key] / total:.1%}"
        norm = f"{squares[key] ** 0.5:.4g}"
        lines.append((*key, str(len(group)), f"{elements:,}", norm, share))
    return _aligned(lines)


def _part(name: str) -> str:
    """The model's child that a parameter belongs to; a two-stage detector's heads by themselves."""
    pieces = name.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "roi_head" else pieces[0]


def _square(info: WeightInfo) -> float:
    return float(info.param.detach().double().square().sum())


def _aligned(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
