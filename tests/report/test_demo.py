"""`make demo`'s command: trains, leaves the page, does nothing twice, ends with a sentence."""

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "tools/demo.py"


def demo(folder, *options):
    return subprocess.run(
        [sys.executable, str(DEMO), "--out", "out", "--data", "data", *options],
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_demo_trains_once_and_leaves_the_page(tmp_path):
    options = ["--pictures", "8", "--epochs", "1"]
    first = demo(tmp_path, *options)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "FixNorm: trained in" in first.stdout
    assert "[1]  AP " in first.stdout
    assert "FixNorm: AP " in first.stdout
    checkpoint = tmp_path / "out/fixnorm/epoch_1.pth"
    trained = checkpoint.stat().st_mtime_ns
    (tmp_path / "out/index.html").unlink()

    again = demo(tmp_path, *options)
    assert "trained already" in again.stdout
    assert checkpoint.stat().st_mtime_ns == trained
    assert (tmp_path / "out/index.html").stat().st_size > 100_000


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["--epochs", "0"], "Invalid --epochs 0"), (["--pictures", "0"], "number of pictures")],
)
def test_bad_options_end_with_one_sentence(tmp_path, options, sentence):
    end = demo(tmp_path, *options)
    assert end.returncode == 1
    assert sentence in end.stderr
    assert "Traceback" not in end.stderr
    assert not (tmp_path / "out").exists()
