"""What has been found in files, kept until the files change, so that a second start pays nothing.

A small JSON file each, in ``~/.cache/normfix_mm`` or where ``$NORMFIX_CACHE`` says. A file counts
as unchanged while its size and its times are: that of writing, which ``rsync -t`` and ``tar`` set
to the old one with other contents, and that of the last change of any kind, which they cannot set.
What cannot be read or written is forgotten: nothing depends on it. Delete the folder at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from normfix_mm.checkpoints.whole_file import replacing

FORMAT = 3  # of what is kept; raise it whenever a check looks at more than it did
_SETTLED = 2.0  # seconds; a file as young as this may change again within one tick of its clock

Stamp = list  # [size in bytes, time of writing in ns, time of the last change in ns]


def stamp_of(path: str | os.PathLike) -> Stamp:
    """Size and times of a file; what it holds is taken to be the same while they are.

    Raises:
        OSError: There is no such file.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def settled(stamp: Stamp) -> bool:
    """Whether a file is old enough that the next change of it will show in its time."""
    return time.time() - stamp[1] / 1e9 > _SETTLED


def recall(*key: object) -> dict:
    """What was kept under this key; empty if nothing was, or it cannot be read."""
    try:
        kept = json.loads(_place(key).read_text(encoding="utf-8"))
        fits = kept["format"] == FORMAT and kept["key"] == _text(key)
        return kept["value"] if fits and isinstance(kept["value"], dict) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def remember(value: dict, *key: object) -> None:
    """Keep what can be written as JSON under a key; in silence where that is not possible."""
    with contextlib.suppress(OSError), replacing(_place(key)) as part:
        text = json.dumps(dict(format=FORMAT, key=_text(key), value=value), separators=(",", ":"))
        part.write_text(text, encoding="utf-8")


def _place(key: tuple) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = os.environ.get("NORMFIX_CACHE") or os.path.join(base, "normfix_mm")
    return Path(folder) / f"{hashlib.sha256(_text(key).encode()).hexdigest()[:24]}.json"


def _text(key: tuple) -> str:
    return json.dumps(key, default=str)
