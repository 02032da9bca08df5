"""The curves of one or several runs, as PNG bytes; each for a light and for a dark page."""

from __future__ import annotations

import colorsys
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from normfix_mm.report.run import Run

MOST_CLASSES = 30  # in a matrix of confusions
MOST_CURVES, FEW = 10, 5  # classes that each have a colour; those that have, where there are more
MOST_PARTED = 3  # runs, from which on parts of the loss are left out
MOST_POINTS = 60  # of a curve, to hover over
COLOURS = ("#2f6fbb", "#d1712a", "#3c9a5f", "#9a5bb0", "#b0473f", "#777777")
# For classes: chosen for the colour-blind as well ("Accessible color sequences for data
# visualization", arXiv 2107.02270).
PETROFF = (
    (0x3F, 0x90, 0xDA), (0xFF, 0xA9, 0x0E), (0xBD, 0x1F, 0x01), (0x94, 0xA4, 0xA2),
    (0x83, 0x2D, 0xB6), (0xA9, 0x6B, 0x59), (0xE7, 0x63, 0x00), (0xB9, 0xAC, 0x70),
    (0x71, 0x75, 0x81), (0x92, 0xDA, 0xDD),
)  # fmt: skip
INK = dict(light="#24292f", dark="#d6dbe1")
GRID = dict(light="#00000018", dark="#ffffff20")


def class_colours(count: int) -> list[tuple[int, int, int]]:
    """An RGB colour for each of so many classes, the same in pictures and curves."""
    if count <= len(PETROFF):
        return list(PETROFF[:count])
    golden = (math.sqrt(5) - 1) / 2  # steps of which keep neighbours apart
    hues = ((i * golden % 1, 0.85 - 0.3 * (i % 2), 0.85) for i in range(count))
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(*hue)) for hue in hues]


AVERAGE_PRECISIONS = (
    ("bbox_mAP_50", "--", "AP50"),
    ("bbox_mAP", "-", "AP"),
    ("segm_mAP", ":", "mask AP"),
)


def average_precision(axes, runs: list[Run]) -> bool:
    axes.set(title="Average precision on val", ylim=(0, 1))
    return _scores(axes, runs, AVERAGE_PRECISIONS)


def intersection_over_union(axes, runs: list[Run]) -> bool:
    axes.set(title="IoU and accuracy on val", ylim=(0, 1))
    return _scores(
        axes, runs, (("aAcc", ":", "aAcc"), ("mAcc", "--", "mAcc"), ("mIoU", "-", "mIoU"))
    )


def accuracy(axes, runs: list[Run]) -> bool:
    axes.set(title="Accuracy on val", ylim=(0, 1))
    return _scores(axes, runs, (("top5", "--", "top-5"), ("top1", "-", "top-1")))


def cross_boundary_risk(axes, runs: list[Run]) -> bool:
    axes.set(title="Mean cross-boundary risk on val")
    lines = [(run, key) for run in runs for key in run.val_keys("mcbr/")]
    for (run, key), colour in zip(lines, _colours()):
        label = f"{run.name}: MCBR at {_layer(key.removeprefix('mcbr/'))}"
        axes.plot(*run.val_curve(key), marker="o", ms=3.5, color=colour, label=label)
    return bool(lines)


def confusion(axes, runs, names: Sequence[str], counts: np.ndarray) -> bool:
    """A matrix of shares: rows are true classes, columns answers.

    Args:
        counts: of shape (names, names).
    """
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    axes.set_axisbelow(True)  # no grid over the numbers
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", zorder=1)
    ticks = range(len(names))
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names)
    axes.set(title="Per cent of each row: true class → answer", xlabel=" ")
    if len(names) <= 12:
        for (i, j), share in np.ndenumerate(shares):
            ink = "white" if share > 0.5 else "#24292f"
            axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=7)
    return bool(counts.any())


def mean_precision(axes, runs: list[Run], kind: str) -> bool:
    """Precision over recall, the mean of the classes that there are."""
    for run, colour in zip(runs, _colours()):
        found = run.classes["kinds"][kind]
        curves = ("precision_at", "-", f"IoU {found['iou']:g}"), ("precision", "--", "all IoUs")
        for key, style, label in curves:
            there = [each for each in found[key] if each is not None]
            if there:
                mean = np.mean(there, 0)
                recall = np.linspace(0, 1, len(mean))
                axes.plot(recall, mean, style, color=colour, label=f"{run.name}: {label}")
    axes.set(title="Precision over recall, all classes", xlabel="recall", ylim=(0, 1.02))
    return bool(axes.lines)


def class_precision(axes, runs, run: Run, kind: str) -> bool:
    """Precision over recall of each class; of many, those with the lowest AP have a colour."""
    found = run.classes["kinds"][kind]
    there = [
        (ap, name, curve)
        for ap, name, curve in zip(found["ap_at"], run.classes["classes"], found["precision_at"])
        if curve is not None
    ]
    chosen = there
    if len(there) > MOST_CURVES:
        chosen = sorted(there, key=lambda each: each[0])[:FEW]
        for _, name, curve in there:
            if name not in {n for _, n, _ in chosen}:
                recall = np.linspace(0, 1, len(curve))
                axes.plot(recall, curve, color="#888888", lw=0.6, alpha=0.5)
    names = run.classes["classes"]
    colours = dict(zip(names, np.divide(class_colours(len(names)), 255)))
    for ap, name, curve in chosen:
        recall, label = np.linspace(0, 1, len(curve)), f"{name}  {ap:.2f}"
        axes.plot(recall, curve, color=colours[name], lw=1.2, label=label)
    axes.set(title=f"{run.name}: each class", xlabel="recall", xlim=(0, 1.35), ylim=(0, 1.02))
    axes.set_xticks(np.linspace(0, 1, 6))
    return bool(there)


def _scores(axes, runs: list[Run], scores: tuple[tuple[str, str, str], ...]) -> bool:
    drawn = False
    for run, colour in zip(runs, _colours()):
        for key, style, label in scores:
            steps, values = run.val_curve(key)
            drawn |= bool(steps)
            if steps:
                axes.plot(
                    steps,
                    values,
                    style,
                    marker="o",
                    ms=3.5,
                    color=colour,
                    label=f"{run.name}: {label}",
                )
    return drawn


def loss(axes, runs: list[Run]) -> bool:
    top, parts = 0.0, {"loss_cls": "--", "loss_bbox": ":", "loss_mask": "-."}
    parts |= {"decode.loss_ce": "--", "aux.loss_ce": ":"}
    styles = {"loss": "-"} | (parts if len(runs) < MOST_PARTED else {})
    for run, colour in zip(runs, _colours()):
        for key, style in styles.items():
            steps, values = run.curve(key)
            if steps:
                width = 1.8 if key == "loss" else 1
                axes.plot(steps, values, style, lw=width, color=colour, label=f"{run.name}: {key}")
                top = max(top, max(values[len(values) // 20 :]))
    axes.set(title="Training loss", ylim=(0, 1.05 * top or 1))
    return top > 0


def joint_norm(axes, runs: list[Run]) -> bool:
    drawn, top = False, 0.0
    for run, colour in zip(runs, _colours()):
        steps, values = run.curve("joint_norm")
        if steps:
            axes.plot(steps, values, color=colour, label=run.name)
            drawn, top = True, max(top, max(values))
    axes.set(title="Joint norm ‖W‖", ylim=(0, 1.15 * top or 1))
    return drawn


def gain(axes, runs: list[Run]) -> bool:
    top, lines = 0.0, [(run, key) for run in runs for key in run.keys("gain/")]
    for (run, key), colour in zip(lines, _colours()):
        steps, values = run.curve(key)
        layer = key.removeprefix("gain/")
        label = f"{run.name}: g of {_layer(layer)}"
        axes.plot(steps, values, color=colour, label=label)
        cap_steps, caps = run.curve(f"cap/{layer}")
        axes.plot(cap_steps, caps, "--", lw=1.2, color=colour)
        top = max([top, *values, *caps])
    if any(run.keys("cap/") for run in runs):
        axes.plot([], [], "--", lw=1.2, color="#777777", label="caps α√outputs")
    # Room for the legend above the curves.
    axes.set(
        title="Classifiers' gains g and their caps", ylim=(0, (1.15 + 0.15 * len(lines)) * top or 1)
    )
    return top > 0


def _layer(name: str) -> str:
    """A classifier's name, short."""
    # A cascade's classifiers differ in the number of their stage, a segmenter's in their head.
    pieces = name.split(".")
    told = [p for p in pieces[:-1] if p.isdigit() or p.startswith("auxiliary")]
    return " ".join([pieces[-1], *told])


def effective_lr(axes, runs: list[Run]) -> bool:
    drawn, top = False, 0.0
    for run, colour in zip(runs, _colours()):
        steps, values = run.curve("effective_lr")
        if any(value > 0 for value in values):
            axes.plot(steps, [v if v > 0 else None for v in values], color=colour, label=run.name)
            drawn, top = True, max([top, *values])
    axes.set(title="Effective learning rate, lr / ‖W‖²")
    if drawn:  # four decades; a cosine ends at zero
        axes.set(yscale="log", ylim=(1e-4 * top, 2 * top))
        axes.yaxis.set_major_formatter("{x:.0e}")  # matplotlib's own is a formula
    return drawn


def learning_rate(axes, runs: list[Run]) -> bool:
    drawn = False
    for run, colour in zip(runs, _colours()):
        steps, values = run.curve("lr")
        if steps:
            axes.plot(steps, values, color=colour, label=run.name)
            drawn = True
    axes.set(title="Learning rate of the schedule", ylim=(0, None))
    return drawn


def captioned(runs: list[Run]) -> list[tuple[Callable, str]]:
    """The plots of a page's curves, each with what its reader must know, of runs such as these."""
    level = [_fixes_norms(run) for run in runs if run.curve("joint_norm")[0]]
    fixed = "Norm fixing puts it back after every optimizer step: a level line. "
    free = "Where nothing fixes it, it drifts."
    norm = (fixed if any(level) else "") + (free if not all(level) else "")
    turning = "How fast the direction of a scale-invariant weight can turn."
    if any(level):
        turning += " With the norm fixed it is the schedule and nothing else."
    gains = {f"{run.name} {key[5:]}" for run in runs for key in run.keys("gain/")}
    capped = {f"{run.name} {key[4:]}" for run in runs for key in run.keys("cap/")}
    gained = "FixNorm scales the classifier by min(g, cap). " if capped else ""
    if gains - capped:
        gained += "Where there is no cap, the norm of the classifier's effective weight is shown."
    risk = (
        "How far features of validation images lean over the boundaries to other classes, −1 to 1, "
        "lower is better (FixNorm, eq. 9)."
    )
    parts = " and its parts" if len(runs) < MOST_PARTED else ""
    return [
        (average_precision, "COCO AP, by pycocotools through MMDetection."),
        (
            intersection_over_union,
            "By MMSegmentation: means over the classes, and aAcc, the share of right pixels.",
        ),
        (
            accuracy,
            "By MMPretrain: the share of images whose class is the first, or among the first 5.",
        ),
        (loss, f"The sum of all losses{parts}; moving averages."),
        (joint_norm, norm.strip()),
        (gain, gained.strip()),
        (cross_boundary_risk, risk),
        (effective_lr, turning),
        (learning_rate, "What the schedule says."),
    ]


def _fixes_norms(run: Run) -> bool:
    return run.config_path is not None and "NormFixHook" in run.config_path.read_text()


@dataclass
class Point:
    """A point of a curve: where on the picture, in per cent from its upper left; its value."""

    left: float
    top: float
    says: str


@dataclass
class Picture:
    """A plot as PNG, and points of its curves to hover over."""

    png: bytes
    points: list[Point]


def picture(draw: Callable, runs, theme: str) -> Picture | None:
    """One plot on a transparent ground, or None if no run has logged what it shows.

    Args:
        draw: draws what it is given on matplotlib's axes; returns whether there was anything.
        runs: what it is given.
        theme: 'light' or 'dark', the page it will be seen on.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot: no state, no display

    with rc_context({"text.parse_math": False}):  # a `$` in a name is no formula
        figure = Figure(figsize=(5.6, 3.4), dpi=130, layout="constrained")
        axes = figure.add_subplot()
        if not draw(axes, runs):
            return None
        figure.patch.set_alpha(0)
        dress(axes, theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return Picture(buffer.getvalue(), list(_points(axes)))


def _points(axes) -> Iterator[Point]:
    """Points of the axes' named curves, after the figure was drawn."""
    figure = axes.figure
    for line in axes.get_lines():
        name, points = line.get_label(), line.get_xydata()
        if name.startswith("_"):  # matplotlib's mark for what the legend leaves out
            continue
        for x, y in points[:: -(-len(points) // MOST_POINTS) or 1]:
            left, top = figure.transFigure.inverted().transform(axes.transData.transform((x, y)))
            if math.isfinite(y) and 0 <= left <= 1 and 0 <= top <= 1:
                yield Point(100 * left, 100 - 100 * top, f"{name}, {x:g}: {y:.4g}")


def dress(axes, theme: str) -> None:
    """Axes without a frame, in the theme's ink."""
    ink = INK[theme]
    axes.patch.set_alpha(0)
    axes.set_xlabel(axes.get_xlabel() or "iteration", color=ink)
    axes.set_title(axes.get_title(), color=ink, fontsize=11)
    axes.tick_params(colors=ink, which="both", labelsize=9)
    axes.grid(color=GRID[theme], lw=0.8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, labelcolor=ink)


def _colours() -> list[str]:
    return list(COLOURS) * 8
