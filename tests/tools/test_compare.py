"""Comparing methods on a folder: which rates are tried, what is held out, what is reported."""

import contextlib
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.processes import one_sentence, start
from helpers.small_folders import (
    CAMVID,
    CLASSIFIERS,
    CONFIGS,
    DETECTORS,
    ROOT,
    SEGMENTERS,
    config_of,
    some_coco,
    some_streets,
)
from helpers.toy_coco import make_toy_coco
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from tuning.processes import alive, until

from normfix_mm.datasets.coco_folder import CocoFolder
from normfix_mm.datasets.seg_folder import SegFolder
from normfix_mm.errors import BadInput
from normfix_mm.tuning import compare_folder as comparing
from normfix_mm.tuning.compare_folder import begin, compare, configs_of
from normfix_mm.tuning.comparison import EXTENSIONS, METHODS, Comparison, at_edge, report

FORMULA = [sys.executable, str(ROOT / "tests/tuning/landscape.py")]


def test_each_model_has_its_three_configs():
    models = sorted(CLASSIFIERS + DETECTORS + SEGMENTERS)
    assert {path for model in models for path in configs_of(model).values()} == set(CONFIGS)
    with pytest.raises(BadInput, match=f"choose {', '.join(models)}"):
        configs_of("retinanet")


def test_masks_are_judged_and_reported_where_there_are_masks():
    boxes = dict(bbox_mAP=0.5, bbox_mAP_50=0.8, bbox_mAP_75=0.4)
    masks = boxes | dict(segm_mAP=0.25, segm_mAP_50=0.5, segm_mAP_75=0.125)
    other = masks | dict(segm_mAP=0.75)
    finals = {"FixNorm": [(0.1, masks), (0.1, other)], "decay": [(0.1, masks)]}
    table = report({}, finals, "segm_mAP")
    assert "| method | lr | box AP | box AP50 | box AP75 | mask AP |" in table
    assert "| 0.500 ± 0.354 |" in table and "| 0.250 |" in table
    both = {"FixNorm": [(0.1, boxes)]}
    assert "mask" not in report(both, both, "bbox_mAP")
    for model, metric in (("mask-rcnn_r18_fpn", "segm"), ("retinanet_r18_fpn", "bbox")):
        cfg = Config.fromfile(config_of(model, "fixnorm"))
        assert comparing.metric_of(cfg) == (f"{metric}_mAP", "maximize")


def test_images_are_reported_in_percent_and_by_class():
    one = {"top1": 60.0, "recall/cat": 50.0}
    other = {"top1": 64.0, "recall/cat": 52.0}
    table = report({}, {"FixNorm": [(0.1, one), (0.1, other)]}, "top1")
    assert "| method | lr | top-1 | seeds |" in table and "| 62.0 ± 2.8 |" in table
    assert "| recall | FixNorm |" in table and "| cat | 51.0 ± 1.4 |" in table
    cfg = Config.fromfile(config_of("resnet_r18", "baseline"), import_custom_modules=False)
    assert comparing.metric_of(cfg) == ("accuracy/top1", "maximize")


def test_pixels_are_reported_in_percent_and_by_class():
    one = dict(mIoU=40.0, mAcc=50.0, aAcc=80.0) | {"IoU/Sky": 90.0}
    other = one | {"mIoU": 42.0, "IoU/Sky": 80.0, "IoU/Car": 7.0}
    finals = {"decay": [(0.1, one), (0.1, other)], "FixNorm": [(0.1, other)]}
    table = report({"FixNorm": [(0.1, one)]}, finals, "mIoU")
    assert "| method | trials: lr → mIoU held out |" in table and "| 0.1 → 40.0, best" in table
    assert "| decay | 0.1 | 41.0 ± 1.4 | 80.0 ± 0.0 | 50.0 ± 0.0 | 2 |" in table
    assert "| IoU | decay | FixNorm |\n|---|---|---|\n| Sky | 85.0 ± 7.1 | 80.0 |" in table
    assert table.endswith("| Car | 7.0 | 7.0 |")  # in one of the runs


def test_runs_of_another_comparison_are_not_taken_for_this_one_s(tmp_path):
    one = (tmp_path / "out", "retinanet_r18_fpn", tmp_path / "cells", None)
    begin(*one[:2], tmp_path / "misspelled", None)  # nothing was run there
    begin(*one)
    (one[0] / "trial").mkdir()
    (one[0] / "trial/log.txt").touch()
    begin(*one)  # interrupted, and given again
    note = one[0] / "comparison.json"
    note.write_text(note.read_text().replace('"model"', '"detector"'))  # of an earlier version
    begin(*one)
    for i, other in ((1, "mask-rcnn_r18_fpn"), (2, tmp_path / "nuclei"), (3, ["cell"])):
        with pytest.raises(BadInput, match="out holds the runs of retinanet.*cells.*--out"):
            begin(*one[:i], other, *one[i + 1 :])


def test_held_out_images_are_not_trained_on(real_data, tmp_path):
    rest, held = CocoFolder(real_data / "bccd").hold_out(tmp_path, 40)
    names = [
        {image["file_name"] for image in json.loads(path.read_text())["images"]}
        for path in (rest, held)
    ]
    assert len(names[1]) == 40 and len(names[0]) == 165 and not names[0] & names[1]
    again = tmp_path / "again"
    again.mkdir()
    assert [path.read_text() for path in CocoFolder(real_data / "bccd").hold_out(again, 40)] == [
        rest.read_text(),
        held.read_text(),
    ]


def test_held_out_streets_are_not_trained_on(real_data, tmp_path):
    rest, held = SegFolder(real_data / "camvid").hold_out(tmp_path, 40)
    names = [set(path.read_text().split()) for path in (rest, held)]
    assert len(names[1]) == 40 and len(names[0]) == 113 and not names[0] & names[1]
    cfg = Config.fromfile(CONFIGS[-1])
    SegFolder(real_data / "camvid").use(cfg, CAMVID, rest, held, "train")
    with DefaultScope.overwrite_default_scope("mmseg"):
        for loader, part in ((cfg.train_dataloader, names[0]), (cfg.val_dataloader, names[1])):
            data = DATASETS.build(loader.dataset)
            infos = [data.get_data_info(i) for i in range(len(data))]
            assert {Path(info["img_path"]).stem for info in infos} == part
            assert {Path(info["seg_map_path"]).stem for info in infos} == part
            assert all(Path(info["img_path"]).parts[-2] == "train" for info in infos)
            assert data[0]["data_samples"].gt_sem_seg.data.shape[0] == 1


@pytest.mark.parametrize(
    ("kind", "config", "images"),
    [
        (CocoFolder, config_of(DETECTORS[0], "fixnorm"), "bccd"),
        (SegFolder, CONFIGS[-1], "camvid"),
    ],
)
def test_validation_images_are_those_of_the_final_test(kind, config, images, real_data):
    cfg = kind(real_data / images).use(Config.fromfile(config))
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        train, val, test = (
            {
                Path(*Path(data.get_data_info(i)["img_path"]).parts[-2:])
                for data in [DATASETS.build(loader.dataset)]
                for i in range(len(data))
            }
            for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader)
        )
    assert {path.parts[0] for path in train} == {"train"}
    assert {path.parts[0] for path in val} == {"val"}
    assert test == val


def test_folders_of_the_folder_count_as_well(real_data, tmp_path):
    """One for each drive, say: as MMSegmentation reads them."""
    root = some_streets(real_data / "camvid", tmp_path / "streets")
    for kind in ("images", "labels"):
        folder = root / kind / "train"
        paths = sorted(folder.iterdir())
        for drive, files in (("a", paths[:5]), ("b", paths[5:])):
            (folder / drive).mkdir()
            for i, path in enumerate(files):
                path.rename(folder / drive / f"{i}{path.suffix}")
    rest, held = SegFolder(root).hold_out(tmp_path, 3)
    cfg = SegFolder(root).use(Config.fromfile(CONFIGS[-1]), None, rest, held, "train")
    with DefaultScope.overwrite_default_scope("mmseg"):
        sets = [DATASETS.build(each.dataset) for each in (cfg.train_dataloader, cfg.val_dataloader)]
    infos = [[data.get_data_info(i) for i in range(len(data))] for data in sets]
    assert [len(part) for part in infos] == [5, 3]
    assert len({info["img_path"] for part in infos for info in part}) == 8
    assert all(Path(info["seg_map_path"]).is_file() for part in infos for info in part)


def test_the_classes_of_unnamed_labels_are_counted(real_data):
    cfg = SegFolder(real_data / "camvid").use(Config.fromfile(CONFIGS[-1]))
    classes = tuple(map(str, range(11)))
    assert cfg.train_dataloader.dataset.metainfo.classes == classes
    heads = cfg.model.decode_head, cfg.model.auxiliary_head
    assert [head.num_classes for head in heads] == [11, 11]


def searched(search: Comparison, score) -> dict[str, float]:
    scores: dict[str, float] = {}
    while new := [t for t in search.plan(scores) if t.name not in scores]:
        scores |= {trial.name: score(trial) for trial in new}
    return scores


def test_grid_grows_until_the_best_is_inside_and_equally_for_all():
    peaks = dict(zip(METHODS, (0.02, 0.08, 0.005)))
    search = Comparison(rate=0.02)

    def score(trial) -> float:
        return -abs(math.log2(trial.values["lr"] / peaks[trial.variant]))

    scores = searched(search, score)
    trials = search.trials(scores)
    assert len({len(runs) for runs in trials.values()}) == 1
    for method, runs in trials.items():
        best = max(runs, key=lambda trial: scores[trial.name])
        assert best.values["lr"] == pytest.approx(peaks[method]) and not at_edge(runs, scores)
        finals = search.finals(scores)[method]
        assert [trial.values["seed"] for trial in finals] == [1, 2, 3]
        assert {trial.values["lr"] for trial in finals} == {best.values["lr"]}


def test_a_method_that_learns_nothing_ends_the_search():
    search = Comparison()
    trials = search.trials(searched(search, lambda trial: 0.0))
    assert {len(runs) for runs in trials.values()} == {3 + EXTENSIONS}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(rate=0), "positive numbers"),
        (dict(rate=math.inf), "positive numbers"),
        (dict(rates=(0.1, -0.1, 0.1)), "positive numbers"),
        (dict(seeds=()), "at least one"),
        (dict(seeds=(1, 1)), "must be different"),
        (dict(seeds=(-1,)), "seed is a whole number from 0"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(options, words):
    with pytest.raises(BadInput, match=words):
        Comparison(**options)


@pytest.mark.parametrize("options", [dict(jobs=-1), dict(threads=0)])
def test_a_number_of_processes_that_makes_no_sense_is_one_sentence(tmp_path, options):
    with pytest.raises(BadInput, match=r"is a number of \d or more"):
        compare(tmp_path, "retinanet_r18_fpn", Comparison(), tmp_path / "out", **options)


def test_given_rates_leave_the_trials_out():
    search = Comparison(rates=(0.1, 0.2, 0.3), seeds=(5,))
    names = ["final_0_lr0.1_seed5", "final_1_lr0.2_seed5", "final_2_lr0.3_seed5"]
    assert [trial.name for trial in search.plan({})] == names


@pytest.fixture
def formula(monkeypatch, real_data, tmp_path):
    """Comparing on blood cells, with a formula in place of training; what it ran is in a log."""
    folder, log = real_data / "bccd", tmp_path / "starts.log"
    told = dict(lr=0.02, tmax=8, log=str(log))

    real = Config.fromfile

    def config(path):
        cfg = real(path)
        cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=8)
        cfg.landscape = dict(told)
        return cfg

    monkeypatch.setattr(comparing, "read_config", config)

    def run(search=Comparison(seeds=(1, 2)), **options):  # noqa: B008
        out = tmp_path / "out"
        table = compare(folder, DETECTORS[0], search, out, command=FORMULA, pace=0.2, **options)
        lines = log.read_text().splitlines() if log.exists() else []
        started = [line.split()[1] for line in lines if line.startswith("start")]
        return table, started

    run.told = told
    return run


@pytest.mark.slow
def test_a_comparison_goes_on_and_runs_nothing_twice(formula, tmp_path):
    table, started = formula(jobs=4)
    assert len(started) == len(set(started)) == 3 * 3 + 3 * 2
    assert "0.02 → 0.800" in table and table.count("| 0.02 | 0.800 ± 0.000 |") == 3
    assert (tmp_path / "out/table.md").read_text().strip() == table
    html = (tmp_path / "out/index.html").read_text()
    assert "<td>FixNorm</td><td>0.02</td><td>0.800 ± 0.000</td>" in html
    assert "FixNorm, lr 0.02 is not shown" in html  # a formula leaves nothing of a run
    again, more = formula()
    assert (again, more) == (table, started)
    longer, more = formula(Comparison(seeds=(1, 2, 3)), jobs=3)
    assert sorted(more[len(started) :]) == [f"final_{i}_lr0.02_seed3" for i in range(3)]
    assert "| 3 |" in longer


@pytest.mark.slow
def test_runs_of_an_older_comparison_are_read(formula, tmp_path):
    """It had no study: a folder for each run, with a result of its own form."""
    out = tmp_path / "out"
    for i, method in enumerate(METHODS):
        for rate, ap in ((0.01, 0.1), (0.02, 0.3), (0.04, 0.2)):
            folder = out / f"trial_{i}_lr{rate:g}"
            folder.mkdir(parents=True)
            (folder / "log.txt").write_text("…")
            (folder / "config.py").write_text("model = dict()")  # mmengine's copy
            found = dict(method=method, lr=rate, seed=0, bbox_mAP=ap, bbox_mAP_50=2 * ap)
            (folder / "result.json").write_text(json.dumps(found))
    table, started = formula(jobs=3)
    assert {name.split("_")[0] for name in started} == {"final"} and len(started) == 6
    assert "0.01 → 0.100, 0.02 → 0.300, 0.04 → 0.200" in table


@pytest.mark.slow
def test_a_run_that_fails_ends_the_comparison_with_its_log(formula):
    formula.told["crash"] = {"trial_1": 1}
    with pytest.raises(
        BadInput, match=r"trial_1_lr.* did not finish \(status 1: .*out of luck.*log"
    ):
        formula()
    table, _ = formula(jobs=3)  # the cause is gone
    assert table.count("0.800 ± 0.000") == 3


@pytest.mark.slow
@pytest.mark.parametrize("model", [DETECTORS[0], *SEGMENTERS])
def test_comparing_too_few_images_is_one_sentence(model, real_data, tmp_path):
    some = some_streets if model in SEGMENTERS else some_coco
    folder = some(real_data / ("camvid" if model in SEGMENTERS else "bccd"), tmp_path / "few")
    command = [sys.executable, ROOT / "tools/compare.py", folder, "--model", model]
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0 and "has 8 images to train on" in done.stderr
    assert "Traceback" not in done.stderr


def processes_of(folder: Path) -> list[str]:
    """Those that have this folder in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = file.read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in words and alive(int(file.parent.name)):
                found.append(words)
    return found


@pytest.mark.slow
def test_a_scheduler_s_signal_to_the_command_alone_leaves_nothing_running(tmp_path):
    """While the trials load their images in processes of their own."""
    data, out = tmp_path / "data", tmp_path / "out"
    toy = make_toy_coco(data, ("disc", "box"), n_images=90)
    (toy / "images").mkdir()
    for part in ("train", "val"):
        (toy / f"{part}2017").rename(toy / "images" / part)
        (toy / f"annotations/instances_{part}2017.json").rename(
            toy / f"annotations/instances_{part}.json"
        )
    process = start(ROOT / "tools/compare.py", data, "--out", out, "--jobs", 2)
    until(lambda: len(list(out.glob("*/*/*.log"))) == 2 or process.poll() is not None, 240)
    assert len(processes_of(out)) >= 3
    process.terminate()
    how = "start the same command again: it goes on where it was"
    assert one_sentence(process, 130).endswith(how)
    until(lambda: not processes_of(out), 5)
