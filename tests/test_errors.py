"""The words for what is wrong name commands that are there."""

import sys
from pathlib import Path

import pytest

from normfix import COMMANDS
from normfix_mm.errors import invocation

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
