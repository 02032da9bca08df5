"""Some runs of a search side by side, as the page of a run shows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from normfix_mm.report import markup
from normfix_mm.report.page import sections
from normfix_mm.report.run import NoRun, Run


def side_by_side(folder: Path, names: Mapping[str, str], title: str) -> list[str]:
    """Pieces of a page.

    Args:
        folder: where the trials' folders lie.
        names: of trials, and what the page calls their runs; the first is what it is about.
        title: of this part.
    """
    runs, lacking = [], []
    for trial, name in names.items():
        where = _latest(folder, trial)
        try:
            runs.append(Run.load(where, name))
        except NoRun:  # trained on another machine, or by a command that leaves something else
            said = f"{name} is not shown: {where} holds nothing of a run, or is not here."
            lacking.append(f"<p>{markup.text(said)}</p>")
    head = f"<h1>{markup.text(title)}</h1>"
    return [head, *lacking, *(sections(runs) if runs else ())]


def _latest(folder: Path, trial: str) -> Path:
    """The folder of the last attempt at a trial."""
    pattern = re.compile(rf"{re.escape(trial)}(?:\.try(\d+))?")
    found = [(int(m[1] or 1), p) for p in folder.glob("*") if (m := pattern.fullmatch(p.name))]
    return max(found)[1] if found else folder / trial
