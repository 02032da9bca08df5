"""The console command: ``normfix COMMAND …``, ``python -m normfix COMMAND …``.

It stands beside the package because importing that takes seconds, for torch's sake: `--help` and a
misspelt name need none of it, and what must be seen to before torch is loaded is done here, for the
files of tools/ as well.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, util
from pathlib import Path

# Each has a `main(arguments, prog)`, which ends as a command ends.
COMMANDS = {
    "train": ("commands.train", "train a config, with OpenMMLab's flags"),
    "train-folder": ("commands.train_folder", "train on a folder of your own, named once"),
    "test": ("commands.test", "evaluate a checkpoint, write or show predictions"),
    "tune": ("commands.tune", "tune FixNorm's learning rate and α by Algorithm 4"),
    "compare": ("commands.compare", "decay, WS + ε-shift and FixNorm on a folder, tuned alike"),
    "convert": ("commands.convert", "make a checkpoint from elsewhere one for a config here"),
    "fold": ("commands.fold", "fold a trained model into a stock config and checkpoint"),
    "report": ("report.__main__", "make a page about runs"),
    "check": ("check_env", "say what is installed and what is missing"),
}


class Parser(argparse.ArgumentParser):
    """What every command reads its arguments with: no option is cut short, none unknown."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        known = self._option_string_actions
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if word == "--":
                break
            if word.startswith("--") and " " not in word and name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                meant = f"did you mean {near[0]}?" if near else "--help lists those there are."
                self.exit(2, f"error: there is no {name}; {meant}\n")
        return super().parse_known_args(args, namespace)


def main() -> None:
    """The console command, with the arguments of the process."""
    parser = Parser(
        prog="normfix",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train without weight decay's side effects: normfix_mm's commands.",
        epilog="\n".join(
            ["commands:"]
            + [f"  {name:<14}{what}" for name, (_, what) in COMMANDS.items()]
            + ["", "`normfix COMMAND --help` explains the options of each."]
        ),
    )
    parser.add_argument("--version", action="version", version=f"normfix_mm {version()}")
    parser.add_argument("command", metavar="COMMAND", help="one of those below")
    name = parser.parse_args(sys.argv[1:2]).command
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
        meant = f"did you mean `normfix {near[0]}`? " if near else ""
        sys.exit(f"error: There is no command {name!r}; {meant}`normfix --help` lists all.")
    sys.exit(run(name, sys.argv[2:], f"normfix {name}"))


def run(name: str, arguments: Sequence[str] | None = None, prog: str | None = None) -> int | None:
    """Run a command.

    Args:
        name: of `COMMANDS`.
        arguments: those of the process by default.
        prog: what `--help` calls it; the file that was run by default.

    Returns:
        Its status, None for 0.
    """
    settle()
    try:
        module = import_module(f"normfix_mm.{COMMANDS[name][0]}")
    except ModuleNotFoundError as error:  # where something else fails to load, the command says so
        if (error.name or "").partition(".")[0] == "normfix_mm":
            raise
        check = "normfix check" if prog else "python -m normfix_mm.check_env"
        sys.exit(
            f"error: The command needs {error.name}, which is not installed; `{check}` says what "
            "is missing and how to get it."
        )
    return module.main(arguments, prog)


def settle() -> None:
    """What a process of ours needs before it imports torch."""
    # A Ctrl-C while the imports take their seconds needs no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Threads that wait soon give their core away: beside another job each would hold the others up.
    # OpenMP reads this once, when torch loads it.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def version() -> str:
    """`normfix_mm.__version__`, read without importing it."""
    source = Path(util.find_spec("normfix_mm").origin).read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', source, re.MULTILINE)[1]


if __name__ == "__main__":
    main()
