"""A detector and a data set small enough to train in a second: the real Runner, the real mmdet."""

import json
import random

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="the engine's tests run MMDetection")

from mmengine.config import Config
from mmengine.runner import Runner

import normfix_mm.detection  # noqa: F401  registers layers, hooks and heads

CLASSES = ("disc", "box")
SIZE = 64


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def toy_coco(tmp_path_factory):
    """A folder with 12 images of discs and boxes, landscape and portrait, and train.json."""
    root = tmp_path_factory.mktemp("toy_coco")
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(12):
        height, width = (SIZE, 48) if i % 3 == 0 else (48, SIZE)
        picture = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
        for kind in range(2):
            x, y = (int(v) for v in rng.integers(2, 22, 2))
            color = tuple(int(v) for v in rng.integers(120, 255, 3))
            if kind:
                cv2.rectangle(picture, (x, y), (x + 20, y + 20), color, -1)
            else:
                cv2.circle(picture, (x + 10, y + 10), 10, color, -1)
            annotations.append(
                dict(id=len(annotations) + 1, image_id=i, category_id=kind + 1, iscrowd=0,
                     bbox=[x, y, 20, 20], area=400)
            )
        cv2.imwrite(str(root / f"{i}.png"), picture)
        images.append(dict(id=i, file_name=f"{i}.png", height=height, width=width))
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)]
    data = dict(images=images, annotations=annotations, categories=categories)
    (root / "train.json").write_text(json.dumps(data))
    return root


def toy_config(root, work_dir, *, by_epoch=True, length=2, workers=0, **changes) -> Config:
    """RetinaNet-R18, 32 channels, batch 2 (six iterations an epoch); `changes` by dotted names.

    Args:
        length: epochs, or iterations where `by_epoch` is false.
    """
    wn = dict(type="WNConv2d", gain=True)
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="Resize", scale=(SIZE, SIZE), keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="PackDetInputs"),
    ]
    config = Config(
        dict(
            default_scope="mmdet",
            model=dict(
                type="RetinaNet",
                data_preprocessor=dict(
                    type="DetDataPreprocessor", mean=[128] * 3, std=[64] * 3, pad_size_divisor=32
                ),
                backbone=dict(
                    type="ResNet", depth=18, base_channels=16, frozen_stages=-1, norm_eval=False,
                    norm_cfg=dict(type="BN"), style="pytorch",
                ),
                neck=dict(
                    type="FPN", in_channels=[16, 32, 64, 128], out_channels=32, start_level=1,
                    add_extra_convs="on_input", num_outs=5, conv_cfg=wn,
                ),
                bbox_head=dict(
                    type="FixNormRetinaHead", num_classes=2, in_channels=32, stacked_convs=1,
                    feat_channels=32, alpha=0.5,
                ),
                train_cfg=dict(
                    assigner=dict(
                        type="MaxIoUAssigner", pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0,
                        ignore_iof_thr=-1,
                    ),
                    sampler=dict(type="PseudoSampler"), allowed_border=-1, pos_weight=-1,
                ),
                test_cfg=dict(
                    nms_pre=100, min_bbox_size=0, score_thr=0.05,
                    nms=dict(type="nms", iou_threshold=0.5), max_per_img=10,
                ),
            ),
            train_dataloader=dict(
                batch_size=2, num_workers=workers, persistent_workers=workers > 0,
                sampler=dict(type="DefaultSampler" if by_epoch else "InfiniteSampler"),
                batch_sampler=dict(type="AspectRatioBatchSampler"),
                dataset=dict(
                    type="CocoDataset", data_root=str(root), ann_file="train.json",
                    data_prefix=dict(img=""), metainfo=dict(classes=CLASSES), pipeline=pipeline,
                ),
            ),
            train_cfg=dict(
                by_epoch=by_epoch, **({"max_epochs": length} if by_epoch else {"max_iters": length})
            ),
            optim_wrapper=dict(
                type="OptimWrapper",
                optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=0.0),
                clip_grad=dict(max_norm=35, norm_type=2),
            ),
            custom_hooks=[],
            default_hooks=dict(
                logger=dict(type="LoggerHook", interval=2),
                checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=by_epoch),
            ),
            randomness=dict(seed=3),
            work_dir=str(work_dir),
            log_level="INFO",
        )
    )
    config.merge_from_dict(changes)
    return config


def train(config: Config) -> Runner:
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def spoil_random_state() -> None:
    """What another process would have: random states that have nothing to do with the first run."""
    random.seed(999)
    np.random.seed(999)
    torch.manual_seed(999)
