"""What a search has done, does and has still to do, in one line."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass, field

from normfix_mm.tuning.board import Board, Entry
from normfix_mm.tuning.knobs import LENGTHS
from normfix_mm.tuning.search import Search, Trial, in_full

EVERY = 60  # seconds between lines where nothing happens
SYMBOLS = dict(lr="lr", alpha="α", lam="λ", eps="ε", seed="seed")


def described(trial: Trial) -> str:
    """'lr 0.0145, α 0.5'."""
    shown = {k: in_full(v) if v == int(v) else f"{v:.6g}" for k, v in trial.values.items()}
    return ", ".join(f"{SYMBOLS.get(key, key)} {value}" for key, value in shown.items())


def spent(entry: Entry, tmax: int) -> float:
    """What a trial has cost so far, in units of Tmax: what it ran if it ended early."""
    if entry.state == "finished":
        return entry.trial.share
    return min(entry.trial.share, entry.iterations / tmax) if tmax else 0.0


def trained(entry: Entry, tmax: int) -> int:
    """Iterations of a trial; the last ones of a finished one need not have been logged."""
    known = entry.state == "finished" and not any(name in entry.trial.values for name in LENGTHS)
    whole = round(entry.trial.share * tmax) if known else 0
    return max(entry.iterations, whole)


def duration(seconds: float) -> str:
    """'2 h 05 min', '12 min', '40 s'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


@dataclass
class Progress:
    """Prints a line when the state has changed, and once a minute.

    Args:
        search: what is searched.
        tmax: iterations of a whole training.
        expected: seconds of one, as measured before the search.
        start: seconds that any takes to start, of them.
    """

    search: Search
    tmax: int
    expected: float
    start: float = 0.0
    _said: str = field(default="", init=False)
    _when: float = field(default=0.0, init=False)

    def __call__(self, board: Board) -> None:
        line, now = self.line(board), time.monotonic()
        state = line.partition(";")[0]
        if state != self._said or now - self._when > EVERY:
            self._said, self._when = state, now
            print(line, file=sys.stdout, flush=True)

    def line(self, board: Board) -> str:
        done, running = board.of("finished", "diverged", "crashed"), board.of("running")
        total = len(board.entries) if board.is_over else self._total(board)
        parts = [f"{len(done)} of {total} trials done"]
        for state in ("diverged", "crashed"):
            if found := board.of(state):
                parts.append(f"{len(found)} of them {state}")
        parts += [f"{len(running)} running", f"{total - len(done) - len(running)} to come"]
        line = ", ".join(parts)
        if best := self.search.best(board.scores) or self.search.leading(board.scores):
            entry = next(e for e in board.entries if e.trial.name == best.name)
            share = "" if best.share == 1 else f", {best.share:g} Tmax"
            line += f"; best {entry.value:.4g} ({described(entry.trial)}{share})"
        if not board.is_over and (seconds := self._to_go(board)):
            line += f"; about {duration(seconds)} to go"
        return line

    def _total(self, board: Board) -> int:
        return max(len(board.entries), len(self.search.outlook()))

    def _to_go(self, board: Board) -> float:
        left = self.search.cost()
        for entry in board.entries:
            left -= entry.trial.share if entry.ended else spent(entry, self.tmax)
        timed = [e for e in board.of("finished") if e.facts.get("seconds") and e.attempts == 1]
        trained = [max(0.0, e.facts["seconds"] - self.start) for e in timed]
        shares = [e.trial.share for e in timed]
        whole = math.fsum(trained) / math.fsum(shares) if timed else self.expected
        starts = self._total(board) - sum(e.ended for e in board.entries)
        return (max(0.0, left) * whole + starts * self.start) / max(1, len(board.of("running")))
