"""Pictures of a classifier's answers: in the images' colours, one for each, also with views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS
from PIL import Image

import normfix_mm.classification  # noqa: F401
from normfix_mm.run.predictions import paint, use_tta

LEFT, RIGHT = (200, 10, 20), (10, 120, 200)  # RGB
LOAD = dict(type="LoadImageFromFile")


@DATASETS.register_module(force=True)
class Arrays(BaseDataset):
    """Pictures that are no files, in RGB, as CIFAR's."""

    def load_data_list(self):
        return [dict(img=image(), gt_label=k % 2) for k in range(5)]


def image():
    pixels = np.empty((64, 64, 3), np.uint8)
    pixels[:, :32], pixels[:, 32:] = LEFT, RIGHT
    return pixels


@pytest.fixture
def folder(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.fromarray(image()).save(tmp_path / "images" / kind / name)
    return tmp_path / "images"


def painted(tmp_path: Path, dataset: dict, to_rgb: bool, tta: bool = False) -> list[Path]:
    """The files of a test of a random network, in the order of their names."""
    classifier = dict(
        type="ImageClassifier",
        backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
        neck=dict(type="GlobalAveragePooling"),
        head=dict(type="LinearClsHead", num_classes=2, in_channels=64, topk=(1,)),
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=to_rgb),
    )
    cfg = Config(
        dict(
            default_scope="mmpretrain",
            work_dir=str(tmp_path / "work"),
            model=classifier,
            test_dataloader=dict(
                batch_size=3,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                dataset=dataset,
            ),
            test_cfg=dict(),
            test_evaluator=dict(type="Accuracy", topk=(1,)),
            default_hooks=dict(visualization=dict(type="VisualizationHook", enable=False)),
            visualizer=dict(
                type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend")]
            ),
            experiment_name=f"painted_{tmp_path.name}_{to_rgb}_{tta}",
        )
    )
    paint(cfg, str(tmp_path / "seen"), False, 0)
    if tta:
        use_tta(cfg)
    torch.manual_seed(0)
    Runner.from_cfg(cfg).test()
    return sorted((tmp_path / "seen").rglob("*.png"))


def files(folder: Path) -> dict:
    pipeline = [LOAD, dict(type="PackInputs")]
    return dict(type="CustomDataset", data_root=str(folder), pipeline=pipeline)


@pytest.mark.parametrize("tta", [False, True])
def test_colours_are_those_of_the_files_and_nothing_is_mirrored(folder, tmp_path, tta):
    """Of the views that `--tta` makes the first is mirrored."""
    found = painted(tmp_path, files(folder), to_rgb=True, tta=tta)
    names = [str(path.relative_to(tmp_path / "seen")) for path in found]
    assert names == [f"{kind}/{k}.png_0.png" for kind in ("cat", "dog") for k in (1, 2)]
    for path in found:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels[-3, 3] == pytest.approx(LEFT, abs=2)
        assert pixels[-3, -3] == pytest.approx(RIGHT, abs=2)


def test_pictures_that_are_no_files_are_numbered_through_all_batches(tmp_path):
    found = painted(
        tmp_path, dict(type="Arrays", ann_file="", pipeline=[dict(type="PackInputs")]), to_rgb=False
    )
    assert [path.name for path in found] == [f"{k}_0.png" for k in range(5)]
    assert np.asarray(Image.open(found[-1]).convert("RGB"))[-3, 3] == pytest.approx(LEFT, abs=2)


def test_the_answer_is_that_of_all_views(monkeypatch, folder, tmp_path):
    from mmpretrain.visualization import UniversalVisualizer

    told = []
    monkeypatch.setattr(
        UniversalVisualizer,
        "visualize_cls",
        lambda self, image, data_sample, **options: told.append(data_sample),
    )
    painted(tmp_path, files(folder), to_rgb=True, tta=True)
    assert len(told) == 4
    assert all(sample.pred_label.tolist() == [int(sample.pred_score.argmax())] for sample in told)
