"""FixNorm's Algorithm 4: the learning rate and α in eleven trainings' worth of search.

Phase 1 tries K rates in each of N rounds, with the first α. The best rate of a round is the upper
end of the next one's range: the best rate of a short training is at least that of a longer one.
Phase 2 trains the remaining α with lr_best, at the last round's length.

Rates of different rounds compete (lines 6 to 8), as a rate that is no longer tried keeps its score.
Two departures: one that came to nothing when it was trained longer is out, whatever it had before;
and a round in which nothing was found has no best rate, so the search ends there.

The paper's UniformSplit is not written out. These are the splits that give the rates it reports:

    first round    K rates without lr_min:   lr_min + (k + 1) (lr_max - lr_min) / K
    later rounds   K rates with both ends:   lr_min + k (lr_max - lr_min) / (K - 1)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from normfix_mm.errors import BadInput
from normfix_mm.tuning.search import Scores, Search, Trial, best_of, name_of, rounded

BUDGETS = (0.2, 1.0)
SPLITS = 5
ALPHAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


def uniform_split(lr_min: float, lr_max: float, count: int, first: bool) -> list[float]:
    """The rates of a round, ascending, to six digits."""
    step = (lr_max - lr_min) / (count if first else count - 1)
    return [rounded(lr_min + (k + first) * step) for k in range(count)]


@dataclass(frozen=True)
class Round:
    """One round of phase 1: its range of rates, its trials, and the best when all are known."""

    number: int
    lr_range: tuple[float, float]
    trials: list[Trial]
    best: Trial | None


@dataclass(frozen=True)
class Algorithm4(Search):
    """The search.

    Args:
        lr_range: lr_min and lr_max of the first round.
        budgets: T of each round as a share of Tmax, not falling.
        splits: K, the rates of a round.
        alphas: the candidates of α; the first serves in phase 1.

    Raises:
        BadInput: a range that is empty or negative, budgets that fall or are not in (0, 1], fewer
            than two splits, or no α.
    """

    lr_range: tuple[float, float]
    budgets: Sequence[float] = BUDGETS
    splits: int = SPLITS
    alphas: Sequence[float] = ALPHAS
    sampled = False
    length_option = "--budgets"

    def __post_init__(self) -> None:
        check_range("learning rates", self.lr_range)
        check_budgets(self.budgets)
        if self.splits < 2:
            raise BadInput(f"{self.splits} rates a round; a round compares at least two.")
        alphas = list(self.alphas)
        bad = [a for a in alphas if not (a > 0 and math.isfinite(a))]
        if bad or not alphas or len(set(alphas)) < len(alphas):
            raise BadInput(f"The candidates of α, {alphas}, must be different positive numbers.")

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        return {"lr": tuple(self.lr_range), "alpha": (min(self.alphas), max(self.alphas))}

    def plan(self, scores: Scores) -> list[Trial]:
        rounds = self.rounds(scores)
        trials = {trial.name: trial for each in rounds for trial in each.trials}
        return [*trials.values(), *self._phase2(rounds, scores)]

    def best(self, scores: Scores) -> Trial | None:
        """The best rate, or it with a better α; None before the last round is over."""
        rounds = self.rounds(scores)
        found = self._best_rate(rounds, scores)
        return best_of([found, *self._phase2(rounds, scores)], scores) if found else None

    def _best_rate(self, rounds: list[Round], scores: Scores) -> Trial | None:
        """The trial of the best rate of all rounds, the first of equal ones."""
        if len(rounds) < len(self.budgets) or rounds[-1].best is None:
            return None
        tried = [trial for each in rounds for trial in each.trials]
        longest = {trial.values["lr"]: trial for trial in tried}
        out = {lr for lr, trial in longest.items() if scores[trial.name] == -math.inf}
        return best_of([trial for trial in tried if trial.values["lr"] not in out], scores)

    def _phase2(self, rounds: list[Round], scores: Scores) -> list[Trial]:
        """The other α with the best rate; none as long as that is not known."""
        found = self._best_rate(rounds, scores)
        if found is None:
            return []
        lr, share = found.values["lr"], self.budgets[-1]
        return [self._trial("alpha", lr, alpha, share) for alpha in self.alphas[1:]]

    def rounds(self, scores: Scores) -> list[Round]:
        """The rounds of phase 1 whose rates are known.

        The search ends with a round of which no rate has come to a score: none can be the next
        upper end.
        """
        lr_min, lr_max = self.lr_range
        rounds: list[Round] = []
        for number, share in enumerate(self.budgets, 1):
            rates = uniform_split(lr_min, lr_max, self.splits, first=number == 1)
            rates = list(dict.fromkeys(rates))  # one where the best of a round was lr_min
            trials = [self._trial(f"round {number}", lr, self.alphas[0], share) for lr in rates]
            known = all(trial.name in scores for trial in trials)
            best = best_of(trials, scores) if known else None
            rounds.append(Round(number, (lr_min, lr_max), trials, best))
            if best is None:
                break
            lr_max = best.values["lr"]
        return rounds

    def remarks(self, scores: Scores) -> list[str]:
        """What to know: a best value at the edge of what was tried, an α idle or not decided."""
        best = self.best(scores)
        if best is None:
            return []
        lr, alpha, said = best.values["lr"], best.values["alpha"], []
        lr_min, lr_max = self.lr_range
        if lr in (lr_min, lr_max):
            side, other = ("lowest", "lower") if lr == lr_min else ("highest", "higher")
            said.append(
                f"The best rate, {lr:g}, is the {side} of the range {lr_min:g} to {lr_max:g}: a "
                f"{other} one may be better; widen --lr-range."
            )
        elif (last := self.rounds(scores)[-1]).lr_range[1] == lr and len(self.budgets) > 1:
            said.append(
                f"The best rate, {lr:g}, is the upper edge of round {last.number}'s range "
                f"{last.lr_range[0]:g} to {lr:g}, which the shorter trainings set: a longer first "
                "round would tell more."
            )
        if best.share < self.budgets[-1]:
            whole = self._trial("", lr, alpha, self.budgets[-1])
            then = f"; trained for {whole.share:g} it had less" if whole.name in scores else ""
            said.append(
                f"The best score is of {best.share:g} of the config's length{then}: the rates of "
                "short trainings may be too high for longer ones."
            )
        if undecided := self._undecided(scores):
            return [*said, undecided]
        same = self._without_effect(lr, scores)
        if same:
            said.append(
                f"Every α from {same[0]:g} on has the same score: g hardly reached its cap, if at "
                "all, so that α could not act. gain_start='cap' starts g there."
            )
        if len(self.alphas) > 1 and alpha in {min(self.alphas), max(self.alphas)} - {*same}:
            end = "smallest" if alpha == min(self.alphas) else "largest"
            said.append(f"The best α, {alpha:g}, is the {end} of the candidates.")
        return said

    def _undecided(self, scores: Scores) -> str | None:
        """That phase 2 is over and has told nothing, if so."""
        others = self._phase2(self.rounds(scores), scores)
        if not others or any(scores.get(trial.name) != -math.inf for trial in others):
            return None
        return (
            f"α was not decided: with lr {others[0].values['lr']:g} every other α than "
            f"{self.alphas[0]:g}, with which the rates were tried, diverged, failed or found "
            f"nothing; lower --lr-range or {self.longer(self.budgets[-1])}."
        )

    def _without_effect(self, lr: float, scores: Scores) -> list[float]:
        """The largest values of α, three or more, that all have the same score; or none."""
        alphas, share = sorted(self.alphas), self.budgets[-1]
        found = [scores.get(self._trial("alpha", lr, alpha, share).name) for alpha in alphas]
        if found[-1] is None or not math.isfinite(found[-1]):
            return []
        same = [alpha for i, alpha in enumerate(alphas) if set(found[i:]) == {found[-1]}]
        return same if len(same) > 2 else []

    def failure(self, scores: Scores) -> str | None:
        """Why the search could not go on to its end, if it could not."""
        last = self.rounds(scores)[-1]
        if last.best or any(trial.name not in scores for trial in last.trials):
            return None
        rates, share = [trial.values["lr"] for trial in last.trials], self.budgets[last.number - 1]
        span = f"the rates {rates[0]:g} to {rates[-1]:g}" if len(rates) > 1 else f"{rates[0]:g}"
        what = "neither the rate nor α was" if len(self.alphas) > 1 else "the rate was not"
        return (
            f"No training of round {last.number} came to anything: at {share:g} of the config's "
            f"length each of {span} diverged, failed or found nothing, so that {what} decided; "
            f"lower --lr-range or {self.longer(share)}."
        )

    def cost(self) -> float:
        return self.splits * sum(self.budgets) + (len(self.alphas) - 1) * self.budgets[-1]

    def outlook(self) -> list[tuple[str, str, float]]:
        first = self.alphas[0]
        lr_min, lr_max = self.lr_range
        rows = [
            ("round 1", f"lr {lr:g}, α {first:g}", self.budgets[0])
            for lr in uniform_split(lr_min, lr_max, self.splits, first=True)
        ]
        for number, share in enumerate(self.budgets[1:], 2):
            top = f"round {number - 1}'s best"
            for k in range(self.splits):
                part = f"{lr_min:g} + {k}/{self.splits - 1} of the way to {top}"
                part = f"{lr_min:g}" if k == 0 else top if k == self.splits - 1 else part
                rows.append((f"round {number}", f"lr {part}, α {first:g}", share))
        rows += [("alpha", f"the best lr, α {a:g}", self.budgets[-1]) for a in self.alphas[1:]]
        return rows

    @staticmethod
    def _trial(phase: str, lr: float, alpha: float, share: float) -> Trial:
        values = {"lr": lr, "alpha": float(alpha)}
        return Trial(name_of(values, share), values, share, phase)


def check_range(what: str, ends: Sequence[float]) -> None:
    """Refuse a range that is empty, not finite or not positive."""
    if len(ends) != 2 or not all(math.isfinite(end) for end in ends):
        raise BadInput(f"The range of {what}, {list(ends)}, must be two numbers.")
    low, high = ends
    if low <= 0:
        raise BadInput(f"The range of {what}, {low:g} to {high:g}, must begin above zero.")
    if low >= high:
        raise BadInput(f"The range of {what}, {low:g} to {high:g}, is empty; give low, then high.")


def check_budgets(budgets: Sequence[float]) -> None:
    """Refuse budgets that are not shares of Tmax, or that fall."""
    if not budgets or not all(math.isfinite(share) and share > 0 for share in budgets):
        raise BadInput(
            f"The budgets {list(budgets)} must be positive: shares of the config's length."
        )
    longest = max(budgets)
    if longest > 1:
        raise BadInput(
            f"A budget of {longest:g} is longer than the config: budgets are shares of its length, "
            "1 the whole; lengthen the config instead."
        )
    if any(before > after for before, after in pairwise(budgets)):
        raise BadInput(f"The budgets {list(budgets)} fall; a later round trains as long or longer.")
