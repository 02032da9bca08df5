"""`make demo`'s command: trains, leaves the page, does nothing twice, ends with a sentence."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DEMO = Path(__file__).resolve().parents[2] / "tools/demo.py"


def demo(folder, *options):
    return subprocess.run(
        [sys.executable, str(DEMO), "--out", "out", "--data", "data", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_demo_trains_once_and_leaves_the_page(tmp_path):
    options = ["--baseline", "--pictures", "8", "--length", "1"]
    first = demo(tmp_path, *options)
    assert first.returncode == 0, first.stdout + first.stderr
    for run in ("FixNorm", "ordinary decay"):
        assert f"{run}: trained in" in first.stdout
        assert re.search(rf"\n  {run} +\[1\]\[2/2\]  loss ", first.stdout)
        assert f"{run}: nothing that could" in first.stdout  # two iterations teach nothing
    checkpoint = tmp_path / "out/fixnorm/epoch_1.pth"
    trained = checkpoint.stat().st_mtime_ns
    (tmp_path / "out/index.html").unlink()

    again = demo(tmp_path, *options)
    assert again.stdout.count("trained already") == 2
    assert checkpoint.stat().st_mtime_ns == trained
    assert (tmp_path / "out/index.html").stat().st_size > 100_000


def test_the_segmenter_s_demo_trains_and_says_its_score(tmp_path):
    options = ["--segment", "--pictures", "10", "--length", "2"]
    first = demo(tmp_path, *options)
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"\n  \[2/2\]  mIoU \d", first.stdout)
    assert re.search(r"\nFixNorm: mIoU \d", first.stdout)
    assert (tmp_path / "out/fixnorm/iter_2.pth").exists()
    assert (tmp_path / "out/index.html").stat().st_size > 100_000
    assert "trained already" in demo(tmp_path, *options).stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--length", "0"], "Invalid --length 0"), (["--pictures", "0"], "number of pictures")],
)
def test_bad_options_end_with_one_sentence(tmp_path, options, sentence):
    end = demo(tmp_path, *options)
    assert end.returncode == 1
    assert sentence in end.stderr
    assert "Traceback" not in end.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture
def module():
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("demo", DEMO))
    module.__spec__.loader.exec_module(module)
    return module


def test_progress_lines_are_short_and_say_what_is_to_go(module, capsys):
    stamp = "11/20 22:21:52 - mmengine - INFO - "
    module.show(
        module.DETECT,
        stamp + "Epoch(train)  [2][ 50/160]  lr: 1.8744e-02 effective_lr: 5e-06  eta: 0:03:06  "
        "time: 0.2460  data_time: 0.0083  grad_norm: 2.3962  loss: 1.0856  loss_cls: 0.8266",
    )
    module.show(
        module.DETECT,
        stamp + "Epoch(val) [6][16/16]    coco/bbox_mAP: 0.2970  coco/bbox_mAP_50: 0.4450  x: 1",
    )
    module.show(module.DETECT, stamp + "Config: model = dict(type='RetinaNet')")
    assert capsys.readouterr().out == (
        "  [2][ 50/160]  loss 1.0856  lr 1.8744e-02  0.25 s/iteration  0:03:06 to go\n"
        "  [6]  AP 0.2970  AP50 0.4450\n"
    )


def test_a_segmenter_s_progress_lines_count_iterations(module, capsys):
    stamp = "11/20 22:21:52 - mmengine - INFO - Iter"
    module.show(
        module.SEGMENT,
        stamp + "(train) [ 250/1000]  lr: 7.5e-02 effective_lr: 5e-06  eta: 0:03:06  "
        "time: 0.2460  data_time: 0.0083  grad_norm: 2.3962  loss: 1.0856  decode.loss_ce: 0.8266",
    )
    module.show(module.SEGMENT, stamp + "(val) [ 10/128]    eta: 0:00:03  time: 0.0794")
    module.show(
        module.SEGMENT, stamp + "(val) [128/128]    aAcc: 44.29  mIoU: 10.58  mAcc: 17.05  IoU/0: 8"
    )
    assert capsys.readouterr().out == (
        "  [ 250/1000]  loss 1.0856  lr 7.5e-02  0.25 s/iteration  0:03:06 to go\n"
        "  [128/128]  mIoU 10.58\n"
    )
