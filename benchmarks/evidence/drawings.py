"""The papers' figures drawn from our logs; for `normfix_mm.report.markup.figures`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.evidence.claims import Claim

Found = dict[str, list[dict]]


def curve(key: str, title: str, logarithmic: bool = False) -> Callable:
    """One line a label: a logged value over the steps, of the first seed."""

    def draw(axes, found: Found) -> bool:
        for label, runs in found.items():
            log = runs[0]["log"]
            axes.plot(log["step"], log[key], label=label)
        axes.set(title=title)
        if logarithmic:
            axes.set(yscale="log")
        return bool(found)

    return draw


def accuracy_by_lambda(axes, found: Found) -> bool:
    """Tables II and III as curves; a dead run stands at zero."""
    kinds: dict[str, list[tuple[str, float]]] = {}
    for label, runs in found.items():
        kind, _, lam = label.rpartition(", λ ")
        kinds.setdefault(kind, []).append((lam, runs[0]["accuracy"]))
    for kind, points in kinds.items():
        style = "-" if "+ ε" in kind else "--"
        axes.plot([lam for lam, _ in points], [a for _, a in points], style, marker="o", label=kind)
    axes.set(title="Accuracy by λ (the paper's)", xlabel="λ")
    return bool(kinds)


def accuracy_by_rate(axes, found: Found) -> bool:
    """Fig. 4: a line for each α."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for label, runs in found.items():
        rate, alpha = label.removeprefix("lr ").split(", ")
        lines.setdefault(alpha, []).append((float(rate), runs[0]["accuracy"]))
    for alpha, points in lines.items():
        axes.plot(*zip(*points), marker="o", label=alpha)
    axes.set(title="Accuracy by rate, for each α", xlabel="learning rate", xscale="log")
    return bool(lines)


DRAWINGS: dict[str, list[tuple[Callable, str]]] = {
    "tables-2-3": [(accuracy_by_lambda, "Dashed without ε; a run that died stands at zero.")],
    "table-1": [
        (
            curve("first_effective_lr", "Effective rate of the first convolution"),
            "Figs. 4 and 5 of the ε-shift paper.",
        )
    ],
    "figs-6-7": [
        (curve("largest_inverse_norm", "max 1/‖w‖", True), "Figs. 6 and 7 of the ε-shift paper."),
        (curve("effective_lr", "Effective rate, lr / ‖W‖²", True), "Fig. 2 of the ε-shift paper."),
    ],
    "figs-1-2": [
        (curve("joint_norm", "‖W‖ of the convolutions"), "FixNorm, Fig. 1."),
        (curve("gain", "Gain of the classifier"), "FixNorm, Fig. 2."),
        (curve("cross_boundary_risk", "MCBR of training images"), "FixNorm, Fig. 2."),
    ],
    "fig-4": [(accuracy_by_rate, "FixNorm, Fig. 4.")],
}


def of(claim: Claim) -> list[tuple[Callable, str]]:
    return DRAWINGS.get(claim.name, [])
