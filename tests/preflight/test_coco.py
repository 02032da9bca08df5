"""Annotations in COCO format that would be misread, dropped or stumbled over are found before."""

import json
import os
import re

import pytest
from helpers.spoiled import each, edit, first, without
from mmdet.registry import DATASETS
from mmengine.registry import DefaultScope
from preflight.toy_preflight import sentence
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO

from normfix_mm.preflight import check


def train_file(own):
    return own / "annotations/instances_train2017.json"


def val_file(own):
    return own / "annotations/instances_val2017.json"


def said(cfg, capsys, phases=("train", "val")) -> str:
    """What is printed where nothing is refused."""
    capsys.readouterr()
    check(cfg, phases)
    printed = capsys.readouterr()
    return printed.out + printed.err


WRONG = [
    (without("height", "images"), "image '000000000001.png' of", "has no 'height'"),
    (first("width", 0, "images"), "has 'width' 0; write a whole number of pixels"),
    (first("width", "96", "images"), "has 'width' '96'"),
    (without("file_name", "images"), "image 1 of", "no 'file_name'"),
    (first("file_name", None, "images"), "'file_name' None"),
    (first("id", 2, "images"), "two images of id 2"),
    (first("id", "1", "images"), "partly numbers, partly texts"),
    (lambda d: d["images"].append(7), "image 5 of", "is 7, not an object"),
    (lambda d: d.update(images={}), "no list 'images'"),
    (lambda d: d.update(images=[]), "has no images"),
    (lambda d: d.update(annotations={}), "in place of the list 'annotations'"),
    (lambda d: d.pop("annotations"), "has no list 'annotations'; it can only be predicted on"),
    (lambda d: d.pop("categories"), "no list 'categories'"),
    (first("name", "disc ", "categories"), "no category 'disc' but 'box', 'disc '"),
    (first("name", 3, "categories"), "category 1 of", "'name' 3"),
    (first("id", 2, "categories"), "several categories of id 2"),
    (first("name", "box", "categories"), "several categories of name 'box'"),
    (without("id"), "annotation 1 of", "has no 'id'"),
    (first("id", 2), "several annotations of id 2"),
    (each("id", str), "has 'id' '1'; write a whole number"),
    (without("image_id"), "no 'image_id'"),
    (first("image_id", 99), "of the image_id 99, but no image has this id"),
    (each("image_id", str), "of the image_id '1'", "(as 1, of the same type as there)"),
    (without("category_id"), "no 'category_id'"),
    (first("category_id", 9), "of the category_id 9, but the categories have the ids 1, 2"),
    (each("category_id", str), "category_id '", "of the same type as there"),
    (without("bbox"), "no 'bbox'"),
    (first("bbox", [1, 2, 3]), "'bbox' [1, 2, 3]; write a list of four finite numbers"),
    (first("bbox", [1, 2, "3", 4]), "four finite numbers"),
    (first("bbox", [1, 2, float("nan"), 4]), "four finite numbers"),
    (first("bbox", [1, 2, float("inf"), 4]), "four finite numbers"),
    (without("area"), "no 'area'"),
    (first("area", "12"), "'area' '12'"),
    (first("bbox", [1, 2, 10**30, 4]), "four finite numbers"),
    (first("area", 10**400), "'area' 1000"),
    (first("image_id", [1]), "has 'image_id' [1]"),
    (lambda d: d["annotations"].append("box"), "is 'box', not an object"),
    (first("iscrowd", "0"), "iscrowd '0'; write 0 or 1"),
    (each("area", 0), "Of the 8 boxes", "(8 of area 0); write the object's area"),
    (each("iscrowd", 1), "(8 crowd); write iscrowd 0"),
    (each("ignore", 1), "(8 marked as ignored)"),
    (each("bbox", lambda b: [*b[:2], -b[2], b[3]]), "(8 narrower than a pixel)"),
    (each("bbox", lambda b: [b[0] + 500, *b[1:]]), "(8 outside the picture)"),
    (each("bbox", lambda b: [v / 96 for v in b]), "in parts of the picture's size"),
    (
        each("bbox", lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]),
        "would fit as x1, y1, x2, y2",
    ),
    (lambda d: d.update(annotations=[]), "Of the 0 boxes", "none counts for train"),
]


@pytest.mark.parametrize(("change", "words"), [(c, words) for c, *words in WRONG])
def test_an_entry_that_is_wrong_is_named(own, own_cfg, change, words):
    edit(train_file(own), change)
    text = sentence(own_cfg)
    assert all(word in text for word in words) and "instances_train2017.json" in text
    check(own_cfg, ("train", "val"), contents=False)  # for those who know better


def test_the_entries_that_do_not_count_are_said_with_their_number(own, own_cfg, capsys):
    text = said(own_cfg, capsys)
    assert (
        "train_dataloader.dataset: 8 of 8 boxes and 4 of 4 pictures of instances_train2017.json "
        "are used." in text
    )
    assert "warning" not in text

    def change(data):
        a = data["annotations"]
        a[0]["area"], a[1]["iscrowd"], a[2]["bbox"][2] = 0, 1, 0.5
        a[3]["bbox"][0] = 300
        data["images"].append(dict(data["images"][0], id=9, file_name="of-nothing.png"))

    edit(train_file(own), change)
    text = said(own_cfg, capsys)
    assert "4 of 8 boxes and 4 of 5 pictures" in text  # the last has no box, and is left out
    assert "1 of area 0" in text and "1 crowd" in text and "1 narrower than a pixel" in text
    assert "1 outside the picture" in text and "2 pictures have no box" in text
    assert "warning: train_dataloader.dataset drops 3 of 8 boxes" in text
    assert "1 boxes of" in text and "reach out of their pictures" in text


def test_the_counts_are_those_of_the_dataset_itself(own, own_cfg, capsys):
    def change(data):
        a = data["annotations"]
        a[0]["area"], a[1]["iscrowd"], a[2]["bbox"][2] = 0, 1, 0.5
        a[3]["bbox"][0], a[4]["ignore"] = 300, 1
        data["annotations"] = a[:6]

    edit(train_file(own), change)
    options = dict(own_cfg.train_dataloader.dataset, serialize_data=False)
    with DefaultScope.overwrite_default_scope("mmdet"):
        data = DATASETS.build(options)
    kept = [i for info in data.data_list for i in info["instances"] if not i["ignore_flag"]]
    text = said(own_cfg, capsys, ("train",))
    assert f"{len(kept)} of 6 boxes and {len(data)} of 4 pictures" in text and len(data) == 3


def to_corners(box):
    x, y, w, h = box
    return [x, y, x + w, y + h]


def test_boxes_given_by_their_corners(own, own_cfg, capsys):
    """Areas tell, and where they do not, how many reach out of their pictures."""
    edit(train_file(own), each("bbox", to_corners))
    assert "would fit as x1, y1, x2, y2" in sentence(own_cfg)
    edit(train_file(own), each("area", 7))  # of masks, say
    assert "would fit as x1, y1, x2, y2" in sentence(own_cfg)


def test_one_box_that_is_drawn_too_large_is_said(own, own_cfg, capsys):
    def change(data):
        for a in data["annotations"]:
            a["bbox"], a["area"] = [4, 3, 50, 40], 2000
        data["annotations"][0].update(bbox=[20, 10, 90, 50], area=4500)

    edit(train_file(own), change)
    assert "1 boxes of" in said(own_cfg, capsys)


def test_crowds_of_the_evaluated_set_are_no_objects(own, own_cfg):
    edit(val_file(own), each("iscrowd", 1))
    text = sentence(own_cfg)
    assert "Of the 8 boxes" in text and "none counts for val_dataloader.dataset (8 crowd)" in text


@pytest.mark.parametrize("file", [train_file, val_file])
def test_labels_in_the_order_of_the_file_s_categories_alone(own, own_cfg, file):
    """MMDetection takes no other, and says nothing."""
    edit(file(own), lambda data: data["categories"].reverse())
    text = sentence(own_cfg)
    assert (
        f"{file.__name__.split('_')[0]}_dataloader.dataset names its classes 'disc', 'box'" in text
    )
    assert "in the order of the categories" in text and "'box', 'disc'" in text


def test_other_ids_of_the_categories_are_no_fault(own, own_cfg, capsys):
    def change(data):
        for entry in data["categories"]:
            entry["id"] += 40
        for entry in data["annotations"]:
            entry["category_id"] += 40
        data["categories"].insert(0, dict(id=90, name="of no interest"))

    edit(val_file(own), change)
    assert "warning" not in said(own_cfg, capsys)


def test_ids_of_images_may_be_texts(own, own_cfg, capsys):
    def change(data):
        for entry in data["images"]:
            entry["id"] = f"a{entry['id']}"
        for entry in data["annotations"]:
            entry["image_id"] = f"a{entry['image_id']}"

    edit(train_file(own), change)
    assert "8 of 8 boxes" in said(own_cfg, capsys)


def test_classes_that_never_occur_are_said(own, own_cfg, capsys):
    own_cfg.model.bbox_head.num_classes = 3
    for loader in (own_cfg.train_dataloader, own_cfg.val_dataloader):
        loader.dataset.metainfo = dict(classes=("disc", "box", "ring"))
    for file in (train_file(own), val_file(own)):
        edit(file, lambda data: data["categories"].append(dict(id=3, name="ring")))
    text = said(own_cfg, capsys)
    assert "of train_dataloader.dataset has no box of 'ring': these classes will not be le" in text
    assert "of val_dataloader.dataset has no box of 'ring': these classes are not eval" in text


@pytest.mark.parametrize(
    ("classes", "word"),
    [
        ("disc", "the one text 'disc', not a list of names"),
        ((), "give the name of each class"),
        (("disc", 1), "give the name of each class"),
        (("disc", "disc"), "holds 'disc' more than once"),
    ],
)
def test_classes_that_are_no_list_of_names(own_cfg, classes, word):
    own_cfg.train_dataloader.dataset.metainfo = dict(classes=classes)
    assert word in sentence(own_cfg)


def test_a_file_may_hold_the_classes(own_cfg, tmp_path):
    (tmp_path / "names.txt").write_text("disc\nbox\n")
    own_cfg.train_dataloader.dataset.metainfo = dict(classes=str(tmp_path / "names.txt"))
    check(own_cfg, ("train", "val"))


def test_datasets_of_different_classes(own, own_cfg):
    def more(data):
        data["categories"].append(dict(id=3, name="ring"))

    edit(val_file(own), more)
    own_cfg.val_dataloader.dataset.metainfo = dict(classes=("box", "ring"))
    text = sentence(own_cfg)
    assert "label 0 is 'disc' in train_dataloader.dataset, 'box' in val_dataloader.dataset" in text


@pytest.mark.parametrize("name", ["000000000001.png", "./000000000001.png"])
def test_pictures_listed_twice_are_said(own, own_cfg, capsys, name):
    edit(train_file(own), lambda data: data["images"][1].update(file_name=name))
    assert "names 1 pictures more than once, first '000000000001.png'" in said(own_cfg, capsys)


@pytest.mark.parametrize(
    ("old", "words"),
    [
        ('{"images": ', "the key 'images' more than once in one object"),
        ('"bbox": ', "the key 'bbox' more than once in the entry of id 1"),
    ],
    ids=["files joined by hand", "an entry"],
)
def test_a_key_that_stands_twice_is_named(own, own_cfg, old, words):
    """JSON's readers take the last and say nothing."""
    text = train_file(own).read_text()
    key = old.strip("{: ")
    train_file(own).write_text(text.replace(old, f"{old}[7, 7, 7, 7], {key}: ", 1))
    assert words in sentence(own_cfg)


def test_boxes_that_are_there_twice_are_said(own, own_cfg, capsys):
    def double(data):
        data["annotations"] += [dict(a, id=a["id"] + 50) for a in data["annotations"][:3]]

    edit(train_file(own), double)
    assert "has 3 boxes that another of the same picture and category equals" in said(
        own_cfg, capsys
    )


@pytest.mark.parametrize("area", [0.01, 10**6], ids=["parts of the picture", "too large"])
def test_areas_that_are_not_the_boxes_are_said(own, own_cfg, capsys, area):
    edit(val_file(own), each("area", area))
    assert "8 of 8 areas of" in said(own_cfg, capsys)


@pytest.mark.parametrize("name", ["di\x1b[2Jsc", "di\nsc", "di\u2028sc", "di\ud800sc"])
def test_names_that_rule_a_terminal_are_refused(own, own_cfg, name):
    for file in (train_file(own), val_file(own)):
        edit(file, first("name", name, "categories"))
    for phase in ("train", "val", "test"):
        own_cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes=(name, "box"))
    text = sentence(own_cfg)
    assert repr(name) in text and "control characters or line breaks" in text


@pytest.mark.parametrize("other", ["Box", "box ", "b ox", "b-ox", "ｂox"])
def test_classes_that_may_be_one_are_said(own, own_cfg, capsys, other):
    for file in (train_file(own), val_file(own)):
        edit(file, first("name", other, "categories"))
    for phase in ("train", "val", "test"):
        own_cfg[f"{phase}_dataloader"].dataset.metainfo = dict(classes=(other, "box"))
    assert f"The classes {other!r}, 'box' of train" in said(own_cfg, capsys)


# -- masks --------------------------------------------------------------------------------------

SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]


def runs(data, index=0, **changes):
    """Give an annotation a mask of run lengths as pycocotools writes it, with changes."""
    entry = data["annotations"][index]
    mask = coco_masks.merge(coco_masks.frPyObjects(entry["segmentation"], 64, 96))
    mask["counts"] = mask["counts"].decode()
    entry["segmentation"] = mask | changes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("segmentation"), "8 of 8 annotations of"),
        (first("segmentation", []), "1 of 8 annotations of"),
        (first("segmentation", SQUARE), "not a list of polygons"),
        (first("segmentation", [SQUARE[:4]]), "three or more points"),
        (first("segmentation", [SQUARE[:7]]), "three or more points"),
        (first("segmentation", [[*SQUARE[:6], None, 1]]), "no finite number"),
        (first("segmentation", [[], SQUARE]), "its first polygon has 0 numbers"),
        (first("segmentation", [SQUARE[:4], SQUARE]), "its first polygon has 4 numbers"),
        (each("segmentation", [[1, 60, 2, 60, 2, 61]]), "None of the 8 masks of"),
        (first("segmentation", "none"), "neither a list of polygons nor run lengths"),
        (lambda d: runs(d, size=[96, 64]), "its size is [96, 64], the picture's"),
        (lambda d: runs(d, counts=[5, 5]), "do not add up to the 6144 pixels"),
        (lambda d: runs(d, counts=[6145, -1]), "no run lengths"),
        (lambda d: runs(d, counts=None), "no run lengths"),
        (lambda d: runs(d, counts="\x7f"), "no run lengths"),
        (lambda d: (runs(d), cut_runs(d)), "no run lengths"),
        (lambda d: (runs(d), cut_runs(d, 4)), "do not add up"),
    ],
    ids=range(17),
)
def test_masks_that_cannot_be_read(own, own_cfg, change, words):
    edit(train_file(own), change)
    check(own_cfg, ("train",))  # nobody asks for masks
    want_masks(own_cfg)
    text = sentence(own_cfg)
    assert words in text and "instances_train2017.json" in text and "segmentation" in text


def test_the_first_polygon_is_what_pycocotools_stops_at(own):
    """In an evaluation, after all training; it passes over others."""
    for polygons in ([[], SQUARE], [SQUARE[:4], SQUARE]):
        edit(val_file(own), first("segmentation", polygons))
        with pytest.raises((TypeError, Exception), match="type"):
            COCO(val_file(own)).annToMask(dict(image_id=1, segmentation=polygons))
    edit(val_file(own), first("segmentation", [SQUARE, SQUARE[:4]]))
    COCO(val_file(own)).annToMask(dict(image_id=1, segmentation=[SQUARE, SQUARE[:4]]))


def cut_runs(data, by=1):
    mask = data["annotations"][0]["segmentation"]
    mask["counts"] = mask["counts"][:-by]


def want_masks(cfg):
    for step in cfg.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.with_mask = True


def test_masks_of_all_kinds_that_can_be_read(own, own_cfg, capsys):
    def change(data):
        runs(data, 0)
        runs(data, 1)
        plain = coco_masks.decode(data["annotations"][1]["segmentation"])
        counts = lengths_of(plain.T.ravel())
        data["annotations"][1]["segmentation"] = dict(size=[64, 96], counts=counts)
        data["annotations"][2]["segmentation"].append([1, 2, 3, 4])  # an odd part is passed over

    edit(train_file(own), change)
    want_masks(own_cfg)
    assert "masks" not in said(own_cfg, capsys)


def lengths_of(pixels):
    """How many 0, then how many 1, …"""
    lengths, last = [0], 0
    for value in pixels.tolist():
        if value != last:
            lengths.append(0)
        last = value
        lengths[-1] += 1
    return lengths


def test_masks_beside_their_boxes_are_said(own, own_cfg, capsys):
    edit(train_file(own), first("segmentation", [[0, 60, 1, 60, 1, 61]]))
    edit(train_file(own), first("bbox", [50, 3, 20, 20]))
    want_masks(own_cfg)
    assert "1 of 8 masks of" in said(own_cfg, capsys)


def by_rows(plain):
    """Run lengths as they come out of an array that is stored row by row."""
    return lengths_of(plain.ravel())


def background_last(plain):
    return lengths_of(1 - plain.T.ravel())


@pytest.mark.parametrize("wrong", [by_rows, background_last])
def test_run_lengths_of_another_order_are_said(own, own_cfg, capsys, wrong):
    """They decode without an error, to other masks."""

    def change(data):
        for index in range(6):
            runs(data, index)
            entry = data["annotations"][index]
            plain = coco_masks.decode(entry["segmentation"])
            entry["segmentation"] = dict(size=[64, 96], counts=wrong(plain))

    edit(train_file(own), change)
    want_masks(own_cfg)
    assert re.search("[3-6] of 8 masks of .* background first", said(own_cfg, capsys))


@pytest.mark.parametrize("box", [dict(ignore=1), dict(bbox=[1, 1, 0.5, 0.5])])
def test_an_evaluation_of_masks_needs_those_of_dropped_boxes_too(own, own_cfg, box):
    """pycocotools decodes every mask, and would stop after the training."""

    def change(data):
        data["annotations"][0].update(segmentation=[], **box)

    edit(train_file(own), change)
    want_masks(own_cfg)
    own_cfg.model.type = "RetinaMaskNet"
    own_cfg.val_evaluator.metric = ["bbox", "segm"]
    check(own_cfg, ("train", "val"))  # training passes over it
    edit(val_file(own), change)
    text = sentence(own_cfg, ("train", "val"))
    assert "1 of 8 annotations of" in text and "first annotation 1" in text


def test_points_and_boxes_in_another_order_are_said(own, own_cfg, capsys):
    """Points y, x, or boxes by their middle: whether masks are asked for or not."""
    wrong = lambda box: [box[0] + box[2] / 2, box[1] + box[3] / 2, *box[2:]]  # noqa: E731
    edit(train_file(own), each("bbox", wrong))
    assert "8 of 8 masks of" in said(own_cfg, capsys)


@pytest.mark.parametrize(
    "mask", [[[10, 10, 20, 10, 30, 10]], dict(size=[64, 96], counts=[6144])], ids=["line", "runs"]
)
def test_masks_without_a_pixel_are_said(own, own_cfg, capsys, mask):
    edit(train_file(own), first("segmentation", mask))
    want_masks(own_cfg)
    assert "1 of 8 masks of" in said(own_cfg, capsys)


# -- wrapped, and of other kinds ----------------------------------------------------------------


@pytest.mark.parametrize("wrapper", ["RepeatDataset", "ConcatDataset", "ClassBalanced", "Mix"])
def test_a_dataset_below_a_wrapper_is_looked_into(own, own_cfg, wrapper):
    dataset = own_cfg.train_dataloader.dataset
    own_cfg.train_dataloader.dataset = {
        "RepeatDataset": dict(type="RepeatDataset", times=3, dataset=dataset),
        "ConcatDataset": dict(type="ConcatDataset", datasets=[dataset, dataset]),
        "ClassBalanced": dict(type="ClassBalancedDataset", oversample_thr=0.1, dataset=dataset),
        "Mix": dict(type="MultiImageMixDataset", dataset=dataset, pipeline=[]),
    }[wrapper]
    check(own_cfg, ("train",))
    edit(train_file(own), each("area", 0))
    assert "8 of area 0" in sentence(own_cfg)
    (own / "train2017/000000000002.png").unlink()
    edit(train_file(own), each("area", 100))
    assert "1 of 4 pictures" in sentence(own_cfg)


def test_several_annotation_files_are_several_datasets(own_cfg):
    own_cfg.train_dataloader.dataset.ann_file = ["a.json", "b.json"]
    assert "ConcatDataset" in sentence(own_cfg)


def test_a_dataset_without_a_folder_of_pictures(own_cfg):
    own_cfg.train_dataloader.dataset.pop("data_prefix")
    assert "data_prefix=dict(img='FOLDER/')" in sentence(own_cfg)


def test_a_dataset_type_that_nobody_knows(own_cfg):
    own_cfg.train_dataloader.dataset.type = "CocoDatset"
    assert "no dataset type 'CocoDatset'" in sentence(own_cfg)


def test_pictures_without_labels_of_semi_supervised_training(own, own_cfg):
    dataset = own_cfg.train_dataloader.dataset
    steps = [step for step in dataset.pipeline if step.type != "LoadAnnotations"]
    unlabelled = dataset | dict(ann_file=str(own / "unlabelled.json"), pipeline=steps)
    data = json.loads(train_file(own).read_text())
    data.pop("annotations")
    (own / "unlabelled.json").write_text(json.dumps(data))
    own_cfg.train_dataloader.dataset = dict(
        type="ConcatDataset", datasets=[dataset, dict(unlabelled, filter_cfg=None)]
    )
    check(own_cfg, ("train",))


def test_a_filter_that_leaves_nothing(own_cfg):
    own_cfg.train_dataloader.dataset.filter_cfg = dict(min_size=100)
    assert "Of the 4 pictures" in sentence(own_cfg)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", "utf-16"])
@pytest.mark.parametrize("file", [train_file, val_file])
def test_other_encodings(own, own_cfg, mark, file):
    text = file(own).read_text()
    utf16 = mark == "utf-16"
    file(own).write_bytes(text.encode("utf-16") if utf16 else mark + text.encode())
    assert ("is no UTF-8" if utf16 else "byte order mark") in sentence(own_cfg)


def test_what_was_found_is_remembered_until_the_file_changes(own, own_cfg, capsys, monkeypatch):
    from normfix_mm.datasets import coco_annotations

    file = train_file(own)
    os.utime(file, (1e9, 1e9))
    check(own_cfg, ("train",))
    monkeypatch.setattr(coco_annotations, "_seen", {})  # another start
    monkeypatch.setattr(coco_annotations, "_counted", None)
    assert "8 of 8 boxes" in said(own_cfg, capsys, ("train",))
    monkeypatch.undo()
    edit(file, each("area", 0))
    assert "8 of area 0" in sentence(own_cfg)


def test_a_file_of_the_old_size_and_time_is_read_again(own, own_cfg, monkeypatch):
    """As `rsync -t` leaves it, or an archive in which all files have one time."""
    file = train_file(own)
    os.utime(file, (1e9, 1e9))
    check(own_cfg, ("train",))
    text = file.read_text()
    file.write_text(text.replace('"category_id": 1', '"category_id": 9'))
    os.utime(file, (1e9, 1e9))
    assert "of the category_id 9" in sentence(own_cfg)


def test_what_cannot_be_remembered_is_found_again(own, own_cfg, tmp_path, monkeypatch):
    """A spoilt memory, and a place that cannot be written to."""
    monkeypatch.setenv("NORMFIX_CACHE", str(tmp_path / "memory"))
    os.utime(train_file(own), (1e9, 1e9))
    check(own_cfg, ("train",))
    files = sorted((tmp_path / "memory").iterdir())
    assert files
    for file in files:
        kept = json.loads(file.read_text())
        file.write_text(json.dumps(kept | dict(value=dict(stamp=3, found=[]))))
    check(own_cfg, ("train",))
    for file in files:
        file.write_text("{")
    check(own_cfg, ("train",))
    monkeypatch.setenv("NORMFIX_CACHE", str(train_file(own)))
    check(own_cfg, ("train",))
