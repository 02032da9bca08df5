"""Pipelines that fail at the first batch or evaluation, or move pictures away from their labels."""

import copy

import numpy as np
import pytest
from mmengine.hub import get_config
from mmengine.registry import DefaultScope
from preflight.toy_preflight import sentence

from normfix_mm.datasets.config import datasets
from normfix_mm.errors import BadInput
from normfix_mm.preflight import check
from normfix_mm.preflight.pipelines import check_pipeline


def steps(cfg, phase="train"):
    """The steps of a phase's pipeline by type, and the list of them."""
    pipeline = cfg[f"{phase}_dataloader"].dataset.pipeline
    return {step.type: step for step in pipeline}, pipeline


@pytest.mark.parametrize(
    "step",
    [
        dict(type="Resize", scale=(1333, 800), keep_ratio=True),
        dict(type="RandomFlip", prob=0.5),
        dict(type="RandomCrop", crop_size=(20, 20)),
    ],
    ids=lambda step: step["type"],
)
def test_labels_that_are_loaded_after_the_picture_was_moved(own_cfg, step):
    check(own_cfg, ("train",))
    steps(own_cfg)[1].insert(1, step)
    text = sentence(own_cfg, ("train",))
    assert "train_dataloader.dataset loads the labels (LoadAnnotations) after it has" in text


def test_an_evaluation_reads_labels_after_resizing_as_they_are(own_cfg):
    """MMDetection's own configs do: predictions are brought back to the picture's size."""
    names = [step.type for step in steps(own_cfg, "val")[1]]
    assert names.index("Resize") < names.index("LoadAnnotations")
    check(own_cfg, ("val", "test"))


@pytest.mark.parametrize(
    "step",
    [
        dict(type="RandomFlip", prob=1.0),
        dict(type="RandomFlip", prob=0.7),
        dict(type="RandomCrop", crop_size=(20, 20), allow_negative_crop=True),
        dict(type="Rotate", prob=1.0, level=8),
    ],
    ids=["flip", "flip of some", "crop", "turn"],
)
def test_an_evaluation_of_pictures_that_are_not_those_of_the_annotations(own_cfg, step):
    steps(own_cfg, "val")[1].insert(2, step)
    assert f"val_dataloader.dataset flips or crops the picture ({step['type']})" in sentence(
        own_cfg, ("train", "val")
    )


def test_a_flip_that_never_happens_is_none(own_cfg):
    steps(own_cfg, "val")[1].insert(2, dict(type="RandomFlip", prob=0.0))
    check(own_cfg, ("val",))


def test_a_training_without_boxes(own_cfg):
    steps(own_cfg)[0]["LoadAnnotations"].with_bbox = False
    assert "train_dataloader.dataset loads no boxes" in sentence(own_cfg, ("train",))


def test_a_training_of_masks_without_masks(own_cfg):
    dataset = own_cfg.train_dataloader.dataset
    check_pipeline(dataset, "train", training=True)
    with pytest.raises(BadInput, match="loads no masks; write with_mask=True"):
        check_pipeline(dataset, "train", training=True, masks=True)
    steps(own_cfg)[0]["LoadAnnotations"].with_mask = True
    check_pipeline(dataset, "train", training=True, masks=True)


@pytest.mark.parametrize("key", ["img_id", "ori_shape", "scale_factor"])
def test_an_evaluation_without_what_predictions_are_compared_by(own_cfg, key):
    pack = steps(own_cfg, "val")[0]["PackDetInputs"]
    pack.meta_keys = [each for each in pack.meta_keys if each != key]
    assert f"does not hand on {key!r}" in sentence(own_cfg, ("train", "val"))


def test_a_pipeline_without_a_picture(own_cfg):
    by_type, pipeline = steps(own_cfg)
    pipeline[:] = [by_type["LoadAnnotations"], by_type["PackDetInputs"]]
    assert "train_dataloader.dataset loads no picture" in sentence(own_cfg, ("train",))


@pytest.mark.parametrize(
    "name",
    [
        "centernet/centernet_r18-dcnv2_8xb16-crop512-140e_coco",
        "ssd/ssd300_coco",
        "yolox/yolox_tiny_8xb8-300e_coco",
        "detr/detr_r50_8xb2-150e_coco",
        "mask2former/mask2former_r50_8xb2-lsj-50e_coco",
        "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco",
        "fast_rcnn/fast-rcnn_r50_fpn_1x_coco",
    ],
)
def test_pipelines_of_mmdetection_s_own_configs_pass(own_cfg, name):
    stock = get_config(f"mmdet::{name}.py")
    for phase in ("train", "val"):
        toy = own_cfg[f"{phase}_dataloader"].dataset
        for dataset in datasets(stock[f"{phase}_dataloader"].dataset):
            place = {key: toy[key] for key in ("data_root", "ann_file", "data_prefix", "metainfo")}
            with DefaultScope.overwrite_default_scope("mmdet"):
                check_pipeline(dataset | place, phase, phase == "train")


def test_a_step_that_fails_is_named(own_cfg):
    steps(own_cfg)[1].insert(1, dict(type="FilterAnnotations"))  # of labels that come later
    text = sentence(own_cfg, ("train",))
    assert "fails at FilterAnnotations, on a picture of 96x64 pixels with one box" in text


def test_the_trial_leaves_chance_as_it_was(own_cfg):
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    check(own_cfg, ("train",))
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    "wrapper",
    [
        dict(type="RepeatDataset", times=2),
        dict(type="ClassBalancedDataset", oversample_thr=0.5),
        dict(type="MultiImageMixDataset", pipeline=[dict(type="Mosaic", img_scale=(96, 64))]),
    ],
    ids=lambda wrapper: wrapper["type"],
)
def test_an_evaluation_of_pictures_several_times(own_cfg, wrapper):
    for phase in ("train", "val"):
        loader = own_cfg[f"{phase}_dataloader"]
        loader.dataset = dict(wrapper, dataset=copy.deepcopy(loader.dataset))
    check(own_cfg, ("train",))
    assert "val_dataloader has pictures more than once" in sentence(own_cfg, ("train", "val"))
