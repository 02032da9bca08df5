"""Algorithm 4 as a function: the papers' rates, its order, its cost, what it says of edges."""

import math
import random

import pytest

from normfix_mm.errors import BadInput
from normfix_mm.tuning.algorithm4 import Algorithm4, uniform_split


def landscape(lr: float, alpha: float, power: float):
    """A score with the paper's priors: convex in log lr, α by itself, shorter wants more."""

    def score(trial) -> float:
        best = lr * trial.share**-power
        lost = (
            math.log(trial.values["lr"] / best) ** 2 + math.log2(trial.values["alpha"] / alpha) ** 2
        )
        return -lost - (1 - trial.share)

    return score


def searched(search: Algorithm4, score) -> dict[str, float]:
    """The scores at the end, each round's trials scored in reverse: order must not matter."""
    scores: dict[str, float] = {}
    while new := [t for t in search.plan(scores) if t.name not in scores]:
        for trial in reversed(new):
            scores[trial.name] = score(trial)
    return scores


def test_an_alpha_that_does_not_act_is_said():
    """As on the blood cells, where the gain of a focal-loss head stays where it starts."""
    search = Algorithm4((0.2, 3.2), alphas=(0.5, 1, 2, 4))
    idle = searched(
        search, lambda trial: -abs(trial.values["lr"] - 1.4) - (trial.values["alpha"] < 1)
    )
    assert "Every α from 1 on has the same score" in search.remarks(idle)[-1]
    assert not any("candidates" in said for said in search.remarks(idle))
    two = searched(
        search, lambda trial: -abs(trial.values["lr"] - 1.4) - (trial.values["alpha"] < 2)
    )
    assert not any("same score" in said for said in search.remarks(two))  # may be chance


@pytest.mark.parametrize(
    ("ends", "first", "rates"),
    [
        ((0.2, 3.2), True, [0.8, 1.4, 2.0, 2.6, 3.2]),
        ((0.2, 2.6), False, [0.2, 0.8, 1.4, 2.0, 2.6]),
        ((0.2, 0.8), False, [0.2, 0.35, 0.5, 0.65, 0.8]),
        ((0.2, 1.4), False, [0.2, 0.5, 0.8, 1.1, 1.4]),
        ((0.005, 0.1), True, [0.024, 0.043, 0.062, 0.081, 0.1]),
        ((0.005, 0.043), False, [0.005, 0.0145, 0.024, 0.0335, 0.043]),
    ],
)
def test_splits_are_those_of_the_papers_tables(ends, first, rates):
    assert uniform_split(*ends, 5, first) == rates  # to the digit: a config shows them


@pytest.mark.parametrize(
    ("lr_range", "peak", "found"),
    [
        ((0.2, 3.2), (1.4, 0.5, 0.385), (1.4, 0.5)),  # ResNet50-D, 120 epochs: 2.6, then 1.4
        ((0.2, 3.2), (0.5, 16, 0.29), (0.5, 16)),  # MobileNetV2, 150 epochs: .8, then .5
        ((0.005, 0.1), (0.0145, 0.5, 0.675), (0.0145, 0.5)),  # RetinaNet on COCO
        ((0.005, 0.1), (0.0335, 1, 0.155), (0.0335, 1)),  # OCNet on Cityscapes
    ],
)
def test_the_papers_values_are_found_in_eleven_trainings(lr_range, peak, found):
    search = Algorithm4(lr_range)
    scores = searched(search, landscape(*peak))
    best = search.best(scores)
    assert (best.values["lr"], best.values["alpha"]) == found
    plan = search.plan(scores)
    assert len(plan) == 15 and sum(t.share for t in plan) == pytest.approx(11) == search.cost()
    assert len(search.outlook()) == 15
    assert sum(share for *_, share in search.outlook()) == pytest.approx(11)


def test_a_round_waits_for_all_of_the_one_before():
    search = Algorithm4((0.005, 0.1))
    first = search.plan({})
    assert [t.share for t in first] == [0.2] * 5 and {t.values["alpha"] for t in first} == {0.5}
    scores = {t.name: 1.0 for t in first[:4]}
    assert search.plan(scores) == first
    scores[first[4].name] = 2.0
    assert len(search.plan(scores)) == 10
    second = search.plan(scores)[5:]
    scores |= {t.name: -1.0 for t in second[1:]}
    assert len(search.plan(scores)) == 10
    scores[second[0].name] = -1.0
    assert len(search.plan(scores)) == 15


def test_rates_of_different_rounds_compete():
    search = Algorithm4((0.2, 3.2))
    first = search.plan({})
    scores = {t.name: 0.9 if t.values["lr"] == 2.0 else 0.1 for t in first}
    assert search.best(scores) is None and search.leading(scores).values["lr"] == 2.0
    scores |= {t.name: 0.5 for t in search.plan(scores)[5:]}
    last = search.plan(scores)[10:]
    assert {t.values["lr"] for t in last} == {2.0}  # the short training's, which no other reached
    assert [t.values["alpha"] for t in last] == [1, 2, 4, 8, 16]
    assert search.best(scores).share == 0.2
    (said,) = (line for line in search.remarks(scores) if "The best score is of 0.2" in line)
    assert "; trained for 1 it had less: " in said


def test_a_rate_that_finds_nothing_when_trained_longer_does_not_win():
    """A user's search: .154 of a twentieth stood above .143 of a tenth."""
    search = Algorithm4((0.005, 0.1), budgets=(0.05, 0.1), splits=2, alphas=(0.5, 2))
    scores = {"lr0.0525_alpha0.5_t0.05": 0.154, "lr0.1_alpha0.5_t0.05": 0.009}
    scores |= {"lr0.005_alpha0.5_t0.1": 0.143, "lr0.0525_alpha0.5_t0.1": -math.inf}
    assert search.plan(scores)[-1].name == "lr0.005_alpha2_t0.1"
    scores["lr0.005_alpha2_t0.1"] = 0.12
    assert search.best(scores).name == "lr0.005_alpha0.5_t0.1"
    assert search.failure(scores) is None and "lowest of the range" in search.remarks(scores)[0]
    scores["lr0.005_alpha2_t0.1"] = -math.inf
    assert search.best(scores).name == "lr0.005_alpha0.5_t0.1"
    assert search.remarks(scores)[1:] == [
        "α was not decided: with lr 0.005 every other α than 0.5, with which the rates were tried, "
        "diverged, failed or found nothing; lower --lr-range or raise --budgets."
    ]


def naive(lr_range, budgets, splits, alphas, score):
    """The paper's lines 1 to 16; but a rate is out that came to nothing when trained longer."""
    low, high = lr_range
    history = []
    for number, share in enumerate(budgets):
        if number == 0:
            rates = [low + (k + 1) * (high - low) / splits for k in range(splits)]
        else:
            rates = [low + k * (high - low) / (splits - 1) for k in range(splits)]
        rates = [float(f"{rate:.6g}") for rate in rates]
        found = [score(rate, alphas[0], share) for rate in rates]
        if max(found) == -math.inf:
            return None
        high = rates[found.index(max(found))]
        history += zip(rates, found)
    last = dict(history)
    best, lr_best = 0, None
    for rate, accuracy in history:
        if last[rate] > -math.inf and accuracy > best:
            best, lr_best = accuracy, rate
    alpha_best = alphas[0]
    for alpha in alphas[1:]:
        if score(lr_best, alpha, budgets[-1]) > best:
            best, alpha_best = score(lr_best, alpha, budgets[-1]), alpha
    return lr_best, alpha_best


@pytest.mark.parametrize("seed", range(40))
def test_any_scores_lead_where_the_paper_s_lines_lead(seed):
    """Random scores, a third of which are of trainings that came to nothing."""
    budgets = ((0.2, 1), (1,), (1, 1), (0.1, 0.1, 0.5))[seed % 4]
    splits, alphas = 2 + seed % 3, (0.5, 1, 2, 4)

    def score(lr, alpha, share):
        value = random.Random(f"{seed} {lr:g} {alpha:g} {share:g}").random()
        return -math.inf if value < 1 / 3 else value

    search = Algorithm4((0.2, 3.2), budgets, splits, alphas)
    scores = searched(search, lambda t: score(t.values["lr"], t.values["alpha"], t.share))
    best = search.best(scores)
    expected = naive((0.2, 3.2), budgets, splits, alphas, score)
    assert (best and (best.values["lr"], best.values["alpha"])) == expected
    assert (search.failure(scores) is None) == (expected is not None)


def test_a_diverged_run_is_never_the_best_and_a_round_of_nothing_else_ends_the_search():
    search = Algorithm4((0.2, 3.2))
    first = search.plan({})
    scores = {t.name: -math.inf for t in first}
    assert search.plan(scores) == first and search.best(scores) is None
    assert search.failure(scores) == (
        "No training of round 1 came to anything: at 0.2 of the config's length each of the rates "
        "0.8 to 3.2 diverged, failed or found nothing, so that neither the rate nor α was decided; "
        "lower --lr-range or raise --budgets."
    )
    scores[first[0].name] = 0.1
    assert search.failure(scores) is None
    assert max(t.values["lr"] for t in search.plan(scores)[5:]) == 0.8


def test_a_last_round_of_nothing_leaves_no_result():
    search = Algorithm4((0.2, 3.2), alphas=(1,))
    scores = searched(search, lambda trial: 0.9 if trial.share < 1 else -math.inf)
    assert len(scores) == 10 and search.best(scores) is None and search.remarks(scores) == []
    assert "round 2" in search.failure(scores) and "the rate was not decided" in search.failure(
        scores
    )
    assert "lower --lr-range or lengthen the config" in search.failure(scores)


def test_one_training_serves_two_rounds_of_one_length():
    search = Algorithm4((0.2, 3.2), budgets=(1, 1))
    plan = search.plan(searched(search, landscape(1.4, 4, 0)))
    assert len({t.name for t in plan}) == len(plan) == 13  # .8 and 1.4 are in both rounds


def test_the_lowest_rate_as_upper_end_leaves_one_rate():
    search = Algorithm4((0.2, 3.2), budgets=(0.1, 0.2, 1), splits=2, alphas=(1,))
    scores = searched(search, lambda trial: -trial.values["lr"])
    assert [r.lr_range for r in search.rounds(scores)] == [(0.2, 3.2), (0.2, 1.7), (0.2, 0.2)]
    assert search.best(scores).values["lr"] == 0.2


def test_edges_are_said():
    search = Algorithm4((0.2, 3.2), alphas=(1, 2, 4))
    high = searched(search, landscape(99, 2, 0))
    assert "3.2, is the highest" in search.remarks(high)[0] and len(search.remarks(high)) == 1
    low = searched(search, landscape(0.01, 4, 0))
    assert "0.2, is the lowest" in search.remarks(low)[0] and "largest" in search.remarks(low)[1]
    inner = searched(search, landscape(1.4, 2, 0.385))
    assert search.remarks(inner) == []
    kept = searched(search, landscape(2.0, 2, 0))  # round 1's best again: an edge, but an inner one
    assert "upper edge of round 2" in search.remarks(kept)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(lr_range=(0.1, 0.1)), "is empty"),
        (dict(lr_range=(0.2, 0.1)), "low, then high"),
        (dict(lr_range=(-0.1, 0.1)), "above zero"),
        (dict(lr_range=(0.0, 0.1)), "above zero"),
        (dict(lr_range=(0.1, math.nan)), "two numbers"),
        (dict(lr_range=(0.1, math.inf)), "two numbers"),
        (dict(budgets=(0.2, 1.5)), "longer than the config"),
        (dict(budgets=(1, 0.2)), "fall"),
        (dict(budgets=(0, 1)), "positive"),
        (dict(budgets=()), "positive"),
        (dict(splits=1), "at least two"),
        (dict(alphas=()), "different positive"),
        (dict(alphas=(1, 1)), "different positive"),
        (dict(alphas=(-1, 1)), "different positive"),
    ],
)
def test_what_makes_no_search_is_refused(options, words):
    with pytest.raises(BadInput, match=words):
        Algorithm4(**dict(lr_range=(0.2, 3.2)) | options)
