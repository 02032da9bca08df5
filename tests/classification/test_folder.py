"""Classifiers on a folder of real images by class: the real commands, from training to the page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_folders import METHODS, config_of, some_classes
from helpers.tool import call
from mmengine.config import Config
from mmengine.runner import Runner

from normfix_mm.datasets import folder_of
from normfix_mm.datasets.class_folder import ClassFolder
from normfix_mm.datasets.folder import Split
from normfix_mm.errors import BadInput
from normfix_mm.models.build import build_model
from normfix_mm.report import labels
from normfix_mm.report.__main__ import main as report
from normfix_mm.report.run import Run

pytestmark = pytest.mark.slow

CLASSES = ("airplane", "automobile", "bird")
QUICK = (
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=1",
    "train_dataloader.batch_size=8",
    "default_hooks.logger.interval=1",
    *(
        f"{loader}_dataloader.{option}"
        for loader in ("train", "val", "test")
        for option in ("num_workers=0", "persistent_workers=False")
    ),
)


@pytest.fixture(scope="module")
def folder(real_data, tmp_path_factory) -> Path:
    return some_classes(
        real_data / "cifar10", tmp_path_factory.mktemp("images"), train=8, val=4, classes=3
    )


@pytest.fixture(scope="module")
def runs(folder, tmp_path_factory) -> dict[str, Path]:
    """Work dirs of the three methods, after two epochs."""
    root = tmp_path_factory.mktemp("runs")
    for method in METHODS:
        config = config_of("resnet_r18", method)
        call(
            "train_folder.py", config, folder, "--work-dir", root / method, "--cfg-options", *QUICK
        )
    return {method: root / method for method in METHODS}


def config_in(work_dir: Path) -> Path:
    (path,) = work_dir.glob("*.py")
    return path


def evaluations(work_dir: Path) -> list[dict]:
    lines = [
        json.loads(line)
        for path in sorted(work_dir.glob("*/vis_data/scalars.json"))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if "accuracy/top1" in line]


@pytest.mark.parametrize("method", METHODS)
def test_one_command_trains_by_each_method(runs, method):
    run = Run.load(runs[method])
    assert run.scope == "mmpretrain" and max(run.train) == 6
    assert len(evaluations(runs[method])) == 2
    last = evaluations(runs[method])[-1]
    recalls = [last[f"recall/{name}"] for name in CLASSES]
    assert sum(recalls) / 3 == pytest.approx(last["accuracy/top1"], abs=0.01)  # 4 images each
    assert "accuracy/top5" not in last  # there are three classes
    state = torch.load(runs[method] / "epoch_2.pth", weights_only=False)
    assert ("norm_fix" in state) == (method == "fixnorm")
    assert state["meta"]["dataset_meta"]["classes"] == CLASSES
    norms = run.curve("joint_norm")[1]
    assert (np.ptp(norms) < 1e-6 * norms[0]) == (method == "fixnorm")


def test_evaluation_from_the_checkpoint_is_that_of_the_training(runs, tmp_path):
    work_dir = runs["ws-eps"]
    arguments = [config_in(work_dir), work_dir / "epoch_2.pth", "--work-dir", tmp_path]
    call("test.py", *arguments, "--out", tmp_path / "answers.pkl", "--show-dir", tmp_path / "seen")
    result = json.loads(next(tmp_path.glob("*/*.json")).read_text())
    assert result["accuracy/top1"] == evaluations(work_dir)[-1]["accuracy/top1"]
    assert (tmp_path / "answers.pkl").stat().st_size > 0
    # Images of one name in several classes all have their picture.
    pictures = sorted(p.relative_to(tmp_path / "seen").as_posix() for p in tmp_path.rglob("*.png"))
    assert len(pictures) == 12 and {p.split("/")[0] for p in pictures} == set(CLASSES)


def test_a_resumed_run_goes_on_where_it_was(runs, folder, tmp_path):
    work_dir = shutil.copytree(runs["fixnorm"], tmp_path / "run")
    (work_dir / "epoch_2.pth").unlink()
    (work_dir / "last_checkpoint").write_text(str(work_dir / "epoch_1.pth"))
    arguments = [folder, "--work-dir", work_dir, "--resume", "--cfg-options", *QUICK]
    call("train_folder.py", config_of("resnet_r18", "fixnorm"), *arguments)
    whole, resumed = (
        torch.load(d / "epoch_2.pth", weights_only=False) for d in (runs["fixnorm"], work_dir)
    )
    for name, value in whole["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], value, msg=name)


@pytest.mark.parametrize("method", ["fixnorm", "ws-eps"])
def test_it_folds_into_a_stock_classifier(runs, method, tmp_path, capsys):
    work_dir = runs[method]
    call("fold.py", config_in(work_dir), work_dir / "epoch_2.pth", tmp_path / "stock")
    assert "scores differ by at most" in capsys.readouterr().out
    stock = Config.fromfile(next((tmp_path / "stock").glob("*.py")))
    assert stock.model.backbone.type == "ResNet" and stock.model.head.type == "LinearClsHead"
    assert stock.val_evaluator.type == "Accuracy"
    assert "normfix" not in str(stock.get("custom_imports"))
    assert not {"alpha", "gain_start"} & set(stock.model.head)


def test_the_page_shows_accuracy_recall_confusion_and_answers(runs, tmp_path):
    page = tmp_path / "page.html"
    report([*map(str, runs.values()), "--out", str(page), "--names", *METHODS])
    text = page.read_text()
    for heading in ("Recall of each class", "Which class is taken for which", "ground truth"):
        assert f"<h3>{heading}</h3>" in text
    assert "12 of 12 validation images" in text
    assert (
        "lean over the boundaries" in text
        and "MCBR at fc" in text
        and "whose class is the first" in text
    )
    table = re.search(r'<table class="figures classes">(.*?)</table>', text, re.S)[1]
    rows = [re.findall(r"<t[dh]>(.*?)</t[dh]>", row) for row in table.split("</tr>")[:-1]]
    assert [row[0] for row in rows] == ["class", *CLASSES, "all images"]
    last = evaluations(runs["baseline"])[-1]
    assert [float(row[1]) for row in rows[1:4]] == pytest.approx(
        [last[f"recall/{name}"] / 100 for name in CLASSES], abs=6e-4
    )


def test_confusions_are_the_answers_counted_by_hand(runs, folder):
    run = Run.load(runs["baseline"])
    found = labels.confusion(run)
    cfg = run.config
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(run.checkpoint, weights_only=False)["state_dict"])
    from mmengine.dataset import Compose, pseudo_collate
    from mmengine.registry import DefaultScope

    expected = np.zeros((3, 3), int)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        pipeline = Compose(cfg.val_dataloader.dataset.pipeline)
    for truth, name in enumerate(CLASSES):
        for path in sorted((folder / "val" / name).iterdir()):
            sample = pipeline(dict(img_path=str(path), gt_label=truth))
            with torch.no_grad():
                answer = model.test_step(pseudo_collate([sample]))[0]
            expected[truth, int(answer.pred_label)] += 1
    assert found.names == CLASSES and (found.counts == expected).all() and found.of == 12


@torch.no_grad()
@pytest.mark.parametrize("method", ["baseline", "fixnorm"])
def test_the_logged_risk_is_eq_9_of_the_validation_images(runs, method):
    run = Run.load(runs[method])
    model = build_model(run.config).eval()
    model.load_state_dict(torch.load(run.checkpoint, weights_only=False)["state_dict"])
    weight, risks = model.head.fc.weight.double(), []  # FixNorm's has a factor, the same for all
    for item in Runner.build_dataloader(run.config.val_dataloader).dataset:
        batch = dict(inputs=[item["inputs"]], data_samples=[item["data_samples"]])
        x = model.extract_feat(model.data_preprocessor(batch)["inputs"])[-1][0].double()
        k = int(item["data_samples"].gt_label)
        cosines = [
            torch.cosine_similarity(x, weight[j] - weight[k], dim=0) for j in range(3) if j != k
        ]
        risks.append(float(sum(cosines)) / 2)
    found = run.val_curve("mcbr/head.fc")[1]
    assert len(risks) == 12 and len(found) == 2
    assert found[-1] == pytest.approx(sum(risks) / 12, abs=1e-6)


# -- the folder ---------------------------------------------------------------------------------


def test_a_folder_without_a_split_keeps_every_fifth_image_of_a_class_for_validation(
    folder, tmp_path
):
    flat = shutil.copytree(folder / "train", tmp_path / "flat")
    (flat / "bird" / ".hidden.jpg").write_bytes(b"")
    (flat / ".cache").mkdir()
    images = ClassFolder(flat)
    assert images.classes(Split("train", None)) == list(CLASSES)
    parts = {part: images.images(part, CLASSES) for part in ("train", "val")}
    assert {k: len(v) for k, v in parts.items()} == {"train": 21, "val": 3}
    assert {label for _, label in parts["val"]} == {0, 1, 2}
    assert not set(parts["train"]) & set(parts["val"])
    assert parts["val"] == ClassFolder(flat).images("val", CLASSES)


def test_classes_may_be_chosen_and_ordered(folder, tmp_path):
    cfg = Config.fromfile(config_of("resnet_r18", "fixnorm"))
    cfg.work_dir = str(tmp_path)
    folder_of(cfg, folder).use(cfg, classes=("bird", "airplane"))
    assert cfg.model.head.num_classes == cfg.model.data_preprocessor.num_classes == 2
    lines = Path(cfg.train_dataloader.dataset.ann_file).read_text().splitlines()
    assert {line.rsplit("/")[0]: line[-1] for line in lines} == {"bird": "0", "airplane": "1"}


def spoil(folder: Path, how: str) -> None:
    first = sorted((folder / "train/bird").iterdir())[0]
    if how == "no val":
        shutil.rmtree(folder / "val")
    elif how == "another class":
        (folder / "val/bird").rename(folder / "val/zebra")
    elif how == "a class less":
        shutil.rmtree(folder / "val/bird")
    elif how == "an empty class":
        for path in (folder / "train/bird").iterdir():
            path.unlink()
    elif how == "one class":
        for part in ("train", "val"):
            shutil.rmtree(folder / part / "bird"), shutil.rmtree(folder / part / "airplane")
    elif how == "a cut image":
        first.write_bytes(first.read_bytes()[:500])
    elif how == "text":
        first.write_text("not an image")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no val", r"val does not exist; a classification folder has \{train,val\}/CLASS/"),
        ("another class", "val has a class 'zebra' that .*train does not have"),
        ("a class less", "val has no class folder 'bird'; it has airplane, automobile"),
        ("an empty class", "train/bird has no image that ends in"),
        ("one class", "train has 1 folders, not two or more"),
        ("a cut image", "picture .* of train_dataloader.dataset"),
        ("text", "picture .* of train_dataloader.dataset"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_a_sentence_before_training(
    folder, tmp_path, how, message
):
    copy = shutil.copytree(folder, tmp_path / "copy")
    spoil(copy, how)
    arguments = ["--work-dir", tmp_path / "run", "--cfg-options", *QUICK]
    with pytest.raises(SystemExit) as stopped:
        call("train_folder.py", config_of("resnet_r18", "baseline"), copy, *arguments)
    assert re.search(message, str(stopped.value)), stopped.value
    assert "\n" not in str(stopped.value) and not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.head.num_classes=4"], "num_classes=4, but train_dataloader.dataset has 3 classes"),
        (["val_evaluator.topk=(1,5)"], "counts the best 5 guesses of 3 classes"),
        (
            ["val_dataloader.dataset.metainfo.classes=(bird,airplane,automobile)"],
            "label 0 is 'airplane' in train_dataloader.dataset, 'bird' in val_dataloader.dataset",
        ),
    ],
)
def test_a_config_that_contradicts_its_data_is_a_sentence(runs, tmp_path, options, message):
    arguments = ["--work-dir", tmp_path, "--cfg-options", *options]
    with pytest.raises(SystemExit, match=message):
        call("train.py", config_in(runs["baseline"]), *arguments)


def test_a_list_that_names_what_is_not_there_is_a_sentence(runs, tmp_path):
    (listed,) = (runs["baseline"] / "images").glob("*_train.txt")
    images = tmp_path / "images.txt"
    for line, message in (
        ("bird/none.jpg 2", "none.jpg"),
        ("bird/0000.jpg 3", "has the label 3, which is no class of model.head"),
    ):
        images.write_text(listed.read_text() + line + "\n")
        options = [f"train_dataloader.dataset.ann_file={images}"]
        with pytest.raises(SystemExit, match=message):
            call(
                "train.py", config_in(runs["baseline"]), "--work-dir", tmp_path,
                "--cfg-options", *options,
            )  # fmt: skip


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    cfg = Config.fromfile(config_of("resnet_r18", "fixnorm"))
    with pytest.raises(BadInput, match="does not exist; a classification folder has"):
        folder_of(cfg, tmp_path / "nowhere").use(cfg)
    with pytest.raises(BadInput, match="does not exist; a classification folder has"):
        ClassFolder(tmp_path / "nowhere").hold_out(tmp_path, 2)


def test_images_are_held_out_of_the_training_images_alone(folder, tmp_path):
    rest, held = ClassFolder(folder).hold_out(tmp_path, 6)
    lines = [path.read_text().splitlines() for path in (rest, held)]
    assert [len(part) for part in lines] == [18, 6] and not set(lines[0]) & set(lines[1])
    cfg = Config.fromfile(config_of("resnet_r18", "fixnorm"))
    cfg.work_dir = str(tmp_path)
    folder_of(cfg, folder).use(cfg, None, rest, held, "train")
    assert cfg.val_dataloader.dataset.data_prefix == dict(img_path="train")
    assert (folder / "train" / lines[1][0].rsplit(" ")[0]).is_file()
