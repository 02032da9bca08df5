"""What a training without a config is made of: each decision as a sentence about numbers."""

import json

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from PIL import Image

from normfix_mm.datasets.contents import Contents, contents_of
from normfix_mm.engine.hooks.early_word import word
from normfix_mm.errors import BadInput
from normfix_mm.recipe import rules
from normfix_mm.recipe.config import Choices, config_path, write_length, write_size

PHOTOGRAPH = dict(tasks=("detect",), pictures=300)


def photographs(*sides: float, width: int = 960, height: int = 540) -> Contents:
    return Contents(width=width, height=height, sides=tuple(sorted(sides)), **PHOTOGRAPH)


@pytest.mark.parametrize("task", ["detect", "instances"])
def test_small_objects_ask_for_larger_pictures(task):
    near, far = photographs(0.4, 0.5, 0.6), photographs(0.2, 0.25, 0.3)
    sizes = [rules.wanted_size(each, task) for each in (near, far)]
    assert sizes[0] == (256, 160)  # 128 pixels of the half that objects are
    assert sizes[1] == (512, 288)


def test_a_quarter_of_tiny_objects_counts_although_the_middle_is_large():
    assert rules.wanted_size(photographs(0.04, 0.04, 0.5, 0.6, 0.6), "detect")[0] == 800


def test_pictures_are_enlarged_by_half_at_most():
    tiny = photographs(0.02, 0.03, width=256, height=256)
    assert rules.wanted_size(tiny, "instances") == (384, 384)


def test_a_size_is_in_whole_steps_and_of_the_pictures_shape():
    width, height = rules.wanted_size(photographs(0.22, 0.23, width=540, height=960), "detect")
    assert width % 32 == height % 32 == 0 and height > 1.5 * width


@pytest.mark.parametrize(("side", "expected"), [(32, 128), (150, 160), (1000, 224)])
def test_a_classifier_takes_squares_between_128_and_224(side, expected):
    contents = Contents(("classify",), 300, 2 * side, side)
    assert rules.wanted_size(contents, "classify") == (expected, expected)


def test_the_time_decides_on_the_size_down_to_half_the_side():
    contents = photographs(0.2, 0.25, 0.3, width=640, height=640)
    size = (640, 640)
    assert rules.affordable_size(size, contents, "detect", 40, 32) == size
    assert rules.affordable_size(size, contents, "detect", 18, 32) == (480, 480)  # √(18/32)
    assert rules.affordable_size(size, contents, "detect", 0.25, 32) == (320, 320)


@pytest.mark.parametrize("epoch_length", [1, 10, 37, 200, 5000])
@pytest.mark.parametrize("seconds", [120, 1000, 3600, 40000])
def test_the_epochs_and_their_validations_fit_and_one_more_would_not(epoch_length, seconds):
    costs = epoch_length, 0.7, 12.0, 20.0
    epochs = rules.possible_epochs(seconds, *costs)
    if epochs:
        assert rules.seconds_for(epochs, *costs) <= seconds
    assert rules.seconds_for(epochs + 1, *costs) > seconds


def test_more_time_gives_more_epochs_up_to_those_that_pay():
    lengths = [rules.possible_epochs(s, 37, 1.5, 10, 20) for s in range(0, 20000, 500)]
    assert lengths == sorted(lengths) and lengths[0] == 0
    assert rules.most_epochs(37) == 100 and rules.most_epochs(2000) == 12
    for epoch_length in (1, 5, 37, 500, 10000):
        assert rules.enough_epochs(epoch_length) <= rules.most_epochs(epoch_length)


def test_hours_too_short_for_an_epoch_are_refused_with_those_that_are_enough():
    with pytest.raises(BadInput, match=r"too short for one epoch .* 640×360 .*--hours 0\.5 or mo"):
        rules.check_time(0, 0.1, (640, 360), 1800)
    rules.check_time(1, 0.1, (640, 360), 1800)


@pytest.mark.parametrize("name", ["turn_left", "arrow", "Nine", "b", "speed 30", "letter-x"])
def test_names_of_sides_letters_and_numbers_forbid_mirrored_pictures(name):
    assert rules.unsafe_to_flip(["cat", name]) == [name]


def test_other_names_and_mere_numbers_of_classes_do_not():
    assert rules.unsafe_to_flip(["RBC", "bone", "copyright", "Platelets", "often"]) == []
    assert rules.unsafe_to_flip(["0", "1"], numbered=True) == []


def coco(folder, segmentation):
    (folder / "annotations").mkdir()
    box = dict(id=1, image_id=1, category_id=1, bbox=[2, 2, 40, 10], area=400, iscrowd=0)
    data = dict(images=[dict(id=1, file_name="a.png", width=100, height=80)])
    data |= dict(categories=[dict(id=1, name="cat")], annotations=[box | segmentation])
    (folder / "annotations/instances_train.json").write_text(json.dumps(data))
    return folder


def test_boxes_are_for_detection_and_outlines_for_instances(tmp_path):
    found = contents_of(coco(tmp_path, {}))
    assert found.tasks == ("detect",) and found.sides == (pytest.approx(0.2),)
    assert (found.pictures, found.width, found.height) == (1, 100, 80)
    outline = tmp_path / "outline"
    outline.mkdir()
    found = contents_of(coco(outline, dict(segmentation=[[2, 2, 42, 2, 30, 12]])))
    assert found.tasks == ("instances", "detect")
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    rectangle = [[2, 2, 42, 2, 42, 12, 2, 12]]
    assert contents_of(coco(boxes, dict(segmentation=rectangle))).tasks == ("detect",)


def test_what_a_list_names_is_counted(tmp_path):
    for name in ("maps/images/train", "maps/labels/train", "kinds/train/cat", "kinds/train/dog"):
        (tmp_path / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (40 + 20 * (number > 2), 30), 1).save(tmp_path / name / f"{number}.png")
    lists = dict(maps="3\n4\n", kinds="cat/3.png 0\ndog/4.png 1\n\n")
    for folder, text in lists.items():
        (tmp_path / "list.txt").write_text(text)
        whole = contents_of(tmp_path / folder)
        named = contents_of(tmp_path / folder, None, tmp_path / "list.txt")
        assert (whole.width, named.pictures, named.width) == (40, 2, 60)
        (tmp_path / "list.txt").write_text("none\n")
    assert contents_of(tmp_path / "kinds", classes=["dog"]).pictures == 5
    with pytest.raises(BadInput, match="list.txt names no picture of .*maps to train on"):
        contents_of(tmp_path / "maps", None, tmp_path / "list.txt")
    with pytest.raises(BadInput, match="absent.json is no file"):
        contents_of(tmp_path / "maps", None, tmp_path / "absent.json")


def test_pictures_of_other_classes_are_not_counted(tmp_path):
    folder = coco(tmp_path, {})
    assert contents_of(folder, classes=["cat"]).pictures == 1
    assert contents_of(folder, classes=["dog"]).pictures == 0


def test_label_maps_and_folders_of_classes_are_told_apart(tmp_path):
    for name in ("maps/images/train/a.png", "maps/labels/train/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (60, 40), 1).save(tmp_path / name)
    for name in ("kinds/train/cat/a.png", "kinds/train/dog/b.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (60, 40)).save(tmp_path / name)
    for folder, task in (("maps", "segment"), ("kinds", "classify")):
        found = contents_of(tmp_path / folder)
        assert found.tasks == (task,) and (found.width, found.height) == (60, 40)
    with pytest.raises(BadInput, match="nothing for --task detect: it holds data for segment"):
        contents_of(tmp_path / "maps", "detect")


@pytest.mark.parametrize(
    ("made", "message"),
    [((), "is no folder"), (("",), "nothing that can be"), (("images/train",), "nothing that can")],
)
def test_a_folder_of_nothing_is_a_sentence(made, message, tmp_path):
    for name in made:
        (tmp_path / "given" / name).mkdir(parents=True)
    with pytest.raises(BadInput, match=message):
        contents_of(tmp_path / "given")


@pytest.mark.parametrize("method", rules.METHODS)
@pytest.mark.parametrize("task", rules.TASKS)
def test_a_config_gets_one_cycle_ten_validations_and_the_best_checkpoint(task, method):
    cfg = Config.fromfile(config_path(task, method), import_custom_modules=False)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.dataset.metainfo = dict(classes=("a", "b"))
    choices = Choices(task, method, (256, 192), 30, 10, 0.03, False)
    for _ in range(2):  # the choices of a second measurement replace the first
        write_size(cfg, task, choices.size, choices.flip)
        write_length(cfg, choices)
    length = cfg.train_cfg.get("max_epochs") or cfg.train_cfg.max_iters / 10
    assert length == 30 and cfg.optim_wrapper.optimizer.lr == 0.03
    assert cfg.train_cfg.val_interval * 10 == (cfg.train_cfg.get("max_epochs") or 300)
    rise, fall = cfg.param_scheduler
    assert rise["end"] == fall["begin"] == 15 and (fall["end"], fall["T_max"]) == (300, 285)
    assert cfg.default_hooks.checkpoint.save_best == rules.TASKS[task].metric
    words = [hook for hook in cfg.custom_hooks if hook["type"] == "EarlyWordHook"]
    assert len(words) == 1 and words[0]["after"] == 90
    steps = [step["type"] for step in cfg.train_dataloader.dataset.pipeline]
    assert "RandomFlip" not in steps and len(set(steps)) == len(steps)


def seen_by(step, width, height):
    """Which part of a picture the crops show, and how many there are."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)[None]
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    np.random.seed(0)
    crops = [step(dict(img=image))["img"] for _ in range(60)]
    ends = {tuple(crop[0, 0, :2].tolist()) + tuple(crop[-1, -1, :2].tolist()) for crop in crops}
    low = np.min([crop.min((0, 1)) for crop in crops], 0)[:2]
    high = np.max([crop.max((0, 1)) for crop in crops], 0)[:2]
    return (high - low).astype(int), len(ends), {crop.shape[:2] for crop in crops}


def squeezed_and_cropped(pipeline):
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        return Compose(pipeline[1:3])


@pytest.mark.parametrize("shape", [(64, 48), (300, 300), (1050, 300), (300, 1200)])
@pytest.mark.parametrize("size", [(128, 128), (256, 128)])
def test_a_classifier_sees_every_end_of_a_picture_in_the_size_that_was_said(size, shape):
    cfg = Config.fromfile(config_path("classify", "decay"))
    write_size(cfg, "classify", size, False)
    seen, crops, shapes = seen_by(
        squeezed_and_cropped(cfg.train_dataloader.dataset.pipeline), *shape
    )
    assert min(seen) > 230 and crops > 50 and shapes == {size[::-1]}
    (resize,) = (s for s in cfg.val_dataloader.dataset.pipeline if s["type"] == "Resize")
    assert resize["scale"] == size


@pytest.mark.parametrize(
    "config",
    [
        "class_folder/resnet_r18_fixnorm_1xb32-20e_folder.py",
        "from_imagenet/efficientnet_lite0_wn-eps_1xb32-20e_folder.py",
    ],
)
def test_the_classifiers_configs_see_every_end_of_a_panorama(config):
    cfg = Config.fromfile(config_path("classify", "decay").parents[1] / config)
    pipeline = cfg.train_dataloader.dataset.pipeline
    seen, crops, shapes = seen_by(squeezed_and_cropped(pipeline), 1050, 300)
    assert min(seen) > 230 and crops > 50 and shapes == {(cfg.size, cfg.size)}


def test_a_word_is_said_where_a_third_of_the_training_taught_nothing():
    flat = word([2.0] * 50, [0.0, 0.001], 0.005)
    assert "nothing is found yet" in flat and "is flat, from 2 to 2" in flat and "--lr" in flat
    falling = word([2.0 - 0.02 * k for k in range(50)], [0.0], 0.005)
    assert "falls" in falling and "--size" in falling
    assert word([2.0] * 50, [0.0, 0.1], 0.005) is None
    assert word([], [0.0], 0.005) is None
