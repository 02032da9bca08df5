"""Options are read as written: none is cut short, and of an unknown one the nearest is said."""

import re
from pathlib import Path

import pytest
from helpers.tool import TOOLS, call

import normfix

UNKNOWN = [
    ("train.py", "--work_dir", "--work-dir"),
    ("train_folder.py", "--epoch", "--epochs"),
    ("test.py", "--show-dirs", "--show-dir"),
    ("fold.py", "--onxx", "--onnx"),
    ("tune.py", "--split", "--splits"),
    ("compare.py", "--seed", "--seeds"),
    ("convert_checkpoint.py", "--reports", "--report"),
    (TOOLS.parent / "normfix_mm/report/__main__.py", "--titel", "--title"),
]


@pytest.mark.parametrize(("tool", "given", "meant"), UNKNOWN)
@pytest.mark.parametrize("value", [" 3", "=3"])
def test_an_unknown_option_is_one_sentence_with_the_nearest(tool, given, meant, value, capsys):
    with pytest.raises(SystemExit) as ended:
        call(tool, "config.py", "folder", *f"{given}{value}".split())
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: there is no {given}; did you mean {meant}?\n"


def test_one_that_is_like_none_is_told_where_they_stand(capsys):
    parser = normfix.Parser()
    parser.add_argument("--rate", type=float)
    parser.add_argument("words", nargs="*")
    with pytest.raises(SystemExit):
        parser.parse_args(["--xyz"])
    assert capsys.readouterr().err == "error: there is no --xyz; --help lists those there are.\n"
    kept = parser.parse_args(["--rate", "-0.5", "a", "--", "--xyz"])
    assert (kept.rate, kept.words) == (-0.5, ["a", "--xyz"])


def test_the_console_command_s_own_options_are_the_same(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["normfix", "--vers"])
    with pytest.raises(SystemExit):
        normfix.main()
    assert "there is no --vers; did you mean --version?" in capsys.readouterr().err


def test_every_command_reads_its_arguments_so():
    package = Path(normfix.__file__).parent / "normfix_mm"
    theirs = re.compile(r"argparse\.ArgumentParser\(")
    assert not [path for path in package.rglob("*.py") if theirs.search(path.read_text())]
