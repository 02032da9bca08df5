"""What the curves of a run's norms say in words; each a sentence with a remedy, or None."""

from __future__ import annotations

from collections.abc import Sequence

FEWEST = 3  # readings before anything is said
COLLAPSED = 0.01  # of its first size
LEANS = 0.1  # cos(∇L, W) of a weight whose length matters; AdamP's bound (arXiv 2006.08217)
DRIFTED = 10.0  # times the rate's own change
NO_TIME = 0.05  # ηλT/(1 − m), below which decay does nothing


def size_remark(layer: str, sizes: Sequence[float], eps: float | None) -> str | None:
    """Filters that shrink towards zero.

    Args:
        sizes: of the layer's smallest filter, over the run.
        eps: of the ε-shift on this layer, None without one.
    """
    if len(sizes) < FEWEST or not 0 <= sizes[-1] < COLLAPSED * sizes[0] or sizes[-1] > min(sizes):
        return None
    if eps is not None and sizes[-1] > eps:
        return None  # on its way to ε, where it stops
    remedy = "lower the decay" if eps else "regularize it by the ε-shift, or lower the decay"
    return (
        f"{layer}: its smallest filter has shrunk from {sizes[0]:.2g} to {sizes[-1]:.2g}, and the "
        f"rate that it feels grows as it shrinks; {remedy}."
    )


def leaning_remark(layer: str, cosines: Sequence[float]) -> str | None:
    """A weight of fixed norm whose gradient points along it.

    Args:
        cosines: cos(∇L, W) over the run.
    """
    if len(cosines) < FEWEST or min(map(abs, cosines[-FEWEST:])) < LEANS:
        return None
    return (
        f"{layer}: its norm is fixed, but the gradient wants to change it (cosine "
        f"{cosines[-1]:.2g} with the weight): no norm follows it; normalize it, or leave it out "
        "with exclude=."
    )


def drift_remark(rates: Sequence[float], felt: Sequence[float]) -> str | None:
    """The rate that directions feel, gone astray from the schedule's.

    Args:
        rates: η over the run.
        felt: η/‖W‖² at the same iterations.
    """
    pairs = [(rate, f / rate) for rate, f in zip(rates, felt, strict=True) if rate > 0]
    if len(pairs) < FEWEST:
        return None
    change = pairs[-1][1] / pairs[0][1]
    if 1 / DRIFTED < change < DRIFTED:
        return None
    how, why = ("rose", "shrank") if change > 1 else ("fell", "grew")
    return (
        f"The learning rate that the weights feel, lr/‖W‖², {how} {max(change, 1 / change):.0f} "
        f"times against the schedule's, because ‖W‖ {why}; norm fixing (NormFixHook) holds it."
    )


def time_remark(acts: float) -> str | None:
    """Decay that cannot act.

    Args:
        acts: ηλT/(1 − m), of `steps.time_to_act`.
    """
    if acts >= NO_TIME:
        return None
    return (
        f"Decay has no time to act in this training: ηλT/(1 − m) is {acts:.2g}, and it shrinks "
        f"weights by {100 * acts:.1g} %; methods that replace it will not differ from it either."
    )
