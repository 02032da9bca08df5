"""Bad data are found before training: annotations, classes, masks."""

import json
from pathlib import Path

import pytest
from helpers.spoiled import each, edit
from mmdet.datasets import CocoPanopticDataset
from mmengine.config import Config
from preflight.toy_preflight import sentence

from normfix_mm.preflight import check

ROOT = Path(__file__).parents[2]


def test_annotations_without_the_configured_classes(cfg):
    cfg.train_dataloader.dataset.metainfo = dict(classes=("disc", "ring"))
    text = sentence(cfg)
    assert "no category 'ring' but 'box', 'disc'" in text and "metainfo" in text
    del cfg.train_dataloader.dataset["metainfo"]  # then the dataset's own 80
    assert "'person', 'bicycle'" in sentence(cfg) and "and 75 more" in sentence(cfg)


@pytest.mark.parametrize("first", [{}, dict(segmentation=[])])
@pytest.mark.parametrize("order", ["annotations last", "annotations first"])
def test_annotations_without_masks(cfg, toy, tmp_path, first, order):
    data = json.loads((toy / "annotations/instances_train2017.json").read_text())
    dataset = cfg.train_dataloader.dataset
    dataset.ann_file = str(tmp_path / "boxes.json")
    data["images"][0]["annotations"] = [dict(segmentation="of something else")]
    data["info"] = dict(annotations=2)
    rest = dict(annotations=data.pop("annotations"))
    data = data | rest if order == "annotations last" else rest | data
    load = next(step for step in dataset.pipeline if step.type == "LoadAnnotations")
    for masks in (True, False):
        for annotation in data["annotations"]:
            if not masks:
                del annotation["segmentation"]
                annotation |= first
        (tmp_path / "boxes.json").write_text(json.dumps(data, indent=None if first else 1))
        load.with_mask = True
        if masks:
            check(cfg, ("train",))
        else:
            text = sentence(cfg)
            assert "boxes.json' have no `segmentation`, first annotation 1, but train_data" in text
            load.with_mask = False
            check(cfg, ("train",))


def test_a_folder_config_without_a_folder():
    cfg = Config.fromfile(ROOT / "configs/coco_folder/retinanet_r18_fpn_baseline_1xb8-8e_folder.py")
    for phases in (("train", "val"), ("test",)):
        text = sentence(cfg, phases)
        assert "python tools/train_folder.py CONFIG FOLDER" in text and "work dir" in text


@pytest.mark.parametrize("number", [1, 3, 80])
@pytest.mark.parametrize("phase", ["train", "val", "test"])
def test_a_head_for_other_classes_than_the_data_s(cfg, number, phase):
    cfg.model.bbox_head.num_classes = number
    text = sentence(cfg, (phase,))
    assert f"model.bbox_head has num_classes={number}, but {phase}_dataloader" in text
    assert "has 2 classes ('disc', 'box')" in text


def test_box_heads_of_a_panoptic_detector_know_the_things_alone(cfg, toy, tmp_path):
    data = json.loads((toy / "annotations/instances_train2017.json").read_text())
    names = CocoPanopticDataset.METAINFO["classes"]
    data["categories"] = [dict(id=i, name=name) for i, name in enumerate(names)]
    (tmp_path / "panoptic.json").write_text(json.dumps(data))
    dataset = cfg.train_dataloader.dataset
    dataset.update(type="CocoPanopticDataset", ann_file=str(tmp_path / "panoptic.json"))
    del dataset["metainfo"]
    cfg.model.bbox_head.num_classes = 80
    check(cfg, ("train",))
    dataset.type = "CocoDataset"
    dataset.metainfo = dict(classes=names)
    assert "has 133 classes" in sentence(cfg, ("train",))


CASCADE = "coco_folder/cascade-mask-rcnn_r18_fpn_baseline_1xb4-8e_folder.py"


@pytest.mark.parametrize("wrong", [None, "bbox_head.1", "mask_head"])
def test_each_head_of_a_cascade_has_the_classes_of_the_data(cfg, wrong):
    """Beside an RPN of one class, whatever the data."""
    model = Config.fromfile(ROOT / "configs" / CASCADE).model
    for head in (*model.roi_head.bbox_head, model.roi_head.mask_head):
        head.num_classes = 2
    cfg._cfg_dict.pop("model")
    cfg.model = model
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.with_mask = True
    if wrong is None:
        check(cfg, ("test",))
        return
    cfg.merge_from_dict({f"model.roi_head.{wrong}.num_classes": 5})
    assert f"model.roi_head.{wrong.removesuffix('.1')} has num_classes=5" in sentence(cfg)
    if "mask" in wrong:
        cfg.merge_from_dict({f"model.roi_head.{wrong}.class_agnostic": True})
        check(cfg, ("test",))  # one mask for all classes


@pytest.mark.parametrize("order", ["categories last", "categories first", "cut off", "no COCO"])
def test_annotation_files(cfg, toy, tmp_path, order):
    data = json.loads((toy / "annotations/instances_train2017.json").read_text())
    # A caption that looks like the key must not be taken for it.
    data["images"][0]["note"] = '"categories": nonsense'
    if order == "categories first":
        data = dict(categories=data.pop("categories")) | data
        data["info"] = {"categories": 3}
    text = json.dumps([] if order == "no COCO" else data)
    file = tmp_path / "annotations.json"
    file.write_text(text[:-40] if order == "cut off" else text)
    cfg.train_dataloader.dataset.ann_file = str(file)
    if "categories" in order:
        check(cfg, ("train",))
        cfg.train_dataloader.dataset.metainfo = dict(classes=("ring",))
        assert "'ring'" in sentence(cfg)
    else:
        assert ("no complete JSON" if order == "cut off" else "holds a list") in sentence(cfg)


def test_a_list_of_the_other_split_s_pictures(own, own_cfg):
    """Each picture that is not there lies in the other folder, which the sentence names.

    Not so where both are numbered from 1: a picture that is missing there is missing.
    """
    first = own / "train2017/000000000001.png"
    kept = first.rename(own / "kept.png")
    assert "1 of 4 pictures" in sentence(own_cfg) and "is it the list" not in sentence(own_cfg)
    kept.rename(first)
    for picture in list((own / "val2017").iterdir()):
        picture.rename(picture.with_name(f"v{picture.name}"))
    file = own / "annotations/instances_val2017.json"
    edit(file, each("file_name", lambda name: f"v{name}", "images"))
    own_cfg.train_dataloader.dataset.ann_file = str(file)
    said = sentence(own_cfg)
    assert "4 of 4 pictures of train_dataloader.dataset that" in said
    assert f"all of them are in '{own}/val2017': is it the list of 'val2017'? Give each" in said
