"""Bad input of a segmenter is found before training: labels, sizes, classes, crops."""

import os
import shutil
import warnings

import mmcv
import numpy as np
import pytest
import torch
from helpers.small_segmenters import CLASSES, config
from helpers.spoiled import cut
from mmengine.registry import MODELS, DefaultScope
from mmseg.datasets import BaseSegDataset
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image

from normfix_mm.errors import BadInput
from normfix_mm.preflight import check, headers, segmentation_data

TRAIN = "train_dataloader.dataset"


@pytest.fixture
def cfg(real_data, tmp_path):
    """Three streets of its own in tmp_path/camvid."""
    for kind in ("images", "labels"):
        for part in ("train", "val"):
            (tmp_path / "camvid" / kind / part).mkdir(parents=True)
            for file in sorted((real_data / "camvid" / kind / part).iterdir())[:3]:
                shutil.copyfile(file, tmp_path / "camvid" / kind / part / file.name)
    return config("psp-fixnorm", tmp_path, tmp_path / "run", images=None)


@pytest.fixture
def label(tmp_path):
    return sorted((tmp_path / "camvid/labels/train").iterdir())[1]


def sentence(cfg, phases=("train", "val", "test")) -> str:
    """The one sentence that a bad config gets."""
    with pytest.raises(BadInput) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(cfg, phases)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 700
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return text


def paint(file, value: int, at=(0, 0)) -> None:
    pixels = np.array(Image.open(file))
    pixels[at] = value
    Image.fromarray(pixels).save(file)


def test_good_input_passes(cfg, label, tmp_path):
    paint(label, 255)
    paint(label, len(CLASSES) - 1, at=(5, 5))
    check(cfg, ("train", "val", "test"))
    names = tmp_path / "names.txt"  # the other way to say which images
    names.write_text(f"{label.stem}\n")
    cfg.train_dataloader.dataset.ann_file = str(names)
    check(cfg, ("train",))


def test_the_config_is_left_alone_and_no_evaluator_of_mmdet_is_needed(cfg):
    before = cfg.pretty_text
    check(cfg, ("train", "val", "test"))
    assert cfg.pretty_text == before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (f"{TRAIN}.data_root", "/nowhere", "folder '/nowhere/images/train' of train_dataloader"),
        (f"{TRAIN}.data_prefix.seg_map_path", "absent", "/camvid/absent' of train_dataloader"),
        (f"{TRAIN}.img_suffix", ".bmp", "no image that ends in '.bmp'"),
        (f"{TRAIN}.seg_map_suffix", "_gt.png", "3 of 3 images of train_dataloader.dataset have no"),
        (f"{TRAIN}.ann_file", "absent.txt", "absent.txt' of train_dataloader"),
        (f"{TRAIN}.type", "CamVidDatasett", "CamVidDatasett"),
        (
            f"{TRAIN}.metainfo",
            dict(classes=CLASSES[:7]),
            "has 7 classes, val_dataloader.dataset 11",
        ),
        ("model.decode_head.num_classes", 19, "model.decode_head has num_classes=19, but train"),
        ("model.auxiliary_head.num_classes", 12, "model.auxiliary_head.num_classes=11"),
        ("model.pretrained", "absent.pth", "checkpoint 'absent.pth' of `pretrained` does not"),
        ("model.decode_head.in_channels", 60, "heads agree with what the backbone"),
        ("model.decode_head.in_index", 4, "index out of range); make in_channels and"),
        ("model.auxiliary_head.in_channels", 60, "heads agree with what the backbone"),
        ("model.decode_head.alhpa", 1.0, "alhpa"),
        ("model.decode_head.type", "FixNormPSPHaed", "FixNormPSPHaed"),
    ],
)
def test_a_wrong_setting_is_named(cfg, key, value, expected):
    cfg.merge_from_dict({key: value})
    assert expected in sentence(cfg)


def test_a_missing_label_file(cfg, label):
    label.unlink()
    text = sentence(cfg)
    assert f"1 of 3 images of {TRAIN} have no label file, first {str(label)!r}" in text
    check(cfg, ("val",))


def test_pretrained_weights_of_another_form(cfg, tmp_path):
    with DefaultScope.overwrite_default_scope("mmseg"):
        weights = MODELS.build(dict(cfg.model.backbone)).state_dict()
    forms = {n: "WS" for n, value in weights.items() if value.dim() == 4}
    meta = dict(normfix_form=forms)
    torch.save(dict(state_dict=weights, meta=meta), tmp_path / "ws.pth")
    cfg.model.pretrained = str(tmp_path / "ws.pth")
    assert "ws.pth' holds WS weights where the model has plain ones (22 of 22" in sentence(cfg)
    cfg.model.backbone.update(type="NormalizedResNetV1c", normalize=dict(form="WS"))
    cfg.custom_hooks[0].exclude = "backbone"
    check(cfg, ("train",))


@pytest.mark.parametrize("value", [11, 200, 254])
def test_a_label_out_of_range(cfg, label, value):
    paint(label, value, at=(100, 100))
    text = sentence(cfg)
    assert f"{str(label)!r} of {TRAIN} holds {value}, for model.decode_head neither" in text
    assert "(0 to 10) nor the ignored 255" in text
    assert ("reduce_zero_label=True" in text) == (value == 11)


def test_labels_that_count_from_one(cfg, label):
    for file in label.parent.iterdir():
        pixels = np.array(Image.open(file))
        Image.fromarray(np.where(pixels == 255, 0, pixels + 1).astype(np.uint8)).save(file)
    paint(label, 11)
    assert "reduce_zero_label=True" in sentence(cfg)
    cfg.train_dataloader.dataset.reduce_zero_label = True
    check(cfg, ("train",))


def test_an_option_that_the_dataset_and_the_pipeline_have(cfg):
    (annotate,) = (s for s in cfg.train_dataloader.dataset.pipeline if s.type == "LoadAnnotations")
    annotate.reduce_zero_label = True
    text = sentence(cfg)
    assert f"labels of {TRAIN} cannot be loaded (Initialize dataset with `reduce_zero" in text
    assert "write it again" not in text


@pytest.mark.parametrize("kind", ["mmseg.LoadAnnotations", LoadAnnotations])
def test_the_step_that_loads_labels_may_be_named_in_any_way(cfg, label, kind):
    paint(label, 11)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.type = kind
    assert f"{str(label)!r} of {TRAIN} holds 11" in sentence(cfg)


def test_a_dataset_with_few_options(cfg, label):
    class Streets(BaseSegDataset):
        def __init__(self, data_root, data_prefix, pipeline, test_mode=False):
            super().__init__(
                data_root=data_root,
                data_prefix=data_prefix,
                pipeline=pipeline,
                test_mode=test_mode,
                metainfo=dict(classes=CLASSES),
            )

    dataset = cfg.train_dataloader.dataset
    kept = {key: dataset[key] for key in ("data_root", "data_prefix", "pipeline")}
    cfg.train_dataloader.dataset = dict(type=Streets, **kept)
    check(cfg, ("train",))
    paint(label, 200)
    assert "holds 200" in sentence(cfg)


def test_an_ignored_label_is_the_head_s(cfg, label):
    paint(label, 255)
    cfg.model.auxiliary_head.ignore_index = 254
    text = sentence(cfg)
    assert "holds 255, for model.auxiliary_head neither" in text and "ignored 254" in text


def test_classes_of_the_dataset_are_mapped_first(cfg, label):
    """Of a dataset with classes of its own a config may take some; the others are ignored."""

    class Streets(BaseSegDataset):
        METAINFO = dict(classes=CLASSES)

    for head in (cfg.model.decode_head, cfg.model.auxiliary_head):
        head.num_classes = 3
    cfg.model.decode_head.loss_decode.class_weight = [1.0, 2.0, 1.0]
    cfg.train_dataloader.dataset.update(type=Streets, metainfo=dict(classes=CLASSES[:3]))
    check(cfg, ("train",))


@pytest.mark.parametrize("rotated", [False, True])
def test_image_and_label_of_different_size(cfg, label, rotated):
    pixels = np.array(Image.open(label))
    Image.fromarray(pixels.T if rotated else pixels[:-1]).save(label)
    text = sentence(cfg)
    size = "360x480" if rotated else "480x359"
    assert f"{str(label)!r} of {TRAIN} has {size} pixels, its image" in text and "480x360" in text


def test_a_photograph_that_a_camera_marked_as_rotated(cfg, label, tmp_path):
    """OpenCV turns it; so must its label be."""
    file = tmp_path / "camvid/images/train" / f"{label.stem}.jpg"
    image = Image.open(file)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(file, exif=exif)
    assert mmcv.imread(file).shape[:2] == (480, 360)
    assert "has 480x360 pixels, its image" in sentence(cfg)
    Image.fromarray(np.array(Image.open(label)).T).save(label)
    check(cfg, ("train",))


def test_unreadable_files(cfg, label, tmp_path):
    image = tmp_path / "camvid/images/train" / f"{label.stem}.jpg"
    image.write_bytes(b"no image")
    assert f"picture {str(image)!r} of {TRAIN} cannot be read" in sentence(cfg)
    image.unlink()
    names = tmp_path / "names.txt"  # with a list, nobody looks which images are there
    names.write_text(f"{label.stem}\n")
    cfg.train_dataloader.dataset.ann_file = str(names)
    text = sentence(cfg)
    assert "1 of 1 pictures" in text and f"are not there, first {str(image)!r}" in text
    Image.new("RGB", (480, 360)).save(image)
    label.write_bytes(label.read_bytes()[:200])
    assert f"label file {str(label)!r} of {TRAIN} cannot be read" in sentence(cfg)


def test_a_label_in_colours(cfg, label):
    Image.open(label).convert("RGB").save(label)
    assert "has 3 channels" in sentence(cfg)


def test_labels_of_more_than_8_bits(cfg, label):
    """LoadAnnotations wraps them around: 256 becomes class 0."""
    pixels = np.array(Image.open(label)).astype(np.uint16)
    Image.fromarray(pixels).save(label)
    check(cfg, ("train",))
    pixels[3, 3] = 256
    Image.fromarray(pixels).save(label)
    text = sentence(cfg)
    assert f"{str(label)!r} of {TRAIN} holds 256, and" in text
    assert "as 8 bits, where it becomes 0;" in text


def test_labels_that_are_no_whole_numbers(cfg, label):
    pixels = np.array(Image.open(label)).astype(np.float32)
    cfg.train_dataloader.dataset.seg_map_suffix = ".tif"
    for file in list(label.parent.iterdir()):
        Image.fromarray(pixels).save(file.with_suffix(".tif"))
    check(cfg, ("train",))
    pixels[3, 3] = 2.5
    Image.fromarray(pixels).save(label.with_suffix(".tif"))
    assert "holds 2.5, and training reads labels as 8 bits, where it becomes 2" in sentence(cfg)


def test_images_that_end_otherwise_are_counted(cfg, label, tmp_path, capsys):
    shutil.copy(label, tmp_path / "camvid/images/train/more.png")
    check(cfg, ("train",))
    assert f"are not used by {TRAIN}, which takes .jpg" in capsys.readouterr().out


@pytest.mark.parametrize(
    "step", [dict(type="RandomFlip", prob=0.5), dict(type="Resize", scale=(240, 180))]
)
def test_labels_that_are_loaded_after_the_picture_was_moved(cfg, step):
    """A flip keeps the size, and nothing else would say it."""
    cfg.train_dataloader.dataset.pipeline.insert(1, step)
    assert f"{TRAIN} loads the labels (LoadAnnotations) after it has resized" in sentence(cfg)


def test_palettes_that_number_the_colours_of_each_file_anew(cfg, label, tmp_path):
    """As Pillow's `optimize` does, which leaves out what does not occur."""
    colours = [k * 7 % 256 for k in range(3 * 256)]
    files = sorted(label.parent.iterdir())
    for file in files:
        image = Image.fromarray(np.array(Image.open(file)))
        image.putpalette(colours)
        image.save(file)
    check(cfg, ("train", "val"))
    numbers = np.array(Image.open(label)).astype(int)
    there = np.unique(numbers)
    anew = Image.fromarray(np.searchsorted(there, numbers).astype(np.uint8))
    anew.putpalette([v for k in there for v in colours[3 * k : 3 * k + 3]])
    anew.save(label)
    assert np.array_equal(anew.convert("RGB"), np.array(colours).reshape(-1, 3)[numbers])
    text = sentence(cfg, ("train", "val"))
    assert f"The label file {str(label)!r} of {TRAIN} has the colour #" in text


def test_labels_with_a_palette(cfg, label):
    """Their numbers count, not their colours."""
    image = Image.open(label).convert("L")
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([k for k in range(256) for _ in range(3)])
    image.save(label)
    check(cfg, ("train",))
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.imdecode_backend = "cv2"  # which gives the colours
    assert "has 3 channels" in sentence(cfg)


def test_labels_as_jpeg(cfg, label):
    for file in label.parent.iterdir():
        Image.open(file).save(file.with_suffix(".jpg"), quality=100)
    cfg.train_dataloader.dataset.seg_map_suffix = ".jpg"
    assert "is a JPEG file, which does not keep numbers" in sentence(cfg)


def test_classes_that_never_occur_are_said(cfg, label, capsys):
    for file in label.parent.iterdir():
        paint(file, 0, at=slice(None))
    paint(label, 3)
    check(cfg, ("train",))
    err = capsys.readouterr().err
    assert f"warning: No pixel of {TRAIN} is of class 'Building', 'Pole', 'Pavement'" in err
    paint(label, 255)
    assert "All pixels that count" in sentence(cfg)
    for file in label.parent.iterdir():
        paint(file, 255, at=slice(None))
    assert "has a pixel that counts: all hold 255" in sentence(cfg)


def test_padding_that_would_be_trained_is_said(cfg, capsys):
    cfg.model.data_preprocessor.seg_pad_val = 0
    check(cfg, ("train",))
    assert "seg_pad_val is 0, but model.decode_head ignores 255" in capsys.readouterr().err


def test_how_many_are_used_is_said(cfg, label, capsys):
    paint(label, 255, at=slice(None))
    check(cfg, ("train",))
    out = capsys.readouterr().out
    assert f"{TRAIN}: 3 images and labels; 1 labels have no pixel that counts." in out


def test_images_of_both_sets_are_said(cfg, label, tmp_path, capsys):
    image = tmp_path / "camvid/images/train" / f"{label.stem}.jpg"
    other = sorted((tmp_path / "camvid/images/val").iterdir())[0]
    shutil.copy(image, other)
    check(cfg, ("train", "val"))
    assert "1 of 3 pictures of val_dataloader.dataset are trained on" in capsys.readouterr().err


def test_cut_off_files(cfg, label, tmp_path):
    image = tmp_path / "camvid/images/train" / f"{label.stem}.jpg"
    cut(image, 0.8)
    assert f"The picture {str(image)!r} of {TRAIN} cannot be read" in sentence(cfg)


def test_hidden_companions_of_macos(cfg, tmp_path):
    for file in list((tmp_path / "camvid").rglob("*.*")):
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7")
    check(cfg, ("train", "val", "test"))


def test_classes_that_are_one_text(cfg):
    for phase in ("train", "val", "test"):
        cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes="Sky")
    assert "is the one text 'Sky', not a list of names" in sentence(cfg)


def test_datasets_with_classes_in_another_order(cfg):
    cfg.val_dataloader.dataset.metainfo = dict(classes=CLASSES[::-1])
    text = sentence(cfg)
    assert "label 0 is 'Sky' in train_dataloader.dataset, 'Bicyclist' in val_dataload" in text


def test_a_wrapped_dataset_is_looked_into(cfg, label):
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=dataset)
    check(cfg, ("train",))
    paint(label, 200)
    assert "holds 200" in sentence(cfg)


def test_a_second_start_reads_nothing_again(cfg, label, tmp_path, monkeypatch):
    for file in (tmp_path / "camvid").rglob("*.*"):
        os.utime(file, (1e9, 1e9))
    check(cfg, ("train", "val"))
    for module, name in ((segmentation_data, "_values"), (headers, "_read")):
        monkeypatch.setattr(module, name, None)
    check(cfg, ("train", "val"))
    cfg.model.decode_head.num_classes = 3  # what was read is compared anew
    with pytest.raises(BadInput):
        check(cfg, ("train",))
    monkeypatch.undo()
    paint(label, 200)
    cfg.model.decode_head.num_classes = len(CLASSES)
    assert "holds 200" in sentence(cfg)


def test_labels_that_are_not_loaded_are_not_asked_for(cfg, tmp_path):
    """`--format-only` on a test set without labels."""
    shutil.rmtree(tmp_path / "camvid/labels/val")
    dataset = cfg.test_dataloader.dataset
    dataset.data_prefix.pop("seg_map_path")
    assert "label" in sentence(cfg, ("test",))
    dataset.pipeline = [s for s in dataset.pipeline if s.type != "LoadAnnotations"]
    check(cfg, ("test",))


def test_a_crop_that_the_network_does_not_take(cfg):
    """A U-Net halves the image four times and doubles it as often."""
    cfg.model.backbone = dict(type="UNet", in_channels=3, base_channels=4)
    cfg.model.decode_head.update(in_channels=4, in_index=4)
    cfg.model.auxiliary_head.update(in_channels=8, in_index=3)
    cfg.model.data_preprocessor.size = (48, 32)
    check(cfg, ("train",))
    for part in ("backbone", "decode_head", "auxiliary_head"):
        cfg.model[part].norm_cfg = dict(type="SyncBN")
    check(cfg, ("train",))
    cfg.model.data_preprocessor.size = (48, 40)
    text = sentence(cfg)
    assert "cannot be trained on crops of 48x40 pixels" in text and "crop_size" in text
    check(cfg, ("test",))
