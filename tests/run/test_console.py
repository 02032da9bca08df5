"""What a training shows on the terminal, in a real process, and what stays in its log file."""

import io
import re
from contextlib import redirect_stdout

import pytest
from helpers.processes import ended, start
from helpers.small_command import CLASSES, ROOT

from normfix_mm.run.console import NOISE, without_noise


@pytest.mark.slow
def test_a_training_shows_what_matters_and_logs_all(small, tmp_path):
    status, lines = ended(start(ROOT / "tools/train.py", small, "--work-dir", tmp_path))
    assert status == 0
    assert len(lines) < 60, "\n".join(lines)
    shown = "\n".join(lines)
    assert f"\nclasses   80: {', '.join(CLASSES[:12])}, …\n" in shown
    assert re.search(r"\nmodel     RetinaNet: \w*ResNet, FPN, \w*RetinaHead\n", shown)
    assert "\ntraining  " in shown and " iterations of " in shown
    assert "\noptimizer SGD, lr " in shown
    for absent in ("System environment", "\nparam_scheduler =", "RuntimeInfoHook", *NOISE):
        assert absent not in shown
    (log,) = tmp_path.glob("*/*.log")
    assert f"the log in {log.parent}" in shown
    for kept in ("System environment", "\nparam_scheduler =", "RuntimeInfoHook"):
        assert kept in log.read_text()


def test_only_lines_of_noise_are_dropped():
    with redirect_stdout(io.StringIO()) as seen:
        with without_noise():
            print("creating index...\nboxes: 7")
            print("half a line", end="", flush=True)
            assert seen.getvalue() == "boxes: 7\nhalf a line"
            print(" and its end\nDone (t=0.00s)")
            print("the last, without an end", end="")
        assert seen.getvalue() == "boxes: 7\nhalf a line and its end\nthe last, without an end"


def test_what_was_shown_before_an_error_is_not_lost():
    with redirect_stdout(io.StringIO()) as seen:
        with pytest.raises(KeyError), without_noise():
            print("cause", end="")
            raise KeyError
        assert seen.getvalue() == "cause"
