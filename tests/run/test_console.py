"""What a training shows on the terminal, in a real process, and what stays in its log file."""

import io
import logging
import re
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
import torch
from helpers.processes import ended, start
from helpers.small_command import CLASSES, ROOT
from mmengine.visualization import Visualizer

from normfix_mm.run.console import NOISE, _is_of_use, without_noise


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


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("timm_model.conv_head.weight, timm_model.bn2.bias", False),
        ("fc.weight, fc.bias", False),
        ("timm_model.conv_head.weight, timm_model.blocks.0.weight", True),
        ("fc.weight\n\nmissing keys in source state_dict: layer1.0.conv1.weight", True),
    ],
)
def test_only_a_classifier_s_unused_weights_are_no_mismatch(said, shown):
    said = f"unexpected key in source state_dict: {said}\n"
    message = f"The model and loaded state dict do not match exactly\n\n{said}"
    record = logging.LogRecord("mmengine", logging.WARNING, "", 0, message, (), None)
    assert _is_of_use(record) == shown


def test_what_mmengine_logs_before_there_is_a_runner_is_sieved():
    with redirect_stdout(io.StringIO()) as seen, without_noise():
        for colour, end in (("", ""), ("\x1b[4m\x1b[97m", "\x1b[0m")):
            begin = f"11/28 05:03:32 - mmengine - {colour}INFO{end} - "
            print(f"{begin}backbone out_indices: (1, 2)\n{begin}kept")
    assert seen.getvalue().count("kept") == 2 and "backbone" not in seen.getvalue()


def test_warnings_that_nobody_can_act_on_are_silent():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with without_noise():
            warnings.warn("DeprecationWarning: `num_anchors` is deprecated, for …", stacklevel=1)
            Visualizer(image=np.zeros((40, 40, 3), np.uint8)).draw_bboxes(torch.ones(1, 4) * 60)
            warnings.warn("kept", stacklevel=1)
    assert [str(each.message) for each in told] == ["kept"]


def test_what_was_shown_before_an_error_is_not_lost():
    with redirect_stdout(io.StringIO()) as seen:
        with pytest.raises(KeyError), without_noise():
            print("cause", end="")
            raise KeyError
        assert seen.getvalue() == "cause"
