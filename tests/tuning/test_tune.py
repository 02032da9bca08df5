"""A whole search: what it prints, leaves and refuses. The training is a formula."""

import csv
import math
import re
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from tuning.toy_search import TMAX, search, toy_config

from normfix_mm.errors import BadInput
from normfix_mm.tuning import measure
from normfix_mm.tuning.job import flattened

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search with a rate that diverges and a trial that crashes once."""
    out = tmp_path_factory.mktemp("search")
    config = toy_config(diverges=0.09, crash={"lr0.024_alpha0.5_t0.2": 1}, power=0.6)
    return search(config, out, jobs=4, retries=1), out


def test_it_ends_with_values_config_table_and_page(found):
    result, _ = found
    assert result.values == dict(lr=0.0145, alpha=0.5) and not result.failures
    cfg = Config.fromfile(result.config)
    assert cfg.optim_wrapper.optimizer.lr == 0.0145 and cfg.model.bbox_head.alpha == 0.5
    assert cfg.train_cfg.max_iters == TMAX
    with open(result.table) as file:
        rows = list(csv.DictReader(file))
    states = {row["trial"]: (row["state"], row["attempts"]) for row in rows}
    assert len(rows) == 15 and states["lr0.1_alpha0.5_t0.2"] == ("diverged", "1")
    assert states["lr0.024_alpha0.5_t0.2"] == ("finished", "2")
    assert sum(float(row["cost in Tmax"]) for row in rows) == pytest.approx(result.cost, abs=0.01)
    assert 10.8 < result.cost < 11  # the diverged one cost only what it ran


def test_the_page_shows_the_search(found):
    result, _ = found
    html = result.page.read_text()
    assert html.count("<figure>") == 4 and html.count("<tr>") == 1 + 1 + 1 + 15
    assert "lr 0.0145, α 0.5" in html and "diverged" in html and "attempt 2" in html
    assert "smallest of the candidates" in html


def test_progress_is_told_all_the_time(tmp_path, capfd):
    search(toy_config(), tmp_path, jobs=2, splits=2, alphas=[0.5, 1])
    text = capfd.readouterr().out
    assert re.search(r"0 of 5 trials done, 2 running, 3 to come; about \d+ s to go", text)
    assert re.search(r"[1-4] of 5 trials done, .* best 0\.\d+ \(lr .*\); about", text)
    assert "5 of 5 trials done, 0 running, 0 to come; best" in text
    assert text.count(": started") == 5


def test_a_dry_run_says_every_trial_and_the_cost_and_leaves_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NORMFIX_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    assert search(toy_config(), out, dry_run=True, jobs=2) is None
    text = capfd.readouterr().out
    lines = text.splitlines()
    assert len(lines) == 17 and lines[0] == "measuring a few iterations" and not out.exists()
    assert sum("20 iterations  0.2 Tmax" in line for line in lines) == 5
    assert sum(" 100 iterations  1 Tmax" in line for line in lines) == 10
    for rate in (0.024, 0.043, 0.062, 0.081, 0.1):
        assert f"lr {rate:g}, α 0.5" in text
    assert re.search(r"15 trials, 11 Tmax of 100 iterations: about \d.* hours .*2 at a time", text)


def test_a_trial_that_crashes_for_good_is_reported_and_the_search_goes_on(tmp_path):
    config = toy_config(crash={"lr0.0145_alpha1": 9})
    result = search(config, tmp_path, jobs=4, retries=1, alphas=[0.5, 1, 2])
    assert len(result.board.entries) == 12 and result.values["alpha"] == 0.5
    (failure,) = result.failures
    assert re.search(r"1 trials crashed: lr0.0145_alpha1 \(.*out of luck\)", failure)
    entry = result.board.of("crashed")[0]
    assert entry.attempts == 2 and "crashed" in result.table.read_text()
    (tmp_path / "trials/lr0.0145_alpha1.crashes").write_text("x" * 9)  # the cause is gone
    assert not search(config, tmp_path, alphas=[0.5, 1, 2]).failures


def test_a_search_of_which_nothing_comes_says_so(tmp_path):
    result = search(toy_config(diverges=0.0), tmp_path, jobs=5, alphas=[0.5])
    assert result.best is None and result.config is None
    assert "No training of round 1 came to anything" in result.failures[0]
    assert result.page.exists() and "diverged" in result.table.read_text()


SHORT = dict(splits=2, alphas=[0.5, 2], budgets=[0.1, 0.5])


def test_what_is_best_is_the_same_trial_everywhere(tmp_path, capfd):
    """The rate that was best in the short round finds nothing in the long one."""
    result = search(toy_config(power=0.3, nothing=[0.02, 0.5]), tmp_path, jobs=2, **SHORT)
    with open(result.table) as file:
        rows = list(csv.DictReader(file))
    scores = {row["trial"]: float(row["bbox_mAP"]) for row in rows}
    assert scores["lr0.0525_alpha0.5_t0.1"] > scores["lr0.005_alpha0.5_t0.5"] > 0
    assert scores["lr0.0525_alpha0.5_t0.5"] == 0 and "lr0.005_alpha2_t0.5" in scores
    longest = {name: value for name, value in scores.items() if name.endswith("_t0.5")}
    name = max(longest, key=longest.get)
    assert [row["trial"] for row in rows if row["best"] == "best"] == [name]
    value = f"{longest[name]:.4g}"
    said = f"best bbox_mAP {value}: lr 0.005, α 0.5, after 0.5 of the config's length"
    text = capfd.readouterr().out
    assert said in text and re.search(
        rf"5 of 5 trials done.*; best {value} \(lr 0.005, α 0.5, ", text
    )
    assert said in result.config.read_text() and not result.failures
    html = result.page.read_text()
    assert f"<td>lr 0.005, α 0.5</td><td>{value}</td><td>0.5</td>" in html.replace("\n", "")
    (marked,) = [row for row in html.split("<tr>") if "<td>best</td>" in row]
    assert "lr 0.005, α 0.5" in marked and value in marked


def test_a_winner_that_found_nothing_is_no_result(tmp_path):
    options = dict(jobs=2, **SHORT)
    (tmp_path / "config_fixnorm_tuned.py").write_text("lr = 0.0525  # of an earlier version")
    result = search(toy_config(nothing=[0.0, 0.5]), tmp_path, study="config_fixnorm", **options)
    assert result.best is None and result.config is None and not result.values
    assert not list(tmp_path.glob("*_tuned.py"))
    (failure,) = result.failures
    assert "No training of round 2 came to anything" in failure and "raise --budgets" in failure
    assert failure.replace("'", "&#x27;") in result.page.read_text().replace("&#39;", "&#x27;")
    assert all(row["best"] == "" for row in csv.DictReader(result.table.open()))
    grid = dict(method="grid", grid=dict(lr=[0.1, 0.2]), share=0.5)
    nothing = search(toy_config(nothing=[0.0, 0.5]), tmp_path / "grid", jobs=2, **grid)
    assert nothing.config is None and nothing.failures == (
        "No trial came to anything: each diverged, failed or found nothing; lower the rates or "
        "raise --share.",
    )


def test_an_alpha_that_was_not_decided_is_said_and_the_rate_stays(tmp_path, capfd):
    result = search(toy_config(nothing_but=0.5), tmp_path, jobs=2, **SHORT)
    assert result.values["alpha"] == 0.5 and result.config.is_file() and not result.failures
    assert "α was not decided: with lr " in capfd.readouterr().out
    assert "α was not decided: with lr " in result.page.read_text()


def test_trials_of_few_iterations_are_warned_of_before_anything_is_trained(tmp_path, capfd):
    config = toy_config()
    config.param_scheduler = [dict(type="LinearLR", by_epoch=False, begin=0, end=30)]
    search(config, tmp_path, jobs=2, **SHORT)
    seen = capfd.readouterr()
    assert seen.err.splitlines() == [
        "warning: The shortest trials have 10 iterations (0.1 of the config's length), fewer than "
        "the 30 of its warm-up: so few may tell nothing about a rate; raise --budgets."
    ]
    search(config, tmp_path, jobs=2, **SHORT)
    assert "warning" not in capfd.readouterr().err  # it has been trained
    search(toy_config(), tmp_path / "dry", dry_run=True, method="grid", grid=dict(lr=[1.0]))
    assert "warning" not in capfd.readouterr().err
    search(
        toy_config(), tmp_path / "dry", dry_run=True, method="grid", grid=dict(lr=[1.0]), share=0.4
    )
    assert "have 40 iterations (0.4 of the config's length): so few" in capfd.readouterr().err


def test_what_a_dry_run_has_measured_serves_the_search(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("NORMFIX_CACHE", str(tmp_path / "cache"))
    log, data = tmp_path / "starts.log", tmp_path / "data.json"
    data.write_text("one")
    config = toy_config(log=str(log))
    config.train_dataloader = dict(dataset=dict(data_root=f"{tmp_path}/", ann_file="data.json"))

    def probes(**options) -> int:
        search(config, tmp_path / "out", jobs=2, splits=2, alphas=[0.5], **options)
        return log.read_text().count("start probe")

    assert probes(dry_run=True) == 1
    assert probes() == 1  # taken over
    assert "a few iterations of this were measured 0 s ago" in capfd.readouterr().out
    data.write_text("another")
    assert probes(study="other data") == 2
    config.optim_wrapper.optimizer.momentum = 0.9
    assert probes(study="other config") == 3
    assert probes(study="other process", threads=3) == 4
    assert probes(study="again", threads=3) == 4
    monkeypatch.setattr(measure, "KEPT", 0)
    assert probes(study="much later", threads=3) == 5


def test_bayesian_decay_and_a_grid_run_on_the_same_storage_and_page(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    decay = toy_config(decay=True, lam=1e-4)
    rival = search(
        decay, tmp_path / "bo", storage=storage, study="BO + WD", method="bo-wd", trials=7, jobs=3
    )
    assert rival.cost == 7 and set(rival.values) == {"lr", "lam"}
    cfg = Config.fromfile(rival.config)
    assert cfg.optim_wrapper.optimizer.weight_decay == rival.values["lam"]
    grid = search(
        toy_config(),
        tmp_path / "grid",
        storage=storage,
        method="grid",
        grid=dict(lr=[0.01, 0.02], alpha=[0.5, 1], seed=[1, 2]),
        share=0.5,
        jobs=4,
        beside=["BO + WD"],
    )
    assert len(grid.board.entries) == 8 and grid.cost == 4
    assert "BO + WD" in grid.page.read_text()
    assert Config.fromfile(grid.config).train_cfg.max_iters == TMAX  # the whole training


def test_what_decides_the_search_is_read_from_the_config(tmp_path):
    config = toy_config()
    config.tune_cfg = dict(lr_range=(0.01, 0.02), budgets=(1.0,), splits=2, alphas=(1.0,))
    result = search(config, tmp_path, jobs=2)
    assert [e.trial.values["lr"] for e in result.board.entries] == [0.015, 0.02]
    given = search(config, tmp_path / "given", jobs=2, splits=3, rounds=1)
    assert len(given.board.entries) == 3


def test_a_misspelt_setting_of_the_config_is_said(tmp_path):
    config = toy_config()
    config.tune_cfg = dict(lr_rnage=(0.01, 0.02))
    with pytest.raises(BadInput, match=r"tune_cfg has lr_rnage, .* it takes rounds, lr_range"):
        search(config, tmp_path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (dict(rounds=2.5), "rounds is a whole number, not 2.5"),
        (dict(alphas=4), "alphas is a list of numbers, not 4"),
        (dict(lr_range=["a", 1]), "lr_range is two numbers"),
        (dict(lease=0), "lease is a number of seconds above 0"),
        (dict(rounds=0), "rounds is a number of 1 or more"),
        (dict(rounds=3, budgets=[0.5, 1]), "3 rounds, but 2 budgets"),
        (5, "tune_cfg is a dict of settings, not 5"),
    ],
)
def test_a_setting_of_another_kind_in_the_config_is_said(tmp_path, told, words):
    config = toy_config()
    config.tune_cfg = told
    with pytest.raises(BadInput, match=words):
        search(config, tmp_path)


def test_a_loss_is_minimized(tmp_path):
    config = toy_config(metric="own/loss")
    config.val_evaluator = dict(type="Own")
    result = search(config, tmp_path, jobs=4, metric="own/loss", alphas=[0.5])
    worst = min(e.value for e in result.board.entries)
    assert result.best.value == worst  # the landscape's score is taken for a loss
    assert (result.page.read_text()).count("<figure>") >= 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(lr_range=(0.1, 0.01)), "is empty"),
        (dict(lr_range=(-1, 1)), "above zero"),
        (dict(budgets=[0.2, 2]), "longer than the config"),
        (dict(budgets=[0.001, 1]), "nothing of 100 iterations"),
        (dict(metric="mIoU"), "No evaluator of the config reports 'mIoU'"),
        (dict(rounds=3, budgets=[0.5, 1]), "3 rounds, but 2 budgets"),
        (dict(rounds=0), "rounds is a number of 1 or more"),
        (dict(method="grid", grid={"lr": [0.1]}, rounds=1), "grid has no use for rounds"),
        (dict(method="grid", grid={"lrr": [0.1]}), "no setting 'lrr' to tune"),
        (dict(beside=["absent"]), "no study 'absent' in .* to draw beside"),
        (dict(method="bo-wd"), "bo-wd tunes ordinary decay"),
        (dict(method="grid"), "The grid is empty"),
        (dict(method="grid", grid={"lam": [1e-4]}), "no λ acts"),
        (dict(method="grid", grid={"lr": [0.1, 0.1]}), "a value twice"),
        (dict(method="grid", grid={"lr": [-0.1]}), "no value to train with"),
        (dict(method="grid", grid={"lr": [0.1]}, alphas=[1]), "no use for alphas"),
        (dict(method="other"), "no method 'other'"),
        (dict(grid={"lr": [0.1]}), "no use for grid"),
        (dict(direction="up"), "maximize or minimize"),
        (dict(hold_out=3), "--hold-out is of a FOLDER's images"),
        (dict(classes=["cat"]), "--classes is of a FOLDER's images"),
        (dict(metric="coco/bbox_mAP_5O"), "reports 'coco/bbox_mAP_5O', but .*bbox_mAP_50"),
        (dict(metric="bbox_mAp"), "reports 'bbox_mAp', but .*bbox_mAP"),
        (
            dict(method="grid", grid={"val_dataloader.batch_siz": [1, 2]}),
            "no val_dataloader.batch_siz to tune, but 'batch_size'",
        ),
        (
            dict(method="grid", grid={"train_cfg.max_iters": [50, 100]}, share=0.5),
            "max_iters changes the length of a training; leave --share out",
        ),
        (dict(jobs=-1), "jobs is a number of 0 or more, not -1"),
        (dict(retries=-1), "retries is a number of 0 or more"),
        (dict(threads=0), "threads is a number of 1 or more, not 0"),
        (dict(gpus_per_trial=0), "gpus_per_trial is a number of 1 or more"),
        (dict(command=[]), "The command is empty"),
        (dict(lease=0), "lease is a number of seconds above 0, not 0"),
        (dict(lease=-3.0), "lease is a number of seconds above 0"),
        (dict(lease=math.nan), "lease is a number of seconds above 0"),
        (dict(seed=-1), "seed is a whole number from 0 to 4294967295, not -1"),
        (dict(splits=2.5), "splits is a whole number, not 2.5"),
        (dict(lr_range=0.1), "lr_range is two numbers, not 0.1"),
        (dict(lr_range=(0.1, 0.2, 0.3)), "lr_range is two numbers"),
        (dict(alphas=1.0), "alphas is a list of numbers, not 1.0"),
        (dict(budgets="0.2 1"), "budgets is a list of numbers"),
        (dict(method="grid", grid={"lr": 0.1}), "grid is a mapping from names to lists"),
        (dict(storage="postgresql+psycopg://me:s3cret@127.0.0.1:1/db"), "cannot be opened"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence(tmp_path, options, words):
    with pytest.raises(BadInput, match=words) as caught:
        search(toy_config(), tmp_path, **options)
    assert "\n" not in str(caught.value) and "s3cret" not in str(caught.value)
    assert not (tmp_path / "trials").exists()


def test_a_config_that_does_not_train_is_said_before_the_study_is_made(tmp_path):
    with pytest.raises(
        BadInput, match=r"The config does not train: RuntimeError: out of luck.*log"
    ):
        search(toy_config(crash={"probe": 9}), tmp_path)
    with pytest.raises(BadInput, match="The config does not train") as caught:
        search(toy_config(crash={"probe": 9}), tmp_path, dry_run=True)
    log = Path(re.search(r"the whole log is (\S+)\)", str(caught.value)).group(1))
    assert "out of luck" in log.read_text()  # also after a dry run
    shutil.rmtree(log.parents[1])
    assert search(toy_config(), tmp_path, jobs=4, alphas=[0.5], splits=2).values


def test_results_that_cannot_be_written_lose_nothing(tmp_path):
    options = dict(jobs=4, alphas=[0.5], splits=2)
    (tmp_path / "trials.csv").mkdir()  # where the table is to go
    with pytest.raises(BadInput, match="the study is complete, give the same command again"):
        search(toy_config(), tmp_path, **options)
    (tmp_path / "trials.csv").rmdir()
    assert search(toy_config(), tmp_path, **options).table.is_file()


def test_a_config_is_flattened_to_what_json_knows():
    config = Config(dict(a=dict(b=[1, dict(c=(2, 3))]), d={}, work_dir="x", e=[], f=None))
    assert flattened(config) == {"a.b.0": 1, "a.b.1.c": (2, 3), "d": {}, "e": [], "f": None}


@pytest.mark.parametrize("randomness", [None, dict(seed=None)])
def test_a_config_without_a_seed_has_seed_0(tmp_path, randomness):
    config = toy_config()
    config.randomness = randomness
    assert search(config, tmp_path, jobs=4, alphas=[0.5], splits=2, rounds=1).values


def test_a_seed_of_the_config_that_no_training_takes_is_said(tmp_path):
    config = toy_config()
    config.randomness = dict(seed=-3)
    with pytest.raises(BadInput, match="seed is a whole number from 0"):
        search(config, tmp_path)
