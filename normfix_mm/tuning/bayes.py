"""The rival of FixNorm's paper: Bayesian optimization of learning rate and decay λ ("BO + WD").

Ordinary weight decay, every trial of full length, Optuna's Gaussian-process sampler. The paper
searches lr in [0.2, 3.2] and λ in [1e-5, 5e-4] and needs 25 and 35 trainings; it names neither the
scale nor the number of random trials at the start. Ours: both on a logarithmic scale, the first
five at random, the best at hand taken up as trials end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from normfix_mm.errors import BadInput
from normfix_mm.tuning.algorithm4 import check_range
from normfix_mm.tuning.search import Scores, Search, Trial

LAM_RANGE = (1e-5, 5e-4)
TRIALS = 25
RANDOM = 5


@dataclass(frozen=True)
class BayesianDecay(Search):
    """The search: `trials` trainings, whose values a sampler chooses as they start.

    Raises:
        BadInput: a range that is empty or negative, or no trials.
    """

    lr_range: Sequence[float]
    lam_range: Sequence[float] = LAM_RANGE
    trials: int = TRIALS
    sampled = True

    def __post_init__(self) -> None:
        check_range("learning rates", self.lr_range)
        check_range("decays λ", self.lam_range)
        if self.trials < 1:
            raise BadInput(f"{self.trials} trials; Bayesian optimization needs at least one.")

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"lr": tuple(self.lr_range), "lam": tuple(self.lam_range)}

    def plan(self, scores: Scores) -> list[Trial]:
        width = len(str(self.trials))
        return [Trial(f"bo{i:0{width}}", phase="bo-wd") for i in range(1, self.trials + 1)]

    def cost(self) -> float:
        return float(self.trials)

    def outlook(self) -> list[tuple[str, str, float]]:
        (a, b), (c, d) = self.lr_range, self.lam_range
        text = f"lr in {a:g} to {b:g}, λ in {c:g} to {d:g}, "
        random = min(RANDOM, self.trials)
        return [
            ("bo-wd", text + ("at random" if i < random else "by Gaussian process"), 1.0)
            for i in range(self.trials)
        ]

    def sampler(self, seed: int):
        """Optuna's Gaussian-process sampler, for the trial of this seed.

        Raises:
            BadInput: scipy is not installed.
        """
        import optuna

        try:
            import scipy  # noqa: F401
        except ImportError:
            raise BadInput(
                "Bayesian optimization needs scipy: pip install 'normfix-mm[tuning]'."
            ) from None
        return optuna.samplers.GPSampler(
            seed=seed, n_startup_trials=RANDOM, deterministic_objective=False
        )
