"""Training and comparing on a COCO-format folder: real images, the real commands."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from normfix_mm.datasets.coco_folder import use_folder

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs/coco_folder").glob("*.py"))


DETECTORS = ("retinanet_r18_fpn", "mask-rcnn_r18_fpn", "cascade-mask-rcnn_r18_fpn")


def some_of(source: Path, folder: Path) -> Path:
    """Eight training and four validation images of a set, in the same layout."""
    (folder / "annotations").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 4)):
        data = json.loads((source / f"annotations/instances_{split}.json").read_text())
        data["images"] = data["images"][:count]
        kept = {image["id"] for image in data["images"]}
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] in kept]
        (folder / f"annotations/instances_{split}.json").write_text(json.dumps(data))
        (folder / "images" / split).mkdir(parents=True)
        for image in data["images"]:
            shutil.copy(source / "images" / split / image["file_name"], folder / "images" / split)
    return folder


@pytest.fixture
def blood_cells(real_data: Path, tmp_path: Path) -> Path:
    return some_of(real_data / "bccd", tmp_path / "cells")


@pytest.fixture
def nuclei(real_data: Path, tmp_path: Path) -> Path:
    return some_of(real_data / "nuclei", tmp_path / "nuclei")


def compare_module():
    spec = importlib.util.spec_from_file_location("compare", ROOT / "tools/compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def find(detector: str, method: str) -> Path:
    (config,) = (ROOT / "configs/coco_folder").glob(f"{detector}_{method}_*.py")
    return config


@pytest.mark.parametrize(
    ("detector", "method"),
    [
        *((detector, "fixnorm") for detector in DETECTORS),
        *((detector, "ws-eps") for detector in DETECTORS[:2]),
    ],
)
def test_one_command_trains_on_real_images(detector, method, request, tmp_path):
    masks = "mask" in detector
    folder = request.getfixturevalue("nuclei" if masks else "blood_cells")
    command = [sys.executable, ROOT / "tools/train_folder.py", find(detector, method), folder]
    command += ["--work-dir", tmp_path / "run", "--cfg-options", "train_cfg.max_epochs=1"]
    command += ["train_dataloader.batch_size=4", "val_dataloader.batch_size=2"]
    command += ["train_cfg.val_interval=1", "train_dataloader.num_workers=0"]
    command += ["train_dataloader.persistent_workers=False", "val_dataloader.num_workers=0"]
    command += ["val_dataloader.persistent_workers=False"]
    command += ["model.test_cfg.rcnn.score_thr=0.0" if masks else "model.test_cfg.score_thr=0.0"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    scalars = next((tmp_path / "run").glob("*/vis_data/scalars.json")).read_text()
    assert "coco/bbox_mAP" in scalars and ("coco/segm_mAP" in scalars) == masks
    assert (tmp_path / "run/epoch_1.pth").exists()
    if method == "fixnorm":
        state = torch.load(tmp_path / "run/epoch_1.pth", weights_only=False)
        assert state["norm_fix"]["target"] > 0


@pytest.mark.parametrize("detector", DETECTORS)
def test_methods_start_from_the_same_weights(detector, blood_cells):
    """Same seed, same stock parameters: normalized layers draw no random number of their own."""
    states = []
    for method in ("baseline", "ws-eps", "fixnorm"):
        cfg = use_folder(Config.fromfile(find(detector, method)), blood_cells)
        init_default_scope("mmdet")
        torch.manual_seed(1)
        model = MODELS.build(cfg.model)
        model.init_weights()
        states.append({k: v for k, v in model.state_dict().items() if not k.endswith(".g")})
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


def test_each_detector_has_its_three_configs():
    compare = compare_module()
    found = {compare.config_of(d, method) for d in DETECTORS for method in compare.METHODS}
    assert found == set(CONFIGS)
    with pytest.raises(compare.BadInput, match=f"choose {', '.join(sorted(DETECTORS))}"):
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


def test_runs_of_another_comparison_are_not_taken_for_this_one_s(tmp_path):
    compare = compare_module()
    one = (tmp_path / "out", "retinanet_r18_fpn", tmp_path / "cells", None)
    compare.begin(*one[:2], tmp_path / "misspelled", None)  # nothing was run there
    compare.begin(*one)
    (one[0] / "trial").mkdir()
    (one[0] / "trial/log.txt").touch()
    compare.begin(*one)  # interrupted, and given again
    for i, other in ((1, "mask-rcnn_r18_fpn"), (2, tmp_path / "nuclei"), (3, ["cell"])):
        with pytest.raises(compare.BadInput, match="out holds the runs of retinanet.*cells.*--out"):
            compare.begin(*one[:i], other, *one[i + 1 :])


def test_held_out_images_are_not_trained_on(real_data, tmp_path):
    rest, held = compare_module().hold_out(real_data / "bccd", tmp_path)
    names = [
        {image["file_name"] for image in json.loads(path.read_text())["images"]}
        for path in (rest, held)
    ]
    assert len(names[1]) == 40 and len(names[0]) == 165 and not names[0] & names[1]
    again = tmp_path / "again"
    again.mkdir()
    assert [path.read_text() for path in compare_module().hold_out(real_data / "bccd", again)] == [
        rest.read_text(),
        held.read_text(),
    ]


def test_grid_grows_until_the_best_is_inside_and_equally_for_all():
    compare = compare_module()
    peaks = {"baseline (decay)": 0.02, "WS + ε-shift": 0.08, "FixNorm": 0.005}

    class Pool:
        def submit(self, _, args, method, rate, seed, name, split):
            value = -abs(torch.tensor(rate / peaks[method]).log2().item())
            run = {"lr": rate, "bbox_mAP": value}
            return type("Future", (), {"result": lambda self: run})()

    trials = compare.tune(None, Pool(), None)
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

    trials = compare.tune(None, Pool(), None)
    assert {len(runs) for runs in trials.values()} == {3 + compare.EXTENSIONS}


def test_comparing_too_few_images_is_one_sentence(blood_cells):
    command = [sys.executable, str(ROOT / "tools/compare.py"), str(blood_cells)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=blood_cells)
    assert done.returncode != 0 and "has 8 images" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("folder", "options", "message"),
    [
        ("nowhere", [], "does not exist"),
        (".", ["--classes", "RBC", "Erythrocyte"], "no class 'Erythrocyte'"),
    ],
)
def test_bad_folder_is_one_sentence(folder, options, message, blood_cells):
    command = [sys.executable, ROOT / "tools/train_folder.py", find(DETECTORS[0], "baseline")]
    command += [blood_cells / folder]
    command = [str(part) for part in [*command, *options]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_a_negative_lambda_is_one_sentence_and_nothing_is_trained(blood_cells, tmp_path):
    config = find(DETECTORS[0], "ws-eps")
    command = [sys.executable, ROOT / "tools/train_folder.py", config, blood_cells]
    command += ["--work-dir", tmp_path / "run"]
    command += ["--cfg-options", "optim_wrapper.paramwise_cfg.eps_shift.lam=-1"]
    command = [str(part) for part in command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "lam must be a finite number ≥ 0, got -1" in last
    assert not (tmp_path / "run").exists()
