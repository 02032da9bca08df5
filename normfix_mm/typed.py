"""Commands as a user types them: ours by name, one that goes on, and words as a line of a shell."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

# Of a checkout; the others are tools/NAME.py.
_STARTED = {
    "train-folder": "tools/train_folder.py",
    "convert": "tools/convert_checkpoint.py",
    "report": "-m normfix_mm.report",
    "check": "-m normfix_mm.check_env",
}


def invocation(command: str) -> str:
    """How a user types one of our commands: `normfix …`, or by the file of a checkout."""
    checkout = Path(__file__).resolve().parents[1]
    if Path(sys.argv[0]).stem == "normfix" or not (checkout / "tools/train.py").is_file():
        return f"normfix {command}"
    return f"python {_STARTED.get(command, f'tools/{command}.py')}"


def resumed(words: Sequence[str]) -> list[str]:
    """The command that goes on with a training from the last checkpoint of its work dir."""
    kept = []
    for index, word in enumerate(words):
        named = index and words[index - 1] == "--resume" and not word.startswith("-")
        if word != "--resume" and not word.startswith("--resume=") and not named:
            kept.append(word)
    return [*kept, "--resume"]


def line(words: Sequence[str]) -> str:
    """Words as a line for the shell, which is left to say where the home is."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    # Behind `key=` a shell reads $HOME, and a tilde as it stands.
    match = re.fullmatch(r"([^=/]+=)?(?:~|\$HOME)/(.*)", word, re.DOTALL)
    if not match:
        return shlex.quote(word)
    key, path = match.groups()
    home = f'{shlex.quote(key)}"$HOME"/' if key else "~/"
    return home + (shlex.quote(path) if path else "")
