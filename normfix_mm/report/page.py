"""One HTML file that shows what one or several runs did. It needs no network and no other file."""

from __future__ import annotations

import os
from collections.abc import Sequence

from normfix_mm.analysis.gains import gain_remark
from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.report import images, plots
from normfix_mm.report.classes import classes
from normfix_mm.report.facts import commands, following, made, setting_rows
from normfix_mm.report.markup import ZOOMED, document, figures, image, number, table, text
from normfix_mm.report.run import NoRun, Run


def build(
    runs: list[Run],
    title: str,
    command: str | None = None,
    more: Sequence[tuple[str, list[str]]] = (),
) -> str:
    """The page.

    Args:
        runs: the one it is about first, those it is compared with after it.
        command: what the reader types to make the page anew.
        more: what to do next besides, as :func:`normfix_mm.report.facts.following` says it.
    """
    parts = [f"<h1>{text(title)}</h1>"]
    if command:
        parts.append(f"<p>Made by <code>{text(command)}</code></p>")
    parts += [*sections(runs), "<h2>What to do next</h2>", commands([*following(runs), *more])]
    return document(title, parts)


def sections(runs: list[Run]) -> list[str]:
    """All that the page says of these runs, side by side."""
    return [
        "<h2>Results</h2>",
        _results(runs),
        classes(runs),
        "<h2>On validation images</h2>",
        _images(runs),
        "<h2>Curves</h2>",
        _curves(runs),
        "<h2>Settings</h2>",
        setting_rows(runs),
        "<h2>How each run was made</h2>",
        made(runs),
    ]


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def _results(runs: list[Run]) -> str:
    labels = list(dict.fromkeys(label for run in runs for label in run.results()))
    kept = list(dict.fromkeys(label for run in runs for label in run.best()))
    head = [
        "run",
        *labels,
        *(f"best {label}" for label in kept),
        "iterations",
        "time per iteration",
    ]
    rows = []
    for run in runs:
        results, seconds = run.results(), run.seconds_per_iteration()
        rows.append(
            [
                run.name,
                *(number(results.get(x)) for x in labels),
                *(number(run.best().get(x)) for x in kept),
                str(run.iterations),
                f"{seconds:.2f} s" if seconds else "–",
            ]
        )
    note = "" if labels else "<p>No evaluation has been logged yet.</p>"
    if kept:
        note = (
            "<p>Of the last evaluation, and of the one whose checkpoint was kept as the best.</p>"
        )
    return note + table("figures", head, rows)


def _images(runs: list[Run]) -> str:
    try:
        drawn = images.draw(runs)
    except (FileNotFoundError, ImportError) as error:
        return f"<p>No pictures: {text(str(error))}.</p>"
    except NoRun as error:
        if len({run.scope for run in runs}) > 1:  # which cannot stand on one page
            raise
        return f"<p>No pictures: {text(str(error))}.</p>"
    note = f"<p>{text(drawn.note)}</p>\n"
    if drawn.legend:
        return note + _legend(drawn) + _rows(drawn)
    parts = []
    for title, painted in zip(drawn.titles, zip(*drawn.rows)):
        cells = "".join(image(images.png(picture), title, ZOOMED) for picture in painted)
        parts.append(f'<h3>{text(title)}</h3>\n<div class="boxes">{cells}</div>')
    return note + "\n".join(parts)


def _rows(drawn: images.Drawn) -> str:
    """A row for each image, a column for each title."""
    heads = "".join(f"<h3>{text(title)}</h3>" for title in drawn.titles)
    cells = "".join(
        image(images.png(picture), title, ZOOMED)
        for row in drawn.rows
        for title, picture in zip(drawn.titles, row)
    )
    columns = f"grid-template-columns: repeat({len(drawn.titles)}, minmax(0, 300px))"
    return f'<div class="boxes" style="{columns}">{heads}{cells}</div>'


def _legend(drawn: images.Drawn) -> str:
    entries = [
        f'<span><i style="background: #{r:02x}{g:02x}{b:02x}"></i>{text(name)}</span>'
        for name, (r, g, b) in drawn.legend
    ]
    if drawn.ignored:
        entries.append('<span><i class="ignored"></i>ignored</span>')
    return f'<p class="legend">{" ".join(entries)}</p>\n'


def _curves(runs: list[Run]) -> str:
    said = [f"<p>{text(run.name)}: {text(remark)}</p>" for run in runs for remark in _gains(run)]
    return figures(plots.captioned(runs), runs) + "\n".join(said)


def _gains(run: Run) -> list[str]:
    """What is to be said of the classifiers' gains."""
    remarks = []
    for key in run.keys("gain/"):
        layer = key.removeprefix("gain/")
        (_, gains), (_, caps) = run.curve(key), run.curve(f"cap/{layer}")
        remarks.append(gain_remark(layer, gains, caps[-1]) if caps else None)
    return [remark for remark in remarks if remark]
