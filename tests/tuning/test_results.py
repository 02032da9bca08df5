"""The table that a search leaves: what each trial ran and cost."""

import csv
import math

from matplotlib.figure import Figure

from normfix_mm.tuning.board import Board, Entry, score_of
from normfix_mm.tuning.compare_folder import _cells
from normfix_mm.tuning.comparison import report
from normfix_mm.tuning.grid import Grid
from normfix_mm.tuning.knobs import floor_of
from normfix_mm.tuning.plots import over, progress
from normfix_mm.tuning.progress import trained
from normfix_mm.tuning.results import Result, write_table
from normfix_mm.tuning.search import Trial


def test_iterations_and_cost_are_those_that_a_trial_ran(tmp_path):
    """Loggers leave out the last iterations of an epoch: 280 of 288 are in the log here."""
    whole = Trial("whole", {"lr": 0.1}, 0.3)
    entries = [
        Entry(whole, "finished", 0.5, iterations=280),
        Entry(whole, "diverged", -math.inf, iterations=96),
        Entry(whole, "crashed", iterations=20),
    ]
    result = Result(Grid({"lr": (0.1,)}), Board(entries, {}), entries[0], "AP", tmax=960)
    write_table(tmp_path / "trials.csv", result)
    with open(tmp_path / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["iterations"] for row in rows] == ["288", "96", "20"]
    assert [row["cost in Tmax"] for row in rows] == ["0.3", "0.1", "0.0208"]


def test_a_trial_of_another_batch_ran_what_it_logged():
    entry = Entry(Trial("b", {"train_dataloader.batch_size": 10}), "finished", iterations=100)
    assert trained(entry, tmax=500) == 100
    assert trained(Entry(Trial("a", {"lr": 0.1}), "finished", iterations=100), tmax=500) == 500


def test_a_score_of_zero_is_nothing_where_more_is_better_and_none_is_less():
    """As of a detector that finds no box: AP 0, or an evaluator that reports nothing."""

    def score(value, maximize=True, metric="coco/bbox_mAP_50", **facts) -> float:
        entry = Entry(Trial("a"), "finished", value, facts=facts)
        return score_of(entry, maximize, floor_of(metric) if maximize else -math.inf)

    assert score(0.0) == score(-1.0) == score(math.nan) == score(0.0, metric="mIoU") == -math.inf
    assert score(0.001) == 0.001 and score(30.0, metric="accuracy/top1") == 30.0
    assert score(0.0, metric="own/score") == 0.0 and score(-3.0, metric="own/score") == -3.0
    assert score(0.0, metric="own/score", metrics={}) == -math.inf
    assert score(0.0, maximize=False, metric="own/loss") == 0.0
    assert score(math.inf, maximize=False, metric="own/loss") == -math.inf


def test_the_line_of_the_best_so_far_begins_anew_with_longer_trainings():
    shares, values = (0.1, 0.1, 0.5, 0.5, 0.5), (0.3, 0.6, 0.2, 0.1, 0.4)
    for sign in (1, -1):  # of a score, of a loss
        entries = [
            Entry(Trial(f"{i}", {"lr": i + 1.0}, share), "finished", sign * value)
            for i, (share, value) in enumerate(zip(shares, values))
        ]
        scores = {entry.trial.name: sign * entry.value for entry in entries}
        result = Result(Grid({"lr": (1.0,)}), Board(entries, scores), entries[4], "own", tmax=10)
        axes = Figure().subplots()
        assert progress(axes, {"one": result})
        assert list(axes.lines[0].get_ydata()[:5]) == [sign * y for y in (0.3, 0.6, 0.2, 0.2, 0.4)]


def test_a_grid_with_zero_shows_it():
    values = {0.0: 0.7, 1e-4: 0.5, 1e-3: 0.4}
    entries = [Entry(Trial(f"lam{v:g}", {"lam": v}), "finished", ap) for v, ap in values.items()]
    result = Result(Grid({"lam": tuple(values)}), Board(entries, {}), entries[0], "AP", tmax=10)
    axes = Figure().subplots()
    assert over("lam")(axes, {"one": result})
    (line,) = axes.lines
    assert list(line.get_xdata()) == list(values)
    points = axes.transData.transform(list(zip(line.get_xdata(), line.get_ydata())))
    left, right = axes.transAxes.transform([[0, 0], [1, 0]])[:, 0]
    assert all(left <= x <= right for x, _ in points)
    assert axes.get_xlim()[0] <= 0 < axes.get_xlim()[1]


def test_a_bar_in_a_class_s_name_is_no_column():
    found = {"bbox_mAP": 0.5, "IoU/a|b": 40.0, "IoU/c": 50.0}
    text = report({}, {"decay": [(0.1, found)]}, "bbox_mAP")
    (line,) = [line for line in text.splitlines() if "a\\|b" in line]
    assert _cells(line) == ["a|b", "40.0"]
    assert _cells("| c | 50.0 |") == ["c", "50.0"]
