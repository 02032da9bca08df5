"""A folder in COCO format without a split, as annotation tools write it, and lists of one's own."""

import json
import shutil
from pathlib import Path

import pytest
from helpers.small_folders import DETECTORS, config_of
from helpers.spoiled import each, edit
from helpers.toy_coco import make_toy_coco
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from normfix_mm.datasets import folder_of
from normfix_mm.datasets.class_folder import ClassFolder
from normfix_mm.datasets.coco_folder import CocoFolder
from normfix_mm.datasets.contents import contents_of
from normfix_mm.datasets.folder import Split
from normfix_mm.datasets.seg_folder import SegFolder
from normfix_mm.errors import BadInput
from normfix_mm.tuning.compare_folder import begin
from normfix_mm.tuning.job import Job, held_out, with_folder

NAMES = ("tomato", "plum", "disc")
PICTURES = 11
DEFAULT = "annotations/instances_default.json"


@pytest.fixture
def cvat(tmp_path) -> Path:
    """Eleven pictures in one folder, and one file, as CVAT exports them."""
    root = make_toy_coco(tmp_path / "cvat", NAMES, n_images=PICTURES)
    (root / "train2017").rename(root / "images")
    (root / "annotations/instances_train2017.json").rename(root / DEFAULT)
    shutil.rmtree(root / "val2017")
    (root / "annotations/instances_val2017.json").unlink()
    return root


@pytest.fixture
def parted(tmp_path) -> Path:
    """Four pictures for training and four for validation, with the same file names."""
    root = make_toy_coco(tmp_path / "parted", NAMES)
    (root / "images").mkdir()
    for part in ("train", "val"):
        (root / f"{part}2017").rename(root / "images" / part)
        file = root / f"annotations/instances_{part}2017.json"
        file.rename(root / f"annotations/instances_{part}.json")
    return root


@pytest.fixture
def cfg(tmp_path) -> Config:
    cfg = Config.fromfile(config_of(DETECTORS[0], "baseline"))
    cfg.work_dir = str(tmp_path / "run")
    return cfg


def sets_of(cfg: Config) -> list[list[Path]]:
    """The pictures that are trained on, and those that are validated on."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        sets = [
            DATASETS.build(dict(cfg[f"{part}_dataloader"].dataset, filter_cfg=None))
            for part in ("train", "val")
        ]
    return [[Path(data.get_data_info(k)["img_path"]) for k in range(len(data))] for data in sets]


def chosen(source: Path, out: Path, numbers: range) -> Path:
    """An annotation file of these pictures alone."""
    data = json.loads(source.read_text())
    data["images"] = [image for image in data["images"] if image["id"] in numbers]
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] in numbers]
    out.write_text(json.dumps(data))
    return out


def state(root: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}


def test_a_fifth_is_held_for_validation_and_nothing_is_written_there(cvat, cfg, tmp_path):
    before, said = state(cvat), []
    folder_of(cfg, cvat).use(cfg, say=said.append)
    train, val = sets_of(cfg)
    assert (len(train), len(val)) == (9, 2) and {*train, *val} == {*(cvat / "images").iterdir()}
    assert state(cvat) == before
    assert said == [
        f"no split: 2 of 11 pictures are held for validation, those of {DEFAULT} whose names have "
        "the least hashes (to choose them: --train-list FILE --val-list FILE)."
    ]
    files = [Path(cfg[f"{part}_dataloader"].dataset.ann_file) for part in ("train", "val", "test")]
    assert files[1] == files[2] == Path(cfg.val_evaluator.ann_file)
    assert sorted((tmp_path / "run/annotations").iterdir()) == sorted({*files})
    data = [json.loads(file.read_text()) for file in files[:2]]
    whole = json.loads((cvat / DEFAULT).read_text())
    entries = [entry for part in data for entry in part["annotations"]]
    assert sorted(entries, key=lambda entry: entry["id"]) == whole["annotations"]
    assert all(part["categories"] == whole["categories"] for part in data)
    again = Config(dict(cfg), filename=cfg.filename)
    folder_of(again, cvat).use(again)
    assert sets_of(again) == [train, val]


def into(root: Path, place: str) -> None:
    """All pictures into another folder of the root."""
    pictures = sorted((root / "images").iterdir())
    (root / place).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        picture.rename(root / place / picture.name)


@pytest.mark.parametrize(
    ("file", "place", "prefix"),
    [
        ("annotations/_annotations.coco.json", "images", ""),
        ("result.json", "images", ""),
        ("annotations/instances_train.json", "images/train", ""),
        (DEFAULT, "images/default", ""),
        (DEFAULT, "images/train", "train/"),
        (DEFAULT, "images/one drive", "one drive/"),
        (DEFAULT, "images", "images/"),
    ],
)
def test_file_and_pictures_are_found_where_tools_put_them(file, place, prefix, cvat, cfg):
    (cvat / DEFAULT).rename(cvat / file)
    edit(cvat / file, each("file_name", lambda name: prefix + name, "images"))
    if place != "images":
        into(cvat, place)
    folder_of(cfg, cvat).use(cfg)
    train, val = sets_of(cfg)
    assert (len(train), len(val)) == (9, 2)
    assert {*train, *val} == {*(cvat / place).iterdir()}


def parts(root: Path) -> tuple[set, set]:
    train, val = ({i[1] for i in CocoFolder(root).images(Split(n, None))} for n in ("train", "val"))
    assert not train & val
    return train, val


def test_a_picture_that_is_added_moves_one_other_at_most(cvat):
    train, val = parts(cvat)
    for number in range(100, 120):
        entry = dict(id=number, file_name=f"{number:012d}.png", width=96, height=64)
        edit(cvat / DEFAULT, lambda data, entry=entry: data["images"].append(entry))
        new_train, new_val = parts(cvat)
        assert len((new_val & train) | (new_train & val)) <= 1
        train, val = new_train, new_val
    assert len(val) == (PICTURES + 20) // 5


def test_a_picture_that_is_named_twice_is_not_parted(cvat):
    def again(data: dict) -> None:
        more = [dict(i, id=i["id"] + 50, file_name=f"./{i['file_name']}") for i in data["images"]]
        data["images"] += more

    edit(cvat / DEFAULT, again)
    train, val = parts(cvat)
    assert not {name.removeprefix("./") for name in train} & {
        name.removeprefix("./") for name in val
    }


def test_one_picture_cannot_be_parted(cvat, cfg):
    chosen(cvat / DEFAULT, cvat / DEFAULT, range(1, 2))
    with pytest.raises(BadInput, match="default.json names one picture; give at least two"):
        folder_of(cfg, cvat).use(cfg)


def test_a_recipe_looks_into_the_part_that_is_trained_on(cvat):
    found = contents_of(cvat)
    assert (found.tasks, found.pictures) == (("detect",), 9)


def test_trials_hold_out_of_the_part_that_is_trained_on(cvat, cfg, tmp_path):
    folder_of(cfg, cvat).use(cfg)
    train, val = sets_of(cfg)
    lists = held_out(cfg, cvat, tmp_path / "out", 3)
    trial = with_folder(cfg, cvat, tmp_path / "out", lists=lists)
    rest, judging = sets_of(trial)
    assert len(judging) == 3 and sorted(rest + judging) == sorted(train)
    assert not {*val} & {*rest, *judging}


def test_several_files_are_named_in_one_sentence(cvat, cfg):
    shutil.copy(cvat / DEFAULT, cvat / "annotations/captions.json")
    words = (
        r"cvat has pictures in images/ and the annotation files annotations/captions.json, "
        rf"{DEFAULT}, but nothing says which are to train on \(instances_train.json\); name the "
        r"files by --train-list FILE and --val-list FILE, or leave one file: a fifth of its"
    )
    for look in (folder_of(cfg, cvat).use, lambda _: contents_of(cvat)):
        with pytest.raises(BadInput, match=words):
            look(cfg)
    with pytest.raises(BadInput, match=words):
        CocoFolder(cvat).hold_out(cvat, 2)


def test_one_file_of_a_folder_whose_pictures_are_parted_is_not_split(parted, cfg):
    """Somebody has chosen, and forgot the other file."""
    (parted / "annotations/instances_val.json").unlink()
    words = (
        "images/train, images/val and the annotation files annotations/instances_train.json, but "
        r"nothing says which are to validate on \(instances_val.json\); name the files"
    )
    with pytest.raises(BadInput, match=words):
        folder_of(cfg, parted).use(cfg)


def test_lists_of_one_s_own_are_taken_as_they_are(cvat, cfg, tmp_path):
    train = chosen(cvat / DEFAULT, tmp_path / "train.json", range(1, 8))
    val = chosen(cvat / DEFAULT, tmp_path / "val.json", range(8, 10))
    said: list = []
    folder_of(cfg, cvat).use(cfg, None, train, val, say=said.append)
    assert [len(part) for part in sets_of(cfg)] == [7, 2] and not said
    assert cfg.train_dataloader.dataset.ann_file == str(train)
    with pytest.raises(BadInput, match=r"\(instances_val.json\).*, or give neither: a fifth"):
        folder_of(cfg, cvat).use(cfg, None, train)
    with pytest.raises(BadInput, match="--val-list .*nothing.json is no file; correct the path"):
        folder_of(cfg, cvat).use(cfg, None, train, tmp_path / "nothing.json")


def test_two_files_may_name_the_pictures_of_one_folder(cvat, cfg):
    for part, numbers in (("train", range(1, 8)), ("val", range(8, 12))):
        chosen(cvat / DEFAULT, cvat / f"annotations/instances_{part}.json", numbers)
    (cvat / DEFAULT).unlink()
    folder_of(cfg, cvat).use(cfg)
    assert [len(part) for part in sets_of(cfg)] == [7, 4]


# -- which pictures, and where they lie -----------------------------------------------------------


def test_where_pictures_lie_does_not_say_which_they_are(parted, cfg):
    """`--val-split train` alone: the list to validate on is still the folder's."""
    for part, numbers in (("val", range(3, 5)), ("train", range(1, 3))):
        source = parted / "annotations/instances_train.json"
        chosen(source, parted / f"annotations/instances_{part}.json", numbers)
    shutil.rmtree(parted / "images/val")
    with pytest.raises(BadInput, match="images/val does not exist.*--val-split train if they lie"):
        folder_of(cfg, parted).use(cfg)
    folder_of(cfg, parted).use(cfg, val_split="train")
    train, val = sets_of(cfg)
    assert [path.name for path in train] == ["000000000001.png", "000000000002.png"]
    assert [path.name for path in val] == ["000000000003.png", "000000000004.png"]
    (parted / "annotations/instances_val.json").unlink()
    (parted / "images/val").mkdir()
    with pytest.raises(BadInput, match=r"nothing says which are to validate on"):
        folder_of(cfg, parted).use(cfg, val_split="train")


def test_pictures_that_are_all_trained_on_validate_nothing(parted, cfg, tmp_path):
    file = parted / "annotations/instances_train.json"
    few = chosen(file, tmp_path / "few.json", range(2, 4))
    words = (
        "All 2 pictures to validate on, first 'images/train/000000000002.png', are among the 4 to "
        "train on.* give two lists without a common picture by --train-list FILE and --val-list"
    )
    with pytest.raises(BadInput, match=words):
        folder_of(cfg, parted).use(cfg, val_list=few, val_split="train")
    other = chosen(file, tmp_path / "other.json", range(3, 5))
    folder_of(cfg, parted).use(cfg, None, few, other, "train")  # one in common is a warning
    folder_of(cfg, parted).use(cfg, val_list=parted / "annotations/instances_val.json")


@pytest.mark.parametrize("kind", [SegFolder, ClassFolder])
def test_all_of_a_list_or_folder_trained_on_is_said_of_each_kind(kind, tmp_path):
    if kind is SegFolder:
        places, names = ("images/train", "labels/train", "images/val", "labels/val"), "0\n"
    else:
        places, names = ("train/cat", "train/dog", "val/cat", "val/dog"), "cat/0.png 0\n"
    for place in places:
        (tmp_path / place).mkdir(parents=True)
        for k in range(2):
            Image.new("L", (8, 8), k).save(tmp_path / place / f"{k}.png")
    listed = tmp_path / "few.txt"
    listed.write_text(names)
    folder = kind(tmp_path)
    model = "ocnet_r18-d8" if kind is SegFolder else "resnet_r18"
    cfg = Config.fromfile(config_of(model, "baseline"))
    cfg.work_dir = str(tmp_path / "run")
    with pytest.raises(BadInput, match="All 1 pictures to validate on, first .*0.*to train on"):
        folder.use(cfg, val_list=listed, val_split="train")
    with pytest.raises(BadInput, match="--val-split train says where .*; name them by --val-list"):
        folder.use(cfg, val_split="train")
    folder.use(cfg, val_list=listed)
    with pytest.raises(BadInput, match="has 1 images to train on"):
        folder.hold_out(tmp_path / "run", 1, listed)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("images", "parted, which has annotations/ beside images/; give its parent /.*/parted[.]"),
        ("images/val", "beside images/; give its parent's parent /.*/parted[.]"),
        ("annotations", "which has images/ beside annotations/; give its parent /"),
    ],
)
def test_a_part_in_place_of_the_folder(part, words, parted, cfg):
    for look in (folder_of(cfg, parted / part).use, lambda _: contents_of(parted / part)):
        with pytest.raises(BadInput, match=words):
            look(cfg)
    with pytest.raises(BadInput, match=words):
        CocoFolder(parted / part).hold_out(parted, 2)


# -- tuning ----------------------------------------------------------------------------------------


def test_tuning_takes_lists(cvat, cfg, tmp_path, capsys):
    train = chosen(cvat / DEFAULT, tmp_path / "train.json", range(1, 8))
    val = chosen(cvat / DEFAULT, tmp_path / "val.json", range(8, 11))
    lists = (train, val, None)
    job = Job(cfg, "cells", tmp_path / "out", cvat, hold_out=2, lists=lists)
    assert [len(part) for part in sets_of(job.whole)] == [7, 3]
    assert [len(part) for part in sets_of(job.cfg)] == [5, 2]
    assert "no split" not in capsys.readouterr().out
    split = Job(cfg, "cells", tmp_path / "other", cvat)
    assert "no split: 2 of 11 pictures are held" in capsys.readouterr().out
    chosen(cvat / DEFAULT, train, range(1, 7))
    changed = Job(cfg, "cells", tmp_path / "out", cvat, hold_out=2, lists=lists)
    assert len({job.digest, split.digest, changed.digest}) == 3  # each is a study of its own
    with pytest.raises(BadInput, match="--val-list is of a FOLDER's images; name the folder"):
        Job(cfg, "cells", tmp_path / "out", lists=(None, val, None))


def test_a_comparison_of_other_lists_is_another(cvat, tmp_path):
    begin(tmp_path / "out", "retinanet_r18_fpn", cvat, None, ("a.json", "b.json", None))
    (tmp_path / "out/trial").mkdir()
    (tmp_path / "out/trial/log.txt").touch()
    begin(tmp_path / "out", "retinanet_r18_fpn", cvat, None, ("a.json", "b.json", None))
    with pytest.raises(BadInput, match="of the data, lists a.json, b.json.; name another folder"):
        begin(tmp_path / "out", "retinanet_r18_fpn", cvat, None)
