"""A RetinaNet small enough to train in a second, through the real Runner and the real mmdet."""

import itertools
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.runner import Runner

import normfix_mm.detection  # noqa: F401  registers layers, hooks and heads

CLASSES = ("disc", "box")
_NUMBER = itertools.count()


def toy_config(
    root: Path, work_dir: Path, *, by_epoch=True, length=2, workers=0, **changes
) -> Config:
    """RetinaNet-R18, 32 channels, batch 2 (six iterations an epoch); `changes` by dotted names.

    Args:
        length: epochs, or iterations where `by_epoch` is false.
    """
    wn = dict(type="WNConv2d", gain=True)
    config = Config(
        dict(
            default_scope="mmdet",
            model=dict(
                type="RetinaNet",
                data_preprocessor=dict(
                    type="DetDataPreprocessor", mean=[128] * 3, std=[64] * 3, pad_size_divisor=32
                ),
                backbone=dict(
                    type="ResNet",
                    depth=18,
                    base_channels=16,
                    frozen_stages=-1,
                    norm_eval=False,
                    norm_cfg=dict(type="BN"),
                    style="pytorch",
                ),
                neck=dict(
                    type="FPN",
                    in_channels=[16, 32, 64, 128],
                    out_channels=32,
                    start_level=1,
                    add_extra_convs="on_input",
                    num_outs=5,
                    conv_cfg=wn,
                ),
                bbox_head=dict(
                    type="FixNormRetinaHead",
                    num_classes=2,
                    in_channels=32,
                    stacked_convs=1,
                    feat_channels=32,
                ),
                train_cfg=dict(
                    assigner=dict(
                        type="MaxIoUAssigner",
                        pos_iou_thr=0.5,
                        neg_iou_thr=0.4,
                        min_pos_iou=0,
                        ignore_iof_thr=-1,
                    ),
                    sampler=dict(type="PseudoSampler"),
                    allowed_border=-1,
                    pos_weight=-1,
                ),
                test_cfg=dict(
                    nms_pre=100,
                    min_bbox_size=0,
                    score_thr=0.05,
                    nms=dict(type="nms", iou_threshold=0.5),
                    max_per_img=10,
                ),
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=workers,
                persistent_workers=workers > 0,
                sampler=dict(type="DefaultSampler" if by_epoch else "InfiniteSampler"),
                batch_sampler=dict(type="AspectRatioBatchSampler"),
                dataset=dict(
                    type="ConcatDataset", datasets=[_part(root / n) for n in ("wide", "tall")]
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
            # Runs of one second would share mmengine's global log, which goes by the time.
            experiment_name=f"toy{next(_NUMBER)}",
            log_level="INFO",
        )
    )
    config.merge_from_dict(changes)
    return config


def _part(root: Path) -> dict:
    return dict(
        type="CocoDataset",
        data_root=str(root),
        data_prefix=dict(img="train2017/"),
        ann_file="annotations/instances_train2017.json",
        metainfo=dict(classes=CLASSES),
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackDetInputs"),
        ],
    )


def evaluation(root: Path) -> dict:
    """Changes of the config by which four pictures are evaluated, at twice their size."""
    data = _part(root / "wide") | dict(test_mode=True, indices=4)
    keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    data["pipeline"] = [
        dict(type="LoadImageFromFile"),
        dict(type="Resize", scale=(128, 96), keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="PackDetInputs", meta_keys=keys),
    ]
    truth = str(root / "wide/annotations/instances_train2017.json")
    return dict(
        val_dataloader=dict(batch_size=1, sampler=dict(type="DefaultSampler"), dataset=data),
        val_cfg=dict(),
        val_evaluator=dict(type="CocoMetric", metric="bbox", ann_file=truth),
    )


def train(config: Config) -> Runner:
    runner = Runner.from_cfg(config)
    runner.train()
    return runner


def spoil_random_state() -> None:
    """What another process would have: random states that have nothing to do with the first run."""
    random.seed(999)
    np.random.seed(999)
    torch.manual_seed(999)
