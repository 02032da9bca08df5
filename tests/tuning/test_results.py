"""The table that a search leaves: what each trial ran and cost."""

import csv
import math

from normfix_mm.tuning.board import Board, Entry
from normfix_mm.tuning.grid import Grid
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
