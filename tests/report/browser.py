"""A page as a real browser lays it out, in a frame as wide as one asks for."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

# Chromium's own windows are never narrower than 500 pixels; a frame may be.
FRAME = """<!doctype html><body style="margin:0"><iframe
style="border:0;width:{width}px;height:3000px"
src="{address}"></iframe><script>
addEventListener("message", event => {{ document.title = event.data }})</script>"""
SAYS = """<script>addEventListener("load", () => {
const images = [...document.images];
parent.postMessage(JSON.stringify({
    width: innerWidth,
    shown: document.documentElement.clientWidth,
    needed: document.documentElement.scrollWidth,
    images: images.length,
    broken: images.filter(image => !image.naturalWidth).length,
    outside: images.filter(image => image.getBoundingClientRect().right > innerWidth + 1).length,
    small: Math.min(...images.map(image => image.getBoundingClientRect().width)),
}), "*")})</script></body>"""


def browser() -> str | None:
    """The command of a Chromium, if there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)


def laid_out(page: Path, width: int, folder: Path) -> dict:
    """What the browser says of a page in a window of a width, in pixels."""
    copy = folder / "measured.html"
    copy.write_text(page.read_text().replace("</body>", SAYS))
    frame = folder / "frame.html"
    frame.write_text(FRAME.format(width=width, address=copy.name))
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu"]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},3000"]
    command += ["--virtual-time-budget=20000", "--dump-dom", frame.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    title = re.search(r"<title>(.*?)</title>", done.stdout)
    assert title, done.stdout[-500:] + done.stderr[-500:]
    return json.loads(html.unescape(title[1]))
