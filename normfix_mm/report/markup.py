"""The pieces of HTML that a page is made of: the document, tables, pictures, in one style."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Iterable

from normfix_mm.report import plots

STYLE = """
:root { color-scheme: light dark; --ink: #24292f; --soft: #59636e; --line: #d8dee4;
        --ground: #ffffff; --card: #f6f8fa; --shade: #0005; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d6dbe1; --soft: #9198a1; --line: #3d444d; --ground: #14181d; --card: #1c2128;
          --shade: #fff5; } }
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
/* A shadow at the side where there is more to scroll to; at the end the ground hides it. */
.wide { overflow-x: auto; background:
    linear-gradient(to right, var(--ground) 40%, transparent) left / 40px 100% no-repeat local,
    linear-gradient(to left, var(--ground) 40%, transparent) right / 40px 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 14px 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 14px 100% no-repeat scroll; }
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
summary { cursor: pointer; color: var(--soft); margin: .6rem 0; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; border-radius: 8px;
      font: .85rem/1.4 ui-monospace, monospace; }
h3 { font-size: .95rem; margin: 1rem 0 .4rem; font-weight: 600; }
"""

# A click gives an image the focus, in which the style shows it as large as the window.
ZOOMED = ' tabindex="0"'


def document(title: str, parts: list[str]) -> str:
    """A whole HTML file of these pieces of HTML, in the pages' style."""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n<meta name="viewport" '
        f'content="width=device-width, initial-scale=1">\n<title>{text(title)}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


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
            source = f'<source media="(prefers-color-scheme: dark)" srcset="{data_of(dark.png)}">'
            points = "".join(
                f'<i style="left:{p.left:.1f}%;top:{p.top:.1f}%" title="{text(p.says)}"></i>'
                for p in light.points
            )
            shown.append(
                f'<figure><div class="plot"><picture>{source}{image(light.png, caption)}</picture>'
                f"{points}</div><figcaption>{text(caption)}</figcaption></figure>"
            )
    return '<div class="plots">\n' + "\n".join(shown) + "\n</div>"


def table(kind: str, head: list[str], rows: list[list[str]]) -> str:
    """A table, scrolled where it is too wide. `kind` is its class: 'figures' or 'settings'."""

    def line(cells: list[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="wide"><table class="{kind}">\n{line(head, "th")}\n{body}\n</table></div>'


def folded(title: str, content: str) -> str:
    """HTML that is shown when its title is clicked."""
    return f"<details><summary>{text(title)}</summary>\n{content}\n</details>"


def number(share: float | None) -> str:
    return "–" if share is None or math.isnan(share) else f"{share:.3f}"


def image(data: bytes, alt: str, more: str = "") -> str:
    return f'<img src="{data_of(data)}" alt="{text(alt)}"{more}>'


def data_of(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def text(content: object) -> str:
    """Escaped for HTML."""
    return html.escape(str(content))
