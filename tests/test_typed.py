"""Commands on pages and in sentences are those that a shell takes and that do what they say."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from normfix import COMMANDS
from normfix_mm.typed import invocation, line

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_named_as_it_was_started(command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/bin/normfix", "train"])
    assert invocation(command) == f"normfix {command}"
    monkeypatch.setattr(sys, "argv", ["tools/train.py", "my.py"])
    python, *words = invocation(command).split()
    assert python == "python"
    if words[0] == "-m":
        module = ROOT / words[1].replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()
    else:
        assert f'run("{command}")' in (ROOT / words[0]).read_text()


def test_a_shell_reads_the_words_that_were_meant_and_finds_the_home():
    words = ["a b", "it's", "~/x", "~/d e/f", "~/", "root=~/x y", "--dir=$HOME/z", "a=$b"]
    told = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line(words)}"],
        env=os.environ | dict(HOME="/the home"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    home = "/the home"
    assert told == [
        *("a b", "it's", f"{home}/x", f"{home}/d e/f", f"{home}/"),
        *(f"root={home}/x y", f"--dir={home}/z", "a=$b"),
    ]
    assert line(shlex.split(line(words))) == line(words)  # a record is read again
