"""One small PNG for a README: boxes on validation images, joint norm, gain against its cap."""

from __future__ import annotations

import io

from . import images, plots
from .run import Run


def compose(runs: list[Run]) -> bytes:
    """PNG bytes; the boxes are the first run's predictions.

    Raises:
        FileNotFoundError: if the run's checkpoint or data is missing.
    """
    from matplotlib.figure import Figure

    shown = [row[1] for row in images.draw(runs[:1], count=2)]
    figure = Figure(figsize=(13, 3.3), dpi=100, layout="constrained")
    axes = figure.subplots(1, 2 + len(shown), width_ratios=[1] * len(shown) + [1.45, 1.45])
    for axis, image in zip(axes, shown):
        axis.imshow(image)
        axis.set_axis_off()
    for axis, draw in zip(axes[len(shown) :], (plots.joint_norm, plots.gain)):
        draw(axis, runs)
        plots.dress(axis, "light")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", facecolor="white", pil_kwargs=dict(optimize=True))
    return buffer.getvalue()
