"""What the curve of a classifier's gain g says of α and of where g starts.

FixNorm bounds g by α√outputs (eq. 10) and says neither how g starts nor how fast it follows. Two
things keep it from doing its part, and both can be read off its curve.
"""

from __future__ import annotations

from collections.abc import Sequence

FEWEST = 10  # values of which a curve is made
AT_CAP = 0.999  # of the cap: it is there
FAR = 0.9  # of the cap: it is not
ROSE = 1.5  # times its first value
AT_END = 0.995  # of its largest value: it was still rising, or the rate had ended


def gain_remark(layer: str, gains: Sequence[float], cap: float) -> str | None:
    """A sentence with a remedy, or None for a gain that does its part.

    Args:
        layer: its name.
        gains: the logged values of g, in their order.
        cap: α√outputs.
    """
    if len(gains) < FEWEST:
        return None
    first, last, most = gains[0], gains[-1], max(gains)
    if min(gains) >= AT_CAP * cap:
        return (
            f"{layer}: g was at its cap, {cap:.3g}, from the first iteration to the last: it is α "
            "that set it, and g has not been trained; a larger α lets it find its place."
        )
    if last >= AT_END * most and last > ROSE * first and last < FAR * cap:
        return (
            f"{layer}: g rose to the end, from {first:.3g} to {last:.3g}, and is far from its cap, "
            f"{cap:.3g}: it had no time. Where the classifier starts anew, let it start higher "
            "(gain_start='cap' or a number); or let it follow faster (paramwise_cfg=dict("
            f"custom_keys={{'{layer}.g': dict(lr_mult=10)}}))."
        )
    return None
