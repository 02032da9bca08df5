"""An evaluation that would compare with other annotations, or stop after all training."""

import shutil

import pytest
from helpers.spoiled import each, edit, first, without
from preflight.test_coco import said, val_file
from preflight.toy_preflight import sentence

from normfix_mm.preflight import check


@pytest.fixture
def other(own):
    """A copy of the evaluated file under another name."""
    return shutil.copy(val_file(own), own / "annotations/other.json")


def test_an_equal_file_of_another_name_is_taken(own_cfg, other, capsys):
    own_cfg.val_evaluator.ann_file = str(other)
    assert "warning" not in said(own_cfg, capsys)


def test_a_file_of_other_pictures(own_cfg, other):
    own_cfg.val_evaluator.ann_file = str(other)

    def change(data):
        for image in data["images"]:
            image["id"] += 100
        for annotation in data["annotations"]:
            annotation["image_id"] += 100

    edit(other, change)
    text = sentence(own_cfg)
    assert f"val_evaluator.ann_file is {str(other)!r}, which has other pictures than" in text
    check(own_cfg, ("train",))


def test_a_file_with_categories_in_another_order(own_cfg, other):
    own_cfg.val_evaluator.ann_file = str(other)
    edit(other, lambda data: data["categories"].reverse())
    assert "has the categories in another order than" in sentence(own_cfg)


def test_other_annotations_of_the_same_pictures_are_said(own_cfg, other, capsys):
    own_cfg.val_evaluator.ann_file = str(other)
    edit(other, each("area", 50))
    assert "the same pictures, but other annotations" in said(own_cfg, capsys)


def test_pictures_that_are_not_predicted_count_as_missed(own_cfg, capsys):
    own_cfg.val_dataloader.dataset.indices = 2
    assert "predicts 2 of the 4 pictures that val_evaluator counts" in said(own_cfg, capsys)


def test_two_sets_of_one_numbering(own_cfg):
    dataset = own_cfg.val_dataloader.dataset
    own_cfg.val_dataloader.dataset = dict(type="ConcatDataset", datasets=[dataset, dataset])
    assert "pictures of one id" in sentence(own_cfg)


def test_what_pycocotools_needs_of_each_annotation(own, own_cfg, capsys):
    edit(val_file(own), without("iscrowd"))
    assert "8 annotations of" in sentence(own_cfg) and "no `iscrowd`" in sentence(own_cfg)
    own_cfg.val_evaluator.format_only = True
    check(own_cfg, ("train", "val"))
    own_cfg.val_evaluator.format_only = False
    edit(val_file(own), each("iscrowd", 0))
    edit(val_file(own), first("id", 0))
    assert "an annotation of id 0, which pycocotools takes for missed" in said(own_cfg, capsys)


@pytest.mark.parametrize("metric", ["segm", ["bbox", "segm"]])
def test_masks_that_are_evaluated(own, own_cfg, metric):
    own_cfg.model.type = "RetinaMaskNet"
    own_cfg.val_evaluator.metric = metric
    check(own_cfg, ("train", "val"))
    edit(val_file(own), first("segmentation", []))
    text = sentence(own_cfg)
    assert "1 of 8 annotations" in text and "val_evaluator needs masks" in text


def test_predicting_alone_needs_no_annotations(own, own_cfg):
    edit(val_file(own), lambda data: data.pop("annotations"))
    assert "has no list 'annotations' to compare with" in sentence(own_cfg, ("test",))
    own_cfg.test_evaluator.update(format_only=True, outfile_prefix="predicted")
    check(own_cfg, ("test",))


@pytest.mark.parametrize("name", ["coco/bbox_map", "bbox_mAP", "coco/segm_mAP", "mIoU"])
def test_a_best_checkpoint_by_what_nothing_reports(own_cfg, name):
    """mmengine looks it up after the first evaluation."""
    own_cfg.default_hooks.checkpoint.save_best = name
    text = sentence(own_cfg)
    assert f"default_hooks.checkpoint.save_best is {name!r}" in text and "'coco/bbox_mAP'" in text


def test_an_early_stop_by_what_nothing_reports(own_cfg):
    """mmengine goes on to the end, with a warning in the log."""
    own_cfg.custom_hooks = [dict(type="EarlyStoppingHook", monitor="coco/mAP")]
    assert "custom_hooks.monitor is 'coco/mAP'" in sentence(own_cfg, ("train", "val"))
    own_cfg.custom_hooks[0].monitor = "coco/bbox_mAP"
    check(own_cfg, ("train", "val"))


def test_an_evaluation_of_masks_that_nothing_predicts(own_cfg):
    own_cfg.val_evaluator.metric = ["bbox", "segm"]
    text = sentence(own_cfg, ("train", "val"))
    assert "val_evaluator evaluates masks (metric='segm'), but the model predicts boxes" in text


@pytest.mark.parametrize("name", ["auto", "coco/bbox_mAP", ["coco/bbox_mAP_50"]])
def test_a_best_checkpoint_by_what_is_reported(own_cfg, name):
    own_cfg.default_hooks.checkpoint.save_best = name
    check(own_cfg, ("train", "val"))


def test_an_option_that_saving_does_not_have(own_cfg):
    """CheckpointHook takes any, and fails at the first checkpoint."""
    own_cfg.default_hooks.checkpoint.intervall = 3
    assert "CheckpointHook has no option 'intervall'" in sentence(own_cfg)
