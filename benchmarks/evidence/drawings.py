"""The papers' figures drawn from our logs; for `normfix_mm.report.markup.figures`, or as a PNG."""

from __future__ import annotations

import io
from collections.abc import Callable

from matplotlib.figure import Figure

from benchmarks.evidence.claim import Claim, Found
from normfix_mm.report.plots import dress

NAMES = {"sgd": "SGD", "adam": "Adam"}
COLOURS = {"WN": "tab:blue", "WS": "tab:orange"}


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


def accuracy_by_lambda(optimizer: str) -> Callable:
    """Table II or III as curves; a dead run stands at zero."""

    def draw(axes, found: Found) -> bool:
        kinds: dict[str, list[tuple[str, float]]] = {}
        for label, runs in found.items():
            form, name, lam = label.split(", ")
            if name == optimizer:
                kinds.setdefault(form, []).append((lam.removeprefix("λ "), runs[0]["accuracy"]))
        for form, points in kinds.items():
            style = "-" if "+ ε" in form else "--"
            axes.plot(*zip(*points), style, marker="o", color=COLOURS[form[:2]], label=form)
        axes.set(title=f"Accuracy by decay, {NAMES[optimizer]}", xlabel="λ, as in the paper")
        return bool(kinds)

    return draw


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


FIRST_RATE = curve("first_effective_lr", "Effective rate of the first convolution", True)

DRAWINGS: dict[str, list[tuple[Callable, str]]] = {
    "tables-2-3": [
        (accuracy_by_lambda("sgd"), "Dashed without ε; a run that died stands at zero."),
        (accuracy_by_lambda("adam"), "The same with Adam."),
    ],
    "figs-2-4": [(FIRST_RATE, "Figs. 2 and 4 of the ε-shift paper.")],
    "fig-5": [(FIRST_RATE, "Fig. 5 of the ε-shift paper.")],
    "figs-6-7": [
        (curve("largest_inverse_norm", "max 1/‖w‖", True), "Figs. 6 and 7 of the ε-shift paper.")
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


def side_by_side(claim: Claim, found: Found) -> bytes:
    """The drawings of a claim that has some, on white, as a PNG for a page that has no theme."""
    figure = Figure(figsize=(5.0 * len(of(claim)), 3.4), facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(of(claim)), squeeze=False)[0]
    for axes, (draw, _) in zip(panels, of(claim), strict=True):
        draw(axes, found)
        dress(axes, "light")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
