"""A config of ImageNet's rows, trained and evaluated on a tree that is laid out as ImageNet is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.tool import call
from PIL import Image

from normfix_mm.classification.class_accuracy import ClassAccuracy

CONFIG = Path(__file__).parents[2] / "configs/classification/fixnorm_16xb64_imagenet.py"


@pytest.mark.slow
def test_a_row_is_trained_and_evaluated_by_the_command(tmp_path, monkeypatch):
    """ImageNet's own names of classes count, of which two are the same: a crane and a crane."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (40, 48, 3), np.uint8))
    noise.save(tmp_path / "noise.JPEG")
    for part in ("train", "val"):
        for k in range(1000):
            folder = tmp_path / f"data/imagenet/{part}/n{k:08}"
            folder.mkdir(parents=True)
            (folder / f"{part}.JPEG").hardlink_to(tmp_path / "noise.JPEG")
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1"]
    options += ["train_dataloader.batch_size=3"]
    options += [f"{part}_dataloader.dataset.indices=6" for part in ("train", "val")]
    options += [f"{part}_dataloader.num_workers=0" for part in ("train", "val")]
    options += ["train_dataloader.dataset.pipeline.1.scale=32"]
    options += ["val_dataloader.dataset.pipeline.1.scale=32"]
    options += ["val_dataloader.dataset.pipeline.2.crop_size=32"]
    row = ["--row", "r50d_fixnorm-120e", "--work-dir", "run"]
    call("train.py", CONFIG, *row, "--cfg-options", *options)
    lines = next(Path("run").glob("*/vis_data/scalars.json")).read_text().splitlines()
    assert "accuracy/top1" in json.loads(lines[-1])


def test_classes_of_one_name_have_a_recall_each():
    metric = ClassAccuracy()
    metric.dataset_meta = dict(classes=("crane", "owl", "crane"))
    results = [
        dict(gt_label=torch.tensor([truth]), pred_label=torch.tensor([found]))
        for truth, found in ((0, 0), (0, 2), (1, 1), (2, 2))
    ]
    metrics = metric.compute_metrics(results)
    recalls = {key: value for key, value in metrics.items() if key.startswith("recall/")}
    assert recalls == {"recall/crane (0)": 50.0, "recall/owl": 100.0, "recall/crane (2)": 100.0}
