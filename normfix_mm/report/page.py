"""One HTML file that shows what one or several runs did. It needs no network and no other file."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from normfix_mm.analysis.gains import gain_remark
from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.report import images, plots
from normfix_mm.report.run import Run, settings

if TYPE_CHECKING:
    from normfix_mm.report.labels import Confusion

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --soft: #59636e; --line: #d8dee4;
        --ground: #ffffff; --card: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d6dbe1; --soft: #9198a1; --line: #3d444d; --ground: #14181d; --card: #1c2128; } }
body { margin: 2rem auto; max-width: 1120px; padding: 0 1.2rem; color: var(--ink);
       background: var(--ground); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
p, figcaption { color: var(--soft); } figcaption { font-size: .85rem; padding: 0 .6rem .4rem; }
code { font: .9em ui-monospace, monospace; color: var(--ink); background: var(--card);
       padding: .1em .35em; border-radius: 4px; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .35rem .7rem; text-align: left;
         vertical-align: top; }
.figures td, .figures th { text-align: right; }
.figures td:first-child, .figures th:first-child { text-align: left; }
.settings td { font-size: .85rem; overflow-wrap: anywhere; }
.settings td:first-child { white-space: nowrap; }
.wide { overflow-x: auto; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 430px), 1fr));
         gap: 1rem; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px;
         padding: .5rem; }
img { max-width: 100%; height: auto; display: block; }
.plot { position: relative; }
.plot i { position: absolute; width: 10px; height: 10px; margin: -5px 0 0 -5px;
          border-radius: 50%; }
.plot i:hover { background: var(--ink); opacity: .5; }
.boxes { display: grid; gap: .5rem;
         grid-template-columns: repeat(auto-fill, minmax(min(100%, 255px), 1fr)); }
.boxes img { width: 100%; border-radius: 4px; cursor: zoom-in; }
.boxes img:focus { position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh;
                   object-fit: contain; background: #000c; cursor: zoom-out; outline: none; }
.classes { width: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1rem; color: var(--ink); font-size: .9rem; }
.legend i { display: inline-block; width: .9em; height: .9em; margin-right: .4em;
            border-radius: 2px; border: 1px solid var(--line); vertical-align: -.1em; }
.legend .ignored { background: repeating-linear-gradient(135deg, #fff 0 3px, #606060 3px 6px); }
h3 { font-size: .95rem; margin: 1rem 0 .4rem; font-weight: 600; }
"""


# A click gives an image the focus, in which the style shows it as large as the window.
ZOOMED = ' tabindex="0"'


def build(runs: list[Run], title: str, command: str | None = None) -> str:
    """The page.

    Args:
        runs: the one it is about first, those it is compared with after it.
        command: what the reader types to make the page anew.
    """
    parts = [f"<h1>{text(title)}</h1>"]
    if command:
        parts.append(f"<p>Made by <code>{text(command)}</code></p>")
    parts += [
        "<h2>Results</h2>",
        _results(runs),
        _classes(runs),
        _confusions(runs),
        "<h2>On validation images</h2>",
        _images(runs),
        "<h2>Curves</h2>",
        _curves(runs),
        "<h2>Settings</h2>",
        _settings(runs),
    ]
    return document(title, parts)


def document(title: str, parts: list[str]) -> str:
    """A whole HTML file of these pieces of HTML, in the pages' style."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{text(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def _results(runs: list[Run]) -> str:
    labels = list(dict.fromkeys(label for run in runs for label in run.results()))
    head = ["run", *labels, "iterations", "time per iteration"]
    rows = []
    for run in runs:
        results, seconds = run.results(), run.seconds_per_iteration()
        rows.append(
            [
                run.name,
                *(_number(results.get(x)) for x in labels),
                str(max(run.train)),
                f"{seconds:.2f} s" if seconds else "–",
            ]
        )
    note = "" if labels else "<p>No evaluation has been logged yet.</p>"
    return note + table("figures", head, rows)


def _classes(runs: list[Run]) -> str:
    """IoU of each class, of segmenters; recall, of classifiers."""
    names = list(dict.fromkeys(name for run in runs for name in run.class_recall))
    if names:
        rows = [[name, *(_number(run.class_recall.get(name)) for run in runs)] for name in names]
        rows.append(["all images", *(_number(run.results().get("top-1")) for run in runs)])
        head = ["class", *(run.name for run in runs)]
        return "<h3>Recall of each class</h3>\n" + table("figures classes", head, rows)
    if not any("mIoU" in run.results() for run in runs):
        return ""
    names = list(dict.fromkeys(name for run in runs for name in run.class_iou))
    if not names:
        return "<p>No IoU of single classes was logged; ClassIoUMetric as val_evaluator does.</p>"
    rows = [[name, *(_number(run.class_iou.get(name)) for run in runs)] for name in names]
    rows.append(["mIoU", *(_number(run.results().get("mIoU")) for run in runs)])
    return "<h3>IoU of each class</h3>\n" + table(
        "figures classes", ["class", *(run.name for run in runs)], rows
    )


def _confusions(runs: list[Run]) -> str:
    """Which class is taken for which, by classifiers."""
    if not any(run.scope == "mmpretrain" for run in runs):
        return ""
    from normfix_mm.report import labels

    parts = []
    for run in runs:
        try:
            found = labels.confusion(run)
        except (FileNotFoundError, ImportError, TypeError) as error:
            parts.append(f"<p>No confusion of {text(run.name)}: {text(str(error))}.</p>")
            continue
        tried = int(found.counts.sum())
        caption = f"{run.name}: {tried} of {found.of} validation images, newest checkpoint."
        parts.append(_confusion(found, caption))
    return "<h3>Which class is taken for which</h3>\n" + "".join(parts)


def _confusion(found: Confusion, caption: str) -> str:
    if len(found.names) <= plots.MOST_CLASSES:
        return figures([(partial(plots.confusion, found=found), caption)], [])
    mistakes = [(n, i, j) for (i, j), n in np.ndenumerate(found.counts) if n and i != j]
    rows = [
        [found.names[i], found.names[j], str(n)] for n, i, j in sorted(mistakes, reverse=True)[:12]
    ]
    return table("figures", ["class", "taken for", "images"], rows) + f"<p>{text(caption)}</p>"


def _images(runs: list[Run]) -> str:
    try:
        drawn = images.draw(runs)
    except (FileNotFoundError, ImportError) as error:
        return f"<p>No pictures: {text(str(error))}.</p>"
    note = f"<p>{text(drawn.note)}</p>\n"
    if drawn.legend:
        return note + _legend(drawn) + _rows(drawn)
    parts = []
    for title, painted in zip(drawn.titles, zip(*drawn.rows)):
        cells = "".join(_image(images.png(image), title, ZOOMED) for image in painted)
        parts.append(f'<h3>{text(title)}</h3>\n<div class="boxes">{cells}</div>')
    return note + "\n".join(parts)


def _rows(drawn: images.Drawn) -> str:
    """A row for each image, a column for each title."""
    heads = "".join(f"<h3>{text(title)}</h3>" for title in drawn.titles)
    cells = "".join(
        _image(images.png(picture), title, ZOOMED)
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
    return figures(plots.PLOTS, runs) + "\n".join(said)


def _gains(run: Run) -> list[str]:
    """What is to be said of the classifiers' gains."""
    remarks = []
    for key in run.keys("gain/"):
        layer = key.removeprefix("gain/")
        (_, gains), (_, caps) = run.curve(key), run.curve(f"cap/{layer}")
        remarks.append(gain_remark(layer, gains, caps[-1]) if caps else None)
    return [remark for remark in remarks if remark]


def figures(drawings: Iterable[tuple[Callable, str]], runs) -> str:
    """A grid of the plots that have something to show.

    Args:
        drawings: functions for :func:`normfix_mm.report.plots.picture`, each with its caption.
        runs: what they draw.
    """
    shown = []
    for draw, caption in drawings:
        light, dark = (plots.picture(draw, runs, theme) for theme in ("light", "dark"))
        if light and dark:
            source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark.png)}">'
            points = "".join(
                f'<i style="left:{p.left:.1f}%;top:{p.top:.1f}%" title="{text(p.says)}"></i>'
                for p in light.points
            )
            shown.append(
                f'<figure><div class="plot"><picture>{source}{_image(light.png, caption)}</picture>'
                f"{points}</div><figcaption>{text(caption)}</figcaption></figure>"
            )
    return '<div class="plots">\n' + "\n".join(shown) + "\n</div>"


def _settings(runs: list[Run]) -> str:
    columns = [dict(settings(run)) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "–") for column in columns)] for name in names]
    rows.append(["whole config", *(str(run.config_path) for run in runs)])
    return table("settings", ["", *(run.name for run in runs)], rows)


def table(kind: str, head: list[str], rows: list[list[str]]) -> str:
    """A table, scrolled where it is too wide. `kind` is its class: 'figures' or 'settings'."""

    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table class="{kind}">\n{line(head, "th")}\n{body}\n</table></div>'


def _number(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{share:.3f}"


def _image(data: bytes, alt: str, more: str = "") -> str:
    return f'<img src="{_data(data)}" alt="{text(alt)}"{more}>'


def _data(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def text(content: object) -> str:
    """Escaped for HTML."""
    return html.escape(str(content))
