"""Comparing methods on a folder: which rates are tried, what is held out, what is reported."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
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
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from normfix_mm.datasets import coco_folder, seg_folder


def compare_module():
    spec = importlib.util.spec_from_file_location("compare", ROOT / "tools/compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_model_has_its_three_configs():
    compare = compare_module()
    models = sorted(DETECTORS + SEGMENTERS + CLASSIFIERS)
    found = {compare.config_of(model, method) for model in models for method in compare.METHODS}
    assert found == set(CONFIGS)
    with pytest.raises(compare.BadInput, match=f"choose {', '.join(models)}"):
        compare.config_of("retinanet", "FixNorm")


def test_masks_are_judged_and_reported_where_there_are_masks():
    compare = compare_module()
    boxes = dict(method="FixNorm", lr=0.1, bbox_mAP=0.5, bbox_mAP_50=0.8, bbox_mAP_75=0.4)
    masks = boxes | dict(segm_mAP=0.25, segm_mAP_50=0.5, segm_mAP_75=0.125)
    other = masks | dict(segm_mAP=0.75)
    assert compare.judged(boxes) == 0.5 and compare.judged(masks) == 0.25
    assert compare.best([masks, other]) is other
    table = compare.report({}, {"FixNorm": [masks, other], "decay": [masks]})
    assert "| method | lr | box AP | box AP50 | box AP75 | mask AP |" in table
    assert "| 0.500 ± 0.354 |" in table and "| 0.250 |" in table
    assert "mask" not in compare.report({"FixNorm": [boxes]}, {"FixNorm": [boxes]})


def test_images_are_reported_in_percent_and_by_class():
    compare = compare_module()
    one = {"method": "FixNorm", "lr": 0.1, "accuracy/top1": 60.0, "recall/cat": 50.0}
    other = one | {"accuracy/top1": 64.0, "recall/cat": 52.0}
    assert compare.judged(one) == 60.0 and compare.best([one, other]) is other
    table = compare.report({}, {"FixNorm": [one, other]})
    assert "| method | lr | top-1 | seeds |" in table and "| 62.0 ± 2.8 |" in table
    assert "| recall | FixNorm |" in table and "| cat | 51.0 ± 1.4 |" in table
    cfg = Config.fromfile(config_of("resnet_r18", "baseline"), import_custom_modules=False)
    assert compare.metrics_of(cfg) == ["accuracy/top1"]


def test_pixels_are_reported_in_percent_and_by_class():
    compare = compare_module()
    one = dict(method="FixNorm", lr=0.1, mIoU=40.0, mAcc=50.0, aAcc=80.0) | {"IoU/Sky": 90.0}
    other = one | {"mIoU": 42.0, "IoU/Sky": 80.0, "IoU/Car": 7.0}
    assert compare.judged(one) == 40.0 and compare.best([one, other]) is other
    table = compare.report({"FixNorm": [one]}, {"decay": [one, other], "FixNorm": [other]})
    assert "| method | trials: lr → mIoU held out |" in table and "| 0.1 → 40.0, best" in table
    assert "| decay | 0.1 | 41.0 ± 1.4 | 50.0 ± 0.0 | 80.0 ± 0.0 | 2 |" in table
    assert "| IoU | decay | FixNorm |\n|---|---|---|\n| Sky | 85.0 ± 7.1 | 80.0 |" in table
    assert table.endswith("| Car | 7.0 | 7.0 |")  # in one of the runs


def test_runs_of_another_comparison_are_not_taken_for_this_one_s(tmp_path):
    compare = compare_module()
    one = (tmp_path / "out", "retinanet_r18_fpn", tmp_path / "cells", None)
    compare.begin(*one[:2], tmp_path / "misspelled", None)  # nothing was run there
    compare.begin(*one)
    (one[0] / "trial").mkdir()
    (one[0] / "trial/log.txt").touch()
    compare.begin(*one)  # interrupted, and given again
    note = one[0] / "comparison.json"
    note.write_text(note.read_text().replace('"model"', '"detector"'))  # of an earlier version
    compare.begin(*one)
    for i, other in ((1, "mask-rcnn_r18_fpn"), (2, tmp_path / "nuclei"), (3, ["cell"])):
        with pytest.raises(compare.BadInput, match="out holds the runs of retinanet.*cells.*--out"):
            compare.begin(*one[:i], other, *one[i + 1 :])


def test_held_out_images_are_not_trained_on(real_data, tmp_path):
    rest, held = coco_folder.hold_out(real_data / "bccd", tmp_path, 40)
    names = [
        {image["file_name"] for image in json.loads(path.read_text())["images"]}
        for path in (rest, held)
    ]
    assert len(names[1]) == 40 and len(names[0]) == 165 and not names[0] & names[1]
    again = tmp_path / "again"
    again.mkdir()
    assert [path.read_text() for path in coco_folder.hold_out(real_data / "bccd", again, 40)] == [
        rest.read_text(),
        held.read_text(),
    ]


def test_held_out_streets_are_not_trained_on(real_data, tmp_path):
    rest, held = seg_folder.hold_out(real_data / "camvid", tmp_path, 40)
    names = [set(path.read_text().split()) for path in (rest, held)]
    assert len(names[1]) == 40 and len(names[0]) == 113 and not names[0] & names[1]
    cfg = Config.fromfile(CONFIGS[-1])
    seg_folder.use_folder(cfg, real_data / "camvid", CAMVID, rest, held, "train")
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
        (coco_folder, config_of(DETECTORS[0], "fixnorm"), "bccd"),
        (seg_folder, CONFIGS[-1], "camvid"),
    ],
)
def test_validation_images_are_those_of_the_final_test(kind, config, images, real_data):
    cfg = kind.use_folder(Config.fromfile(config), real_data / images)
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
    rest, held = seg_folder.hold_out(root, tmp_path, 3)
    cfg = seg_folder.use_folder(Config.fromfile(CONFIGS[-1]), root, None, rest, held, "train")
    with DefaultScope.overwrite_default_scope("mmseg"):
        sets = [DATASETS.build(each.dataset) for each in (cfg.train_dataloader, cfg.val_dataloader)]
    infos = [[data.get_data_info(i) for i in range(len(data))] for data in sets]
    assert [len(part) for part in infos] == [5, 3]
    assert len({info["img_path"] for part in infos for info in part}) == 8
    assert all(Path(info["seg_map_path"]).is_file() for part in infos for info in part)


def test_the_classes_of_unnamed_labels_are_counted(real_data):
    cfg = seg_folder.use_folder(Config.fromfile(CONFIGS[-1]), real_data / "camvid")
    classes = tuple(map(str, range(11)))
    assert cfg.train_dataloader.dataset.metainfo.classes == classes
    heads = cfg.model.decode_head, cfg.model.auxiliary_head
    assert [head.num_classes for head in heads] == [11, 11]


def test_grid_grows_until_the_best_is_inside_and_equally_for_all():
    compare = compare_module()
    peaks = {"baseline (decay)": 0.02, "WS + ε-shift": 0.08, "FixNorm": 0.005}

    class Pool:
        def submit(self, _, args, method, rate, seed, name, split):
            value = -abs(torch.tensor(rate / peaks[method]).log2().item())
            run = {"lr": rate, "bbox_mAP": value}
            return type("Future", (), {"result": lambda self: run})()

    trials = compare.tune(SimpleNamespace(rate=0.02), Pool(), None)
    assert len({len(runs) for runs in trials.values()}) == 1
    for method, runs in trials.items():
        assert compare.best(runs)["lr"] == pytest.approx(peaks[method])
        assert not compare.at_edge(runs)


def test_a_method_that_learns_nothing_ends_the_search():
    compare = compare_module()

    class Pool:
        def submit(self, _, args, method, rate, seed, name, split):
            run = {"lr": rate, "bbox_mAP": 0.0}
            return type("Future", (), {"result": lambda self: run})()

    trials = compare.tune(SimpleNamespace(rate=0.02), Pool(), None)
    assert {len(runs) for runs in trials.values()} == {3 + compare.EXTENSIONS}


@pytest.mark.parametrize("model", [DETECTORS[0], *SEGMENTERS])
def test_comparing_too_few_images_is_one_sentence(model, real_data, tmp_path):
    some = some_streets if model in SEGMENTERS else some_coco
    folder = some(real_data / ("camvid" if model in SEGMENTERS else "bccd"), tmp_path / "few")
    command = [sys.executable, ROOT / "tools/compare.py", folder, "--model", model]
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode != 0 and "has 8 images" in done.stderr
    assert "Traceback" not in done.stderr
