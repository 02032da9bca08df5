"""Searches of real trainings: a small RetinaNet with FixNorm on toy pictures, through the tools."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.toy_coco import make_toy_coco, toy_options
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from tuning.processes import Forked, alive, until

from normfix_mm.report.run import scalars
from normfix_mm.tuning import tune

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
BASE = ROOT / "configs/retinanet/retinanet_r50_fpn_fixnorm_8xb2-90k_coco.py"
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(depth=18, base_channels=8, stem_channels=8, init_cfg=None),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=8, stacked_convs=1),
    test_cfg=dict(score_thr=0.0, max_per_img=3))
train_cfg = dict(_delete_=True, type='EpochBasedTrainLoop', max_epochs=3, val_interval=3)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=5),
    dict(type='MultiStepLR', by_epoch=True, milestones=[2])]
train_dataloader = dict(sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True))
default_hooks = dict(checkpoint=dict(by_epoch=True, interval=1), logger=dict(interval=1))
"""
EPOCH = 5  # iterations: ten pictures, two at a time


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    toy = make_toy_coco(folder / "coco", CocoDataset.METAINFO["classes"], n_images=10)
    cfg = Config.fromstring(SMALL.format(base=str(BASE)), ".py")
    cfg.merge_from_dict(toy_options(toy))
    cfg.pop("tta_pipeline", None)
    cfg.dump(folder / "small.py")
    return folder / "small.py"


def command(*arguments: object) -> subprocess.Popen:
    """tools/tune.py, as typed."""
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    line = [sys.executable, ROOT / "tools/tune.py", *arguments]
    return subprocess.Popen(
        [*map(str, line)], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in scalars(folder)[0].values()]


@pytest.fixture(scope="module")
def tuned(config, tmp_path_factory) -> Path:
    """The folder of a whole search, by the command.

    So short a training has AP 0, which would be no result: less is taken for better.
    """
    out = tmp_path_factory.mktemp("tuned")
    options = ("--out", out, "--splits", 2, "--alphas", 0.5, "--jobs", 2, "--threads", 1)
    options += ("--direction", "minimize")
    process = command(config, *options)
    said, _ = process.communicate(timeout=900)
    assert process.returncode == 0, said
    assert "4 of 4 trials done" in said and "best bbox_mAP" in said
    return out


def test_one_command_tunes_a_detector(tuned, config):
    with open(tuned / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["phase"], r["iterations"], r["state"]) for r in rows] == [
        ("round 1", "3", "finished"),  # a fifth of three epochs of five iterations
        ("round 1", "3", "finished"),
        ("round 2", "15", "finished"),
        ("round 2", "15", "finished"),
    ]
    (best,) = [row for row in rows if row["best"]]
    assert float(best["bbox_mAP"]) == min(float(row["bbox_mAP"]) for row in rows)
    cfg = Config.fromfile(next(tuned.glob("*_tuned.py")))
    assert cfg.optim_wrapper.optimizer.lr == float(best["lr"])
    assert cfg.model.bbox_head.alpha == 0.5 and cfg.train_cfg.max_epochs == 3
    html = (tuned / "index.html").read_text()
    assert "<h1>The best trials side by side</h1>" in html and html.count("<pre>") == 2
    assert html.count("AP of each class, boxes") == 1 and "is not shown" not in html
    assert f"python tools/train.py {next(tuned.glob('*_tuned.py'))}" in html
    assert html.count("<figure>") >= 3 and "Best bbox_mAP so far" not in html  # it is in a picture
    for row, length in zip(rows, (3, 3, 15, 15)):
        train, val = scalars(tuned / "trials" / row["trial"])
        assert max(train) == max(val) == length


def test_a_shortened_training_has_the_whole_ones_rates(tuned):
    """As mmengine's own log of both tells them: warm-up, the whole rate, then a step down."""
    rates = {
        folder.name: [entry["lr"] / entry_rate(folder) for entry in scalars(folder)[0].values()]
        for folder in (tuned / "trials").iterdir()
    }
    assert rates["lr0.0525_alpha0.5_t0.2"] == pytest.approx([0.1, 1.0, 0.1])
    whole = rates["lr0.005_alpha0.5"]
    assert whole[::EPOCH] == pytest.approx([0.1, 1.0, 0.1])


def entry_rate(folder: Path) -> float:
    return float(folder.name.partition("_")[0].removeprefix("lr"))


def test_a_killed_training_goes_on_to_the_same_result(tuned, config, tmp_path):
    """The worker is killed with -9 in the midst of a trial; its trial goes on elsewhere."""
    out = tmp_path / "out"

    def work() -> None:
        tune(config, out=out, method="grid", grid=dict(lr=[0.005], alpha=[0.5]), threads=1, pace=1)

    worker = Forked(work, tmp_path / "worker.log")
    trial = out / "trials/lr0.005_alpha0.5"
    until(lambda: len(losses(trial)) > EPOCH and (trial / "last_checkpoint").exists(), 300)
    worker.send(signal.SIGKILL)
    worker.wait()
    assert len(losses(trial)) < 3 * EPOCH
    again = Forked(work, tmp_path / "again.log")
    assert again.wait(600) == 0, again.log.read_text()
    continued = out / "trials/lr0.005_alpha0.5.try2"
    assert "resumed" in (continued / "log.txt").read_text().lower()
    whole = tuned / "trials/lr0.005_alpha0.5"
    assert losses(continued) == losses(whole)  # to the bit
    with open(out / "trials.csv") as file, open(tuned / "trials.csv") as other:
        (row,) = csv.DictReader(file)
        same = next(r for r in csv.DictReader(other) if r["trial"] == row["trial"])
    assert (row["bbox_mAP"], row["state"], row["attempts"]) == (same["bbox_mAP"], "finished", "2")


def test_a_trial_may_have_several_processes(config, tmp_path):
    result = tune(
        config,
        out=tmp_path,
        method="grid",
        grid=dict(lr=[0.01]),
        share=0.2,
        gpus_per_trial=2,
        threads=1,
        pace=1,
    )
    (entry,) = result.board.entries
    assert entry.state == "finished" and result.tmax == 9  # three epochs of three iterations
    (log,) = (tmp_path / "trials/lr0.01_t0.2").glob("*/*.log")
    text = log.read_text()
    assert "Distributed training: True" in text and "GPU number: 2" in text


def test_ctrl_c_is_a_sentence_and_no_traceback(config, tmp_path):
    process = command(config, "--out", tmp_path, "--jobs", 2)
    lines = []
    for line in process.stdout:
        lines.append(line)
        if ": started" in line:
            break
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, lines
    assert "interrupted; start the same command again" in rest and "Traceback" not in rest
    pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    here = [pid for pid in pids if alive(pid) and _has(pid, str(tmp_path))]
    assert not here


def _has(pid: int, text: str) -> bool:
    try:
        return text in Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
