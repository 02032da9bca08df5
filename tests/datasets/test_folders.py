"""A folder of one's own: what of it is put in order, and what a config is told."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.small_folders import DETECTORS, config_of
from helpers.spoiled import each, edit, first, without
from helpers.toy_coco import make_toy_coco
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO

from normfix_mm.datasets import folder_of, seg_folder
from normfix_mm.datasets.coco_folder import CocoFolder
from normfix_mm.datasets.config import drop_workers_options
from normfix_mm.datasets.seg_folder import SegFolder
from normfix_mm.errors import BadInput

NAMES = ("tomato", "plum", "disc")


@pytest.fixture
def folder(tmp_path) -> Path:
    """Toy pictures in the layout of a folder of one's own."""
    toy = make_toy_coco(tmp_path / "toy", NAMES, boxes=5)
    (toy / "images").mkdir()
    for part in ("train", "val"):
        (toy / f"{part}2017").rename(toy / "images" / part)
        (toy / f"annotations/instances_{part}2017.json").rename(annotations(toy, part))
    return toy


def annotations(folder: Path, part: str) -> Path:
    return folder / f"annotations/instances_{part}.json"


@pytest.fixture
def cfg(tmp_path) -> Config:
    cfg = Config.fromfile(config_of(DETECTORS[0], "baseline"))
    cfg.work_dir = str(tmp_path / "run")
    return cfg


def labels_are_right(cfg, folder) -> None:
    """In every set, each box has the label of its category's name."""
    for phase, part in (("train", "train"), ("val", "val"), ("test", "val")):
        truth = json.loads(annotations(folder, part).read_text(encoding="utf-8-sig"))
        names = {category["id"]: category["name"] for category in truth["categories"]}
        wanted = {
            (a["image_id"], *a["bbox"][:2]): names[a["category_id"]] for a in truth["annotations"]
        }
        options = dict(cfg[f"{phase}_dataloader"].dataset, serialize_data=False, filter_cfg=None)
        with DefaultScope.overwrite_default_scope("mmdet"):
            data = DATASETS.build(options)
        classes = data.metainfo["classes"]
        got = {
            (info["img_id"], *box["bbox"][:2]): classes[box["bbox_label"]]
            for info in data.data_list
            for box in info["instances"]
        }
        assert got == {key: name for key, name in wanted.items() if name in classes}
    for phase in ("val", "test"):
        there = COCO(cfg[f"{phase}_evaluator"].ann_file)
        ids = there.getCatIds(catNms=list(classes))
        assert [there.cats[number]["name"] for number in ids] == list(classes)
        assert all("iscrowd" in a and a["id"] for a in there.anns.values())


def test_a_folder_in_order_is_used_as_it_is(folder, cfg):
    folder_of(cfg, folder).use(cfg)
    assert cfg.train_dataloader.dataset.ann_file == str(annotations(folder, "train"))
    assert cfg.val_evaluator.ann_file == str(annotations(folder, "val"))
    assert not Path(cfg.work_dir).exists()
    labels_are_right(cfg, folder)


@pytest.mark.parametrize("classes", [None, ("disc", "plum", "tomato"), ("plum", "tomato")])
@pytest.mark.parametrize("part", ["train", "val", None])
def test_classes_keep_the_order_that_is_asked_for(folder, cfg, classes, part):
    if part:
        edit(annotations(folder, part), lambda data: data["categories"].reverse())
    folder_of(cfg, folder).use(cfg, classes)
    order = classes or (NAMES[::-1] if part == "train" else NAMES)
    assert cfg.train_dataloader.dataset.metainfo.classes == order
    assert cfg.model.bbox_head.num_classes == len(order)
    labels_are_right(cfg, folder)


@pytest.mark.parametrize(
    "change",
    [
        without("iscrowd"),
        first("id", 0),
        lambda data: (
            [category.update(id=90 - category["id"]) for category in data["categories"]]
            and each("category_id", lambda number: 90 - number)(data)
        ),
    ],
    ids=["crowd unknown", "annotation 0", "other ids"],
)
def test_what_the_evaluation_stumbles_over_is_put_in_order(folder, cfg, change):
    before = [edit(annotations(folder, part), change).read_bytes() for part in ("train", "val")]
    folder_of(cfg, folder).use(cfg)
    labels_are_right(cfg, folder)
    after = [annotations(folder, part).read_bytes() for part in ("train", "val")]
    assert before == after


def test_a_byte_order_mark_is_left_out(folder, cfg):
    for part in ("train", "val"):
        file = annotations(folder, part)
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    folder_of(cfg, folder).use(cfg)
    labels_are_right(cfg, folder)


def test_a_wrapped_dataset_is_told_as_well(folder, cfg):
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=2, dataset=inner)
    folder_of(cfg, folder).use(cfg)
    assert cfg.train_dataloader.dataset.dataset.ann_file == str(annotations(folder, "train"))


def test_a_config_that_evaluates_nothing_is_told_as_well(folder, cfg):
    for phase in ("val", "test"):
        cfg[f"{phase}_dataloader"] = cfg[f"{phase}_evaluator"] = cfg[f"{phase}_cfg"] = None
    folder_of(cfg, folder).use(cfg)
    assert cfg.train_dataloader.dataset.metainfo.classes == NAMES and cfg.val_dataloader is None


@pytest.mark.parametrize("kind", [CocoFolder, SegFolder])
@pytest.mark.parametrize("call", ["use", "hold_out"])
def test_no_folder_is_one_sentence(cfg, tmp_path, kind, call):
    arguments = (cfg,) if call == "use" else (tmp_path, 4)
    with pytest.raises(BadInput, match="does not exist; a .* folder has images/{train,val} and"):
        getattr(kind(tmp_path / "nowhere"), call)(*arguments)


def test_holding_out_more_than_half_is_refused(folder, tmp_path):
    with pytest.raises(BadInput, match="has 4 images to train on; comparing holds 3 of them out"):
        CocoFolder(folder).hold_out(tmp_path, 3)


# -- label images -------------------------------------------------------------------------------


@pytest.fixture
def streets(tmp_path) -> Path:
    root = tmp_path / "streets"
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (32, 24), (k, k, k)).save(root / f"images/{part}/{part}{k}.png")
            label = np.full((24, 32), k, np.uint8)
            Image.fromarray(label).save(root / f"labels/{part}/{part}{k}.png")
    return root


def seg_config() -> Config:
    return Config.fromfile(config_of("ocnet_r18-d8", "baseline"))


def test_hidden_companions_of_macos_are_no_images(streets):
    for path in list(streets.rglob("*.png")):
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        path.with_name(f"._{path.stem}.jpg").write_bytes(b"\0\5\x16\7")
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg)
    assert cfg.train_dataloader.dataset.metainfo.classes == ("0", "1", "2")
    assert cfg.train_dataloader.dataset.img_suffix == ".png"
    assert SegFolder(streets).training_images() == ["train0", "train1", "train2"]


def shades(kind: str, rng) -> np.ndarray:
    """A label image that holds no class numbers but a picture of them."""
    mask = np.zeros((96, 128), np.uint8)
    mask[20:60, 30:80], mask[70:, 90:] = 100, 200
    if kind == "gaps":
        return mask
    if kind == "a picture":
        return rng.integers(0, 250, mask.shape).astype(np.uint8)
    image = Image.fromarray(mask)
    if kind == "resized":
        return np.asarray(image.rotate(10).resize((200, 150), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    image.rotate(10).save(buffer, "JPEG", quality=75)
    return np.asarray(Image.open(buffer))


@pytest.mark.parametrize("kind", ["gaps", "a picture", "resized", "JPEG"])
def test_shades_of_a_picture_are_no_classes(streets, kind):
    """Some hundred classes would be trained on the edges of two."""
    rng = np.random.default_rng(0)
    for path in streets.rglob("labels/*/*.png"):
        Image.fromarray(shades(kind, rng)).save(path)
    with pytest.raises(BadInput, match="look like the shades of a picture.* name them with"):
        folder_of(seg_config(), streets).use(seg_config())
    names = tuple(map(str, range(255)))
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg, names)  # for whoever says so
    assert cfg.model.decode_head.num_classes == 255


def test_hidden_folders_hold_no_labels(streets):
    (streets / "labels/train/.old").mkdir()
    Image.new("L", (32, 24), 9).save(streets / "labels/train/.old/train0.png")
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg)
    assert cfg.model.decode_head.num_classes == 3


def test_linked_folders_hold_labels(streets):
    """MMSegmentation follows them."""
    for kind in ("images", "labels"):
        (streets / kind / "train").rename(streets.parent / kind)
        (streets / kind / "train").mkdir()
        (streets / kind / "train/more").symlink_to(streets.parent / kind)
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg)
    assert cfg.model.decode_head.num_classes == 3


def test_endings_in_capitals(streets):
    for path in list(streets.rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg)
    dataset = cfg.train_dataloader.dataset
    assert (dataset.img_suffix, dataset.seg_map_suffix) == (".PNG", ".PNG")
    assert cfg.model.decode_head.num_classes == 3


def test_labels_are_counted_once(streets, monkeypatch):
    for path in streets.rglob("*.png"):
        os.utime(path, (1e9, 1e9))
    folder_of(seg_config(), streets).use(seg_config())
    monkeypatch.setattr(seg_folder, "_numbers", None)
    cfg = seg_config()
    folder_of(cfg, streets).use(cfg)
    monkeypatch.undo()
    Image.fromarray(np.full((24, 32), 6, np.uint8)).save(streets / "labels/train/train0.png")
    folder_of(cfg, streets).use(cfg)
    assert cfg.model.decode_head.num_classes == 7


def test_loaders_without_workers_keep_none_alive():
    cfg = Config(
        dict(
            train_dataloader=dict(num_workers=0, persistent_workers=True, prefetch_factor=2),
            val_dataloader=dict(num_workers=2, persistent_workers=True, prefetch_factor=2),
        )
    )
    drop_workers_options(cfg)
    assert cfg.train_dataloader == dict(num_workers=0)
    assert cfg.val_dataloader.persistent_workers and cfg.val_dataloader.prefetch_factor == 2
