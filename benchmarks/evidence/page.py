"""What was found, as one HTML page, a Markdown file, and a PNG of each claim."""

from __future__ import annotations

from pathlib import Path

from benchmarks.evidence import drawings
from benchmarks.evidence.claim import Claim
from benchmarks.evidence.training import Settings
from normfix_mm.report import markup
from normfix_mm.report.page import write as write_whole

TITLE = "The papers' claims on CIFAR-10 in small"


def write(claims: list[Claim], results: dict[Settings, dict], out: Path) -> None:
    """Write out/evidence.html, .md and CLAIM.png, of the claims all of whose runs are there."""
    parts, lines = [f"<h1>{TITLE}</h1>"], [f"# {TITLE}", ""]
    for claim in claims:
        if not all(settings in results for settings in claim.settings):
            continue
        found = {label: [results[s] for s in runs] for label, runs in claim.runs.items()}
        verdict = claim.says(found)
        rows = [
            [label, claim.paper.get(label, ""), claim.shown(runs)] for label, runs in found.items()
        ]
        head = ["run", "paper", "here"]
        parts += [
            f"<h2>{markup.text(claim.title)}</h2>",
            f"<p>{markup.text(verdict)}</p>",
            markup.table("figures", head, rows),
            markup.figures(drawings.of(claim), found),
        ]
        if drawings.of(claim):
            write_whole(out / f"{claim.name}.png", drawings.side_by_side(claim, found))
        lines += [f"## {claim.title}", "", f"**{verdict}**", "", f"| {' | '.join(head)} |"]
        lines += ["|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    write_whole(out / "evidence.html", markup.document(TITLE, parts))
    write_whole(out / "evidence.md", "\n".join(lines))
