"""What a search that goes on, or takes over what another has trained, must not mix up."""

import contextlib
import io
import json
import math
import shutil
from pathlib import Path

import pytest
from helpers.small_folders import config_of
from mmengine.config import Config
from tuning.toy_search import COMMAND, search, toy_config

from normfix_mm.errors import BadInput
from normfix_mm.tuning import compare_folder, tune
from normfix_mm.tuning.comparison import Comparison
from normfix_mm.tuning.search import Trial, name_of
from normfix_mm.tuning.storage import Address
from normfix_mm.tuning.study import create

pytestmark = pytest.mark.slow


@pytest.fixture
def cells(real_data: Path, tmp_path: Path) -> Path:
    return shutil.copytree(real_data / "bccd", tmp_path / "cells")


def thin(cells: Path, split: str) -> None:
    """Every second box is gone."""
    path = cells / f"annotations/instances_{split}.json"
    data = json.loads(path.read_text())
    data["annotations"] = data["annotations"][::2]
    path.write_text(json.dumps(data))


def test_a_study_of_other_data_or_other_processes_is_refused(cells, tmp_path):
    cfg = Config.fromfile(config_of("retinanet_r18_fpn", "fixnorm"))
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=100, val_interval=100)
    cfg.landscape, cfg.param_scheduler = dict(lr=0.02, tmax=100), []
    options = dict(out=tmp_path / "out", command=COMMAND, pace=0.2, jobs=2)
    options |= dict(alphas=[0.5], splits=2, rounds=1)
    assert tune(cfg, cells, hold_out=40, **options).values
    assert tune(cfg, cells, hold_out=40, **options).values  # the same goes on
    for other, words in (
        (dict(), "hold_out 40, not 0"),
        (dict(hold_out=40, gpus_per_trial=2), "gpus_per_trial 1, not 2"),
        (dict(hold_out=40, classes=["RBC"]), "classes all, not"),
    ):
        with pytest.raises(BadInput, match=f"is of other settings: it has .*{words}"):
            tune(cfg, cells, **options, **other)
    thin(cells, "train")
    with pytest.raises(BadInput, match="is of other settings: it has folder "):
        tune(cfg, cells, hold_out=40, **options)


def test_a_comparison_runs_again_on_other_data(cells, tmp_path, monkeypatch):
    log = tmp_path / "starts.log"

    def config(path):
        cfg = Config.fromfile(path)
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=8)
        cfg.landscape = dict(lr=0.02, tmax=8, log=str(log))
        return cfg

    monkeypatch.setattr(compare_folder, "read_config", config)

    def started() -> int:
        comparison = Comparison(rates=(0.02, 0.02, 0.02), seeds=(1,))
        with contextlib.redirect_stdout(io.StringIO()):
            compare_folder.compare(
                cells, "retinanet_r18_fpn", comparison, tmp_path / "out",
                command=COMMAND, pace=0.2, jobs=2,
            )  # fmt: skip
        return sum(line.startswith("start") for line in log.read_text().splitlines())

    assert [started(), started()] == [3, 3]
    thin(cells, "val")
    assert started() == 6


def test_what_is_trained_is_judged_by_the_metric_of_the_search_that_takes_it(tmp_path):
    grid = dict(method="grid", grid=dict(lr=[0.01, 0.0145, 0.03]), jobs=3)
    config = toy_config()
    first = search(config, tmp_path, **grid)
    assert first.values == dict(lr=0.0145)
    for result in (tmp_path / "trials").glob("*/result.json"):
        told = json.loads(result.read_text())
        # The same runs by another metric, of which the farthest rate has most.
        told["outcome"]["metrics"]["coco/bbox_mAP_50"] = abs(0.5 - told["outcome"]["value"])
        result.write_text(json.dumps(told))
    second = search(config, tmp_path, study="fifty", metric="coco/bbox_mAP_50", **grid)
    values = {e.trial.values["lr"]: e.value for e in second.board.entries}
    expected = {e.trial.values["lr"]: abs(0.5 - e.value) for e in first.board.entries}
    assert values == pytest.approx(expected)
    least = search(
        config, tmp_path, study="least", metric="coco/bbox_mAP", direction="minimize", **grid
    )
    assert least.best.value == min(e.value for e in first.board.entries)
    # One that found nothing is the worst in either direction.
    path = next((tmp_path / "trials").glob("lr0.0145/result.json"))
    told = json.loads(path.read_text())
    told["outcome"].update(metrics={}, value=0.0)
    path.write_text(json.dumps(told))
    again = dict(metric="coco/bbox_mAP", direction="minimize", study="nothing")
    found = {
        e.trial.values["lr"]: e.value
        for e in search(config, tmp_path, **again, **grid).board.entries
    }
    assert found[0.0145] == math.inf


def test_a_sampled_trial_is_tried_again_at_its_own_point(tmp_path):
    from normfix_mm.tuning.bayes import BayesianDecay

    plan = BayesianDecay((0.005, 0.1), (1e-5, 5e-4), trials=2)
    settings = dict(seed=0, lease=60)
    study = create(Address(str(tmp_path / "journal.log")), "bo", True, settings, {}, {})
    tried = []
    for _ in range(3):
        claim = study.claim(study.look(plan).entries[0], plan)
        tried.append(dict(claim.trial.values))
        study.finish(claim, "stopped", None)
    assert tried[0].keys() == {"lr", "lam"} and tried[1:] == [tried[0]] * 2
    other = study.claim(study.look(plan).entries[1], plan)
    assert other.trial.values != tried[0]


def test_seeds_that_are_dates_are_two_trials():
    names = {name_of(dict(seed=seed)) for seed in (20261127, 20261128)}
    assert names == {"seed20261127", "seed20261128"}
    assert name_of(dict(lr=0.0145, alpha=0.5), 0.2) == "lr0.0145_alpha0.5_t0.2"
    assert name_of(dict(lr=1e-05, alpha=16.0)) == "lr1e-05_alpha16"
    assert name_of(dict(lr=0.12345671)) != name_of(dict(lr=0.12345672))
    assert Trial(name_of(dict(lr=2.0))).name == "lr2"
