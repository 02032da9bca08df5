"""What became of every key, as a table that a person reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby

STATUSES = ("taken", "renamed", "left", "shape mismatch", "missing")


@dataclass(frozen=True)
class Row:
    """One key.

    Attributes:
        status: one of `STATUSES`.
        old: its name in the source, None for a missing one.
        new: its name in the output or the model, None for one that is left.
        shape: of the source's tensor, or of the model's for a missing one.
        why: for what is not self-explanatory.
    """

    status: str
    old: str | None
    new: str | None
    shape: tuple[int, ...]
    why: str = ""


@dataclass
class Report:
    """Every key, how the form of the weights is known, and what else is worth a line."""

    source: str
    rows: list[Row] = field(default_factory=list)
    form: str = ""
    compared: bool = False
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Keys of each status."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in STATUSES}

    def __str__(self) -> str:
        """Markdown; the keys of one module share a row if the same has become of them."""
        lines = [f"source: {self.source}", f"form of the weights: {self.form}", ""]
        lines += ["| status | key | new key | shape | why |", "|---|---|---|---|---|"]
        for _, group in groupby(self.rows, _fate):
            lines.append(_line(list(group)))
        counts = self.counts()
        if not self.compared:
            counts["missing"] = counts["shape mismatch"] = "not compared with a model (--config)"
        lines += ["", ", ".join(f"{status}: {count}" for status, count in counts.items())]
        return "\n".join(lines + self.notes)


def _fate(row: Row) -> tuple:
    names = [None if name is None else name.rpartition(".")[0] for name in (row.old, row.new)]
    return row.status, *names, row.why


def _line(rows: list[Row]) -> str:
    shapes = list(dict.fromkeys("×".join(map(str, row.shape)) or "scalar" for row in rows))
    cells = [rows[0].status, _joined([r.old for r in rows]), _joined([r.new for r in rows])]
    if rows[0].old == rows[0].new:
        cells[2] = "same"
    return f"| {' | '.join([*cells, ', '.join(shapes), rows[0].why])} |"


def _joined(names: list[str | None]) -> str:
    if names[0] is None:
        return ""
    parent = names[0].rpartition(".")[0]
    leaves = [name.rpartition(".")[2] for name in names]
    if len(names) == 1:
        return names[0]
    return f"{parent}.{{{','.join(leaves)}}}" if parent else ", ".join(leaves)
