"""MkDocs' hook: the site is made of the Markdown files where they lie, beside what they describe.

MkDocs wants all documents in one folder. So the files that pages are made of or link to are copied
into one that is laid out like the project, where the links between them hold as they do on disk.
"""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
COPIED = ["*.md", "CITATION.cff", "LICENSE", "tools/*"]
COPIED += ["docs/**/*", "configs/**/*", "benchmarks/**/*"]
EVERY_CONFIG = "<!-- every config -->"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Point MkDocs to a copy that is laid out like the project."""
    tree = Path(tempfile.mkdtemp(prefix="normfix_mm-docs-"))
    for source in {path for pattern in COPIED for path in ROOT.glob(pattern)}:
        if source.is_file() and "__pycache__" not in source.parts:
            target = tree / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    config.docs_dir = str(tree)
    return config


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Put the table of all configs in the place of its mark."""
    return markdown.replace(EVERY_CONFIG, every_config())


def on_post_build(config: MkDocsConfig) -> None:
    """The copy has served."""
    shutil.rmtree(config.docs_dir, ignore_errors=True)


def every_config() -> str:
    """What each config's header says, as a table a family."""
    lines: list[str] = []
    for family in sorted(path for path in (ROOT / "configs").iterdir() if path.is_dir()):
        configs = sorted(family.glob("*.py"))
        if family.name.startswith("_") or not configs:
            continue
        lines += ["", f"## {family.name}", ""]
        lines += ["| config | what | expected | run time |", "|---|---|---|---|"]
        for config in configs:
            header = ast.get_docstring(ast.parse(config.read_text(encoding="utf-8"))) or ""
            what = header.partition("\n")[0]
            cells = [f"`{config.stem}`", what, said(header, "Expected"), said(header, "Run time")]
            lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def said(header: str, what: str) -> str:
    """The header's paragraph that begins so, on one line."""
    found = re.search(rf"^{what}[^:\n]*: (.*(?:\n(?!\w[\w ,]*:|\n).*)*)", header, re.MULTILINE)
    return " ".join(found[1].split()) if found else "–"
