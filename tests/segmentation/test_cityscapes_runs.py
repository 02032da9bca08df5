"""From a Cityscapes folder to its server: the shipped config, narrow, on a miniature of the data.

Prepare, train, evaluate in both ways, write predictions; by our commands and by MMSegmentation's.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling
from helpers.tool import call, log_of
from helpers.toy_cityscapes import SIZE, make_toy_cityscapes, small_options
from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image
from segmentation.ocnet_configs import ROOT, ROWS
from torch import distributed, nn

from normfix_mm.run import predictions
from normfix_mm.run.runner import build_runner

pytestmark = pytest.mark.slow

BASELINE, FIXNORM = ROWS[0], ROWS[2]
ITERATIONS = 20


def as_options(options: dict) -> list[str]:
    return [f"{k}={v}".replace(" ", "") for k, v in options.items() if not isinstance(v, dict)]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    root = make_toy_cityscapes(tmp_path_factory.mktemp("data") / "cityscapes")
    call("prepare_cityscapes.py", root)
    return root


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory):
    """A config file: the shipped FixNorm config, narrow, trained for a few iterations."""
    options = small_options(toy) | {"train_cfg.max_iters": ITERATIONS}
    options |= {
        "train_cfg.val_interval": ITERATIONS,
        "default_hooks.checkpoint.interval": ITERATIONS,
    }
    cfg = Config.fromfile(FIXNORM.path)
    cfg.merge_from_dict(options)
    cfg.dump(file := tmp_path_factory.mktemp("config") / "small.py")
    return file


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("run")
    call("train.py", small, "--work-dir", work_dir)
    return work_dir


@pytest.fixture(scope="module")
def checkpoint(trained):
    return trained / f"iter_{ITERATIONS}.pth"


def test_training_prints_the_iou_of_each_class(trained, checkpoint):
    log = log_of(trained)
    assert checkpoint.exists()
    for name in ("road", "traffic light", "bicycle"):
        assert re.search(rf"\| +{name} +\|", log)
    assert re.search(r"Iter\(val\).*mIoU: [\d.]+", log)
    assert "NormFixHook: all 63 weights are scale-invariant." in log
    losses = [float(each) for each in re.findall(r" loss: ([\d.]+)", log)]
    assert len(losses) == ITERATIONS and losses[-1] < 0.9 * losses[0]
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert "decode_head.context.context.W.g" in state


@pytest.fixture(scope="module")
def tested(small, checkpoint, tmp_path_factory):
    """The log of an evaluation that keeps the predictions, and their folder."""
    folder = tmp_path_factory.mktemp("test")
    call(
        "test.py", small, checkpoint, "--work-dir", folder / "work", "--out", folder / "kept",
        "--show-dir", folder / "pictures",
    )  # fmt: skip
    return log_of(folder / "work"), folder


def test_the_official_evaluation_agrees_with_mmsegmentation_s(tested):
    log, _ = tested
    line = re.findall(r"Iter\(test\).*mIoU: .*", log)[-1]
    found = {k: float(v) for k, v in re.findall(r"(\S+): ([\d.]+)", line)}
    assert found["official/IoU_class"] == pytest.approx(found["mIoU"], abs=0.011)
    assert found["mIoU"] > 1
    assert "cityscapesScripts:" in log


def test_out_and_show_dir(tested):
    _, folder = tested
    assert len(list((folder / "kept").glob("*.png"))) == 3
    assert not (folder / "kept.part").exists()
    pictures = list((folder / "pictures").rglob("*.png"))
    assert len(pictures) == 3
    with Image.open(pictures[0]) as image:
        assert image.size == (2 * SIZE[0], SIZE[1])  # labels beside the prediction


def test_format_only_is_what_the_server_evaluates(small, checkpoint, tested, toy, tmp_path, capsys):
    """On val, where the truth is known: cityscapesScripts gets the same mIoU from the files."""
    log, _ = tested
    call(
        "test.py", small, checkpoint, "--work-dir", tmp_path / "w", "--format-only",
        f"{tmp_path / 'o'}/",  # as shells complete the name of a folder
    )  # fmt: skip
    assert f"3 predictions in {tmp_path / 'o'}" in capsys.readouterr().out
    assert "mIoU" not in log_of(tmp_path / "w").rpartition("Iter(test)")[2]
    predictions = sorted(map(str, (tmp_path / "o").iterdir()))
    truths = sorted(map(str, toy.glob("gtFine/val/*/*_labelIds.png")))
    names = [Path(path).name.removesuffix("_gtFine_labelIds.png") for path in truths]
    assert [Path(path).name for path in predictions] == [f"{n}_leftImg8bit.png" for n in names]
    evaluation = evalPixelLevelSemanticLabeling
    evaluation.args.quiet, evaluation.args.JSONOutput = True, False
    found = evaluation.evaluateImgLists(predictions, truths, evaluation.args)
    expected = re.findall(r" mIoU: ([\d.]+)", log)[-1]
    assert 100 * found["averageScoreClasses"] == pytest.approx(float(expected), abs=0.011)


def test_the_test_images_need_no_labels(small, checkpoint, toy, tmp_path):
    assert not list(toy.glob("gtFine/test/*/*"))
    call(
        "test.py", small, checkpoint, "--work-dir", tmp_path / "w", "--format-only", tmp_path / "o",
        "--tta",
        "--cfg-options", "test_dataloader.dataset.data_prefix.img_path=leftImg8bit/test",
    )  # fmt: skip
    files = sorted((tmp_path / "o").iterdir())
    assert [path.name for path in files] == [
        "berlin_000000_000019_leftImg8bit.png",
        "berlin_000001_000019_leftImg8bit.png",
    ]
    for path in files:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("L", SIZE)
            assert np.asarray(image).max() <= 33


def test_tta_without_a_word_in_the_config_flips_the_image_and_not_the_labels(small):
    cfg = Config.fromfile(small)
    for key in ("tta_pipeline", "tta_model"):
        cfg.pop(key)
    predictions.use_tta(cfg)
    assert cfg.model.type == "SegTTAModel"
    with DefaultScope.overwrite_default_scope("mmseg"):
        views = DATASETS.build(cfg.test_dataloader.dataset)[0]
    flipped, plain = views["inputs"]
    assert torch.equal(flipped, plain.flip(-1)) and not torch.equal(flipped, plain)
    labels = [sample.gt_sem_seg.data for sample in views["data_samples"]]
    assert torch.equal(*labels) and not torch.equal(labels[0], labels[0].flip(-1))


def test_a_concatenated_test_set(small, checkpoint, toy, tmp_path):
    """Two cities, each a dataset; with flips, and predictions alone."""
    cfg = Config.fromfile(small)
    cities = [
        dict(cfg.test_dataloader.dataset, indices=[index], pipeline=cfg.test_pipeline)
        for index in (0, 1)
    ]
    cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=cities)
    cfg.dump(file := tmp_path / "two.py")
    for flag in ("--out", "--format-only"):
        folder = tmp_path / flag.strip("-")
        call("test.py", file, checkpoint, "--work-dir", tmp_path / "w", flag, folder, "--tta")
        assert len(list(folder.iterdir())) == 2


def test_predictions_of_one_name(small, checkpoint, tmp_path, capsys):
    """The same image in two folders."""
    data = Config.fromfile(small).test_dataloader.dataset
    for city in ("a", "b"):
        source = Path(data.data_root) / data.data_prefix.img_path
        (tmp_path / city).mkdir()
        shutil.copy(next(source.rglob("*.png")), tmp_path / city)
    options = [f"data_root={tmp_path}", "data_prefix.img_path=.", "data_prefix.seg_map_path=."]
    with pytest.raises(SystemExit, match=r"would be one file, .*\.png; write those of one folder"):
        call(
            "test.py", small, checkpoint, "--work-dir", tmp_path / "w", "--format-only",
            tmp_path / "o", "--cfg-options", *(f"test_dataloader.dataset.{o}" for o in options),
        )  # fmt: skip
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--out", "a.pkl"], "--out of a segmenter is a folder"),
        (["--out", "a", "--format-only", "b"], "Give --out or --format-only, not both"),
    ],
)
def test_flags_that_make_no_sense(small, checkpoint, flags, sentence, tmp_path):
    with pytest.raises(SystemExit, match=f"error: {sentence}"):
        call("test.py", small, checkpoint, "--work-dir", tmp_path, *flags)


@pytest.mark.parametrize("name", ["there", "there.part"])
def test_predictions_are_never_mixed_with_others(small, checkpoint, tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(SystemExit, match=f"error: .*{name}' exists already; remove it"):
        call("test.py", small, checkpoint, "--format-only", tmp_path / "there")


def test_an_unprepared_folder_is_one_sentence(small, tmp_path):
    root = make_toy_cityscapes(tmp_path / "fresh")
    options = [f"{p}_dataloader.dataset.data_root={root}" for p in ("train", "val", "test")]
    with pytest.raises(SystemExit, match="error: 4 of 4 images .* have no label file"):
        call("train.py", small, "--work-dir", tmp_path / "w", "--cfg-options", *options)


def test_mmsegmentation_s_own_train_py_takes_the_shipped_config(toy, tmp_path):
    """Untouched but for --cfg-options: width, folder, length."""
    tool = Path(mmseg.__file__).parent / ".mim/tools/train.py"
    options = small_options(toy) | {"train_cfg.max_iters": 2}
    env = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")
    done = subprocess.run(
        [
            sys.executable, tool, FIXNORM.path, "--work-dir", tmp_path,
            "--cfg-options", *as_options(options),
        ],
        env=env, text=True, capture_output=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "norm fixing" in done.stdout and "Iter(train) [2/2]" in done.stdout
    assert (tmp_path / "last_checkpoint").exists()


# The others differ from these two and from the one above in numbers alone.
@pytest.mark.parametrize("row", [BASELINE, *ROWS[-2:]], ids=lambda row: row.name)
def test_the_other_contexts_and_losses_train(row, toy, tmp_path):
    options = small_options(toy) | {"train_cfg.max_iters": 2}
    call("train.py", row.path, "--work-dir", tmp_path, "--cfg-options", *as_options(options))
    log = log_of(tmp_path)
    rates = [float(rate) for rate in re.findall(r"Iter\(train\).* lr: (\S+)", log)]
    assert rates == pytest.approx([row.rate] * 2, rel=1e-3)
    losses = [float(loss) for loss in re.findall(r" (?:decode|aux)\.loss_ce: (\S+)", log)]
    assert len(losses) == 4 and np.isfinite(losses).all()


def test_over_gloo_bn_is_not_synchronized(small, tmp_path):
    """SyncBN needs GPUs; one rank is enough to see that ours leaves it out."""
    cfg = Config.fromfile(small)
    cfg.launcher, cfg.work_dir = "pytorch", str(tmp_path)
    assert cfg.sync_bn == "torch"
    place = dict(RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", MASTER_ADDR="127.0.0.1")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (place | dict(MASTER_PORT="29571")).items():
            patch.setenv(name, value)
        runner = build_runner(cfg)
        distributed.destroy_process_group()
    kinds = {type(module) for module in runner.model.modules()}
    assert nn.BatchNorm2d in kinds and nn.SyncBatchNorm not in kinds
