"""Claims of the FixNorm paper, and where it and decay stand to each other."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.evidence.claim import ERROR, Claim, accuracies, last, mean, seeded
from benchmarks.evidence.training import Settings

STEPS = 156  # of an epoch


def _classifiers() -> Claim:
    fixed = Settings(lr=0.6, fixed="conv+classifier")
    runs = {
        "decay": seeded(Settings(lr=1.0, lam=1e-4)),
        "norm fixed, classifier decays": seeded(Settings(lr=1.0, lam=1e-4, fixed="conv")),
        "WN-FC": seeded(replace(fixed, classifier="WN")),
        "FixNorm-FC": seeded(replace(fixed, classifier="FixNorm")),
    }

    def shown(found):
        gain, risk = (last(found, name) for name in ("gain", "cross_boundary_risk"))
        return f"{accuracies(found)} %, g {gain:.1f}, MCBR {risk:.3f}"

    def says(found):
        free, bound = (found[name] for name in ("WN-FC", "FixNorm-FC"))
        gains = [last(each, "gain") for each in (free, bound)]
        gap = mean(bound) - mean(free)
        grown = gains[0] > gains[1]
        word = "Holds" if grown and gap > ERROR else "Not seen" if gap > -ERROR else "Does not hold"
        return (
            f"{word}: without a bound g ends at {gains[0]:.1f}, with it at {gains[1]:.1f}; "
            f"the bound gains {gap:+.1f} points."
        )

    title = "FixNorm, Figs. 1 and 2: a free gain grows, and with it the cross-boundary risk"
    return Claim("figs-1-2", title, runs, {}, says, shown)


def _rates_and_bounds() -> Claim:
    fixed = Settings(fixed="conv+classifier", classifier="FixNorm")
    rates, alphas = (0.1, 0.3, 0.6, 1.0), (0.5, 1.0, 2.0, 4.0, 8.0)
    runs = {
        f"lr {lr:g}, α {alpha:g}": [replace(fixed, lr=lr, alpha=alpha)]
        for alpha in alphas
        for lr in rates
    }

    def says(found):
        best = [
            max(rates, key=lambda lr: mean(found[f"lr {lr:g}, α {alpha:g}"])) for alpha in alphas
        ]
        apart = max(rates.index(each) for each in best) - min(rates.index(each) for each in best)
        word = "Holds" if apart <= 1 else "Does not hold"
        told = ", ".join(f"α {a:g}: {lr:g}" for a, lr in zip(alphas, best))
        return f"{word}: the best rate by α is {told}."

    title = "FixNorm, Fig. 4: the best rate does not depend on α"
    return Claim("fig-4", title, runs, {}, says, accuracies)


def _lengths() -> Claim:
    """Each method by its own best rate and decay, at two lengths, beside one common rate."""
    fixed = Settings(fixed="conv+classifier", classifier="FixNorm")
    runs = {
        "10 epochs, lr .1: decay": seeded(Settings(lr=0.1, lam=1e-4)),
        "10 epochs, lr .1: FixNorm": seeded(replace(fixed, lr=0.1)),
        "10 epochs, tuned: decay": seeded(Settings(lr=1.0, lam=1e-4)),
        "10 epochs, tuned: FixNorm": seeded(replace(fixed, lr=0.6)),
        "40 epochs, tuned: decay": seeded(Settings(lr=0.3, lam=5e-4, epochs=40)),
        "40 epochs, tuned: FixNorm": seeded(replace(fixed, lr=0.4, epochs=40)),
    }

    def shown(found):
        settings, run = found[0]["settings"], found[0]
        # The balance of gradient and decay is reached in some 1/(4ηλ) steps (η its mean, m = .9).
        steps = settings["epochs"] * STEPS
        times = steps * 4 * (settings["lr"] / 2 / 0.1) * settings["lam"]
        told = f", {times:.2g} balance times" if settings["lam"] else ""
        return accuracies(found) + told if run["alive"] else accuracies(found)

    def says(found):
        told = []
        for when in ("10 epochs, lr .1", "10 epochs, tuned", "40 epochs, tuned"):
            gap = mean(found[f"{when}: FixNorm"]) - mean(found[f"{when}: decay"])
            gap = round(gap, 1) + 0.0  # no -0.0
            told.append(f"{gap:+.1f} points at {when.replace(',', ' and')}")
        return f"FixNorm against decay: {'; '.join(told)}."

    title = "Does the length of the training, or the rate, decide which method is ahead?"
    return Claim("lengths", title, runs, {}, says, shown)


def _gain_start() -> Claim:
    """At one rate and α: where g starts in a classifier that is not loaded."""
    base = Settings(lr=0.6, fixed="conv+classifier", classifier="FixNorm")
    runs = {
        "g from ‖W‖": seeded(replace(base, gain_start="weight")),
        "g from its cap": seeded(base),
    }

    def shown(found):
        return f"{accuracies(found)} %, g {last(found, 'gain'):.1f}"

    def says(found):
        gap = mean(found["g from its cap"]) - mean(found["g from ‖W‖"])
        word = "Holds" if gap > ERROR else "Does not hold" if gap < -ERROR else "Not seen"
        return f"{word}: the start at the cap gains {gap:+.1f} points."

    title = "In a short training FixNorm's g had better start at its cap"
    return Claim("gain-start", title, runs, {}, says, shown)


CLAIMS = (_classifiers(), _rates_and_bounds(), _lengths(), _gain_start())
