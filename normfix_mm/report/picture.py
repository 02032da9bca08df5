"""One small PNG for a README: some validation images, and the curves that show the point."""

from __future__ import annotations

import io

import numpy as np

from normfix_mm.report import images, plots
from normfix_mm.report.run import Run


def compose(runs: list[Run]) -> bytes:
    """PNG bytes; the predictions are the first run's.

    Of a detector, its boxes on two images; of a segmenter, one image, its truth and the prediction.
    Beside them the joint norm and the gain under its cap; of several runs, how they score, too.

    Raises:
        FileNotFoundError: if the run's checkpoint or data is missing.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    drawn = images.draw(runs[:1], count=2)
    shown = drawn.rows[0] if drawn.legend else [row[1] for row in drawn.rows]
    scores = plots.average_precision, plots.intersection_over_union, plots.accuracy
    curves = [*([scores] if len(runs) > 1 else []), (plots.joint_norm,), (plots.gain,)]
    figure = Figure(figsize=(4.5 + 4.25 * len(curves), 3.3), dpi=100, layout="constrained")
    ratios = [1] * len(shown) + [1.45] * len(curves)
    axes = figure.subplots(1, len(ratios), width_ratios=ratios)
    for axis, image in zip(axes, shown):
        axis.imshow(image)
        axis.set_axis_off()
    for axis, draws in zip(axes[len(shown) :], curves):
        for draw in draws:
            if draw(axis, runs):
                break
            axis.clear()
        plots.dress(axis, "light")
    if drawn.legend:
        for axis, title in zip(axes, ("image", "ground truth", "prediction")):
            axis.set_title(title, fontsize=11)
        seen = [
            (name, c) for name, c in drawn.legend if any((i == c).all(-1).any() for i in shown[1:])
        ]
        patches = [Patch(color=np.divide(colour, 255), label=name) for name, colour in seen]
        if drawn.ignored:
            patches.append(
                Patch(facecolor="#606060", edgecolor="white", hatch="////", label="ignored")
            )
        figure.legend(
            handles=patches, loc="outside lower left", ncols=12, frameon=False, fontsize=8
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", pil_kwargs=dict(optimize=True))
    return buffer.getvalue()
