"""What a search leaves behind: the table of its trials and the config with the best values."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.tuning.board import Board, Entry
from normfix_mm.tuning.progress import described, spent, trained
from normfix_mm.tuning.search import Search

TABLE = "trials.csv"


@dataclass
class Result:
    """A search that is over.

    Attributes:
        search: what was searched.
        board: every trial.
        best: the winner, as the search has it; None if there is none.
        metric: what the trials were judged by.
        tmax: iterations of a whole training.
        config, table, page: the files that it left; no config without a best trial.
        failures: why the result is not all that was asked for; empty if it is.
    """

    search: Search
    board: Board
    best: Entry | None
    metric: str
    tmax: int
    config: Path | None = None
    table: Path | None = None
    page: Path | None = None
    failures: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, float]:
        """The best values, by name; empty if no trial came to a score."""
        return dict(self.best.trial.values) if self.best else {}

    @property
    def cost(self) -> float:
        """What was trained, in units of Tmax."""
        return sum(spent(entry, self.tmax) for entry in self.board.entries)

    @property
    def remarks(self) -> list[str]:
        return self.search.remarks(self.board.scores)

    def mark(self, entry: Entry) -> str:
        """'best' of the winner, else nothing."""
        return "best" if entry is self.best else ""


def summed_up(search: Search, board: Board, metric: str, tmax: int) -> Result:
    """The result of a search that is over; nothing is written yet."""
    best = search.best(board.scores)
    entry = next((e for e in board.entries if best and e.trial.name == best.name), None)
    failures = [found] if (found := search.failure(board.scores)) else []
    if crashed := board.of("crashed"):
        names = ", ".join(e.trial.name for e in crashed)
        failures.append(
            f"{len(crashed)} trials crashed: {names} ({crashed[0].facts.get('error')})."
        )
    return Result(search, board, entry, metric, tmax, failures=tuple(failures))


def headline(result: Result) -> str:
    """The winner in words: 'best bbox_mAP 0.41: lr 0.0145, α 0.5, after 0.2 of the length'."""
    best = result.best
    share = best.trial.share
    after = "" if share == 1 else f", after {share:g} of the config's length"
    return f"best {result.metric} {best.value:.4g}: {described(best.trial)}{after}"


def write_table(path: Path, result: Result) -> None:
    """A row for each trial, in the order of the search."""
    entries = result.board.entries
    names = list(dict.fromkeys(key for e in entries for key in e.trial.values))
    head = ["trial", "phase", "variant", *names, "share of Tmax", "state", result.metric, "best"]
    head += ["iterations", "cost in Tmax", "seconds", "attempts", "host", "error"]
    with replacing(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        for e in entries:
            values = [e.trial.values.get(name, "") for name in names]
            row = [e.trial.name, e.trial.phase, e.trial.variant, *values, f"{e.trial.share:g}"]
            row += [e.state, "" if e.value is None else e.value, result.mark(e)]
            row += [trained(e, result.tmax), round(spent(e, result.tmax), 4)]
            row += [e.facts.get("seconds", ""), e.attempts]
            row += [e.facts.get("worker", {}).get("host", ""), e.facts.get("error", "")]
            writer.writerow(row)


def write_config(path: Path, cfg: Config, result: Result, source: str) -> None:
    """The whole config with the best values filled in, ready to be trained."""
    said = "".join(f"{line}\n" for line in result.remarks)
    head = (
        f'"""{source} with the values that a search has found.\n\n'
        f"{headline(result)}.\n{len(result.board.entries)} trials, {result.cost:.3g} trainings in "
        f"all. {said}"
        f'"""\n\n'
    )
    with replacing(path) as part:
        part.write_text(head + cfg.pretty_text)
