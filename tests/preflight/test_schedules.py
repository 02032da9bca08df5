"""Schedules shorter or longer than the training are said, those that do nothing are refused."""

import pytest
from preflight.test_coco import said
from preflight.toy_preflight import sentence

from normfix_mm.preflight import check

WARM = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=4)
STEPS = dict(type="MultiStepLR", by_epoch=True, milestones=[6, 9], gamma=0.1)
COSINE = dict(type="CosineAnnealingLR", T_max=12, by_epoch=True, end=12, eta_min=0)
POLY = dict(type="PolyLR", by_epoch=False, begin=0, end=24)  # two iterations an epoch


def warnings_of(cfg, capsys, *schedules) -> str:
    cfg.param_scheduler = [*schedules]
    return said(cfg, capsys, ("train",)).partition("warning")[2]


def by_iterations(cfg, length):
    cfg.train_cfg = dict(type="IterBasedTrainLoop", max_iters=length, val_interval=length)


@pytest.mark.parametrize(
    "schedules",
    [
        [],
        [WARM, STEPS],
        [WARM, COSINE],
        [WARM, POLY | dict(begin=4)],
        [WARM, COSINE | dict(convert_to_iter_based=True)],
        [COSINE | dict(T_max=6, end=6), COSINE | dict(T_max=6, begin=6)],
        [dict(type="ExponentialLR", gamma=0.9)],
        [dict(type="OneCycleLR", eta_max=0.1, total_steps=24, by_epoch=False)],
    ],
    ids=range(8),
)
def test_schedules_as_long_as_the_training_pass(own_cfg, capsys, schedules):
    assert warnings_of(own_cfg, capsys, *schedules) == ""


@pytest.mark.parametrize(
    ("schedules", "words"),
    [
        ([STEPS | dict(milestones=[6, 12])], "lowers the rate at [12], but training has 12"),
        ([STEPS | dict(milestones=[16, 22])], "epochs: none of its milestones is reached"),
        ([STEPS | dict(begin=4)], "lowers the rate at [9], but training has 12 epochs: not all"),
        ([STEPS | dict(by_epoch=False, milestones=[10, 30])], "at [30], but training has 24 itera"),
        (
            [dict(type="StepLR", step_size=12)],
            "lowers the rate after 12 epochs, but training has 12",
        ),
        ([WARM | dict(end=24)], "warms up for 24 iterations, but training has 24"),
        ([WARM | dict(end=500)], "warms up for 500 iterations"),
        ([WARM | dict(by_epoch=True, end=12)], "warms up for 12 epochs"),
        ([COSINE | dict(T_max=24, end=24)], "ends after 2 times the training's 12 epochs"),
        ([COSINE | dict(T_max=6, end=6)], "ends after 0.5 times the training's 12 epochs"),
        ([dict(type="CosineAnnealingLR", T_max=6)], "ends after 0.5 times"),
        ([COSINE | dict(T_max=6)], "T_max=6, but lasts 12 epochs: the rate climbs again"),
        ([COSINE | dict(T_max=24)], "T_max=24, but lasts 12 epochs: the rate does not come down"),
        ([POLY | dict(end=90000)], "the rate does not come down to its end"),
        ([POLY | dict(end=12)], "the rest is trained with the last rate"),
    ],
    ids=range(15),
)
def test_schedules_of_another_length_are_said(own_cfg, capsys, schedules, words):
    assert words in warnings_of(own_cfg, capsys, *schedules)


def test_the_length_is_that_of_this_run(own_cfg, capsys, monkeypatch):
    """Wrappers repeat the data, batches and processes share them."""
    dataset = own_cfg.train_dataloader.dataset
    own_cfg.train_dataloader.dataset = dict(type="RepeatDataset", times=3, dataset=dataset)
    assert warnings_of(own_cfg, capsys, POLY | dict(end=72)) == ""
    own_cfg.train_dataloader.batch_size = 6
    assert warnings_of(own_cfg, capsys, POLY) == ""
    own_cfg.train_dataloader.batch_size = 3
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert warnings_of(own_cfg, capsys, POLY) == ""
    assert "ends after 2 times" in warnings_of(own_cfg, capsys, POLY | dict(end=48))


def test_epochs_in_a_loop_that_has_none(own_cfg, capsys):
    by_iterations(own_cfg, 24)
    own_cfg.param_scheduler = [WARM, STEPS]
    assert "param_scheduler[1] (MultiStepLR) goes by epochs" in sentence(own_cfg, ("train",))
    assert warnings_of(own_cfg, capsys, WARM, POLY) == ""
    assert "ends after 2 times" in warnings_of(own_cfg, capsys, WARM, POLY | dict(end=48))


def test_an_epoch_without_an_iteration(own_cfg):
    own_cfg.train_dataloader.update(batch_size=8, drop_last=True)
    assert "An epoch would have no iteration" in sentence(own_cfg, ("train",))


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (STEPS | dict(milestones=["6", 9]), "has milestones=['6', 9]; give numbers"),
        (COSINE | dict(T_max="12"), "has T_max='12'; give numbers"),
        (WARM | dict(start_factor=0.0), "has start_factor=0, from which no factor leads up"),
    ],
)
def test_options_that_schedules_cannot_count_with(own_cfg, schedule, words):
    own_cfg.param_scheduler = [schedule]
    assert words in sentence(own_cfg, ("train",))


def test_an_epoch_and_an_evaluation_without_an_end(own_cfg):
    endless = dict(type="InfiniteSampler", shuffle=True)
    own_cfg.train_dataloader.sampler = endless
    text = sentence(own_cfg, ("train",))
    assert "An epoch of train_cfg would never end: train_dataloader.sampler is Infinite" in text
    own_cfg.train_dataloader.num_batch_per_epoch = 2
    check(own_cfg, ("train",))
    own_cfg.train_dataloader.pop("num_batch_per_epoch")
    by_iterations(own_cfg, 24)
    check(own_cfg, ("train",))
    own_cfg.val_dataloader.sampler = endless
    assert "The evaluation would never end: val_dataloader" in sentence(own_cfg, ("train", "val"))


def test_a_validation_that_never_comes(own_cfg, capsys):
    own_cfg.train_cfg.val_interval = 13
    assert "val_interval is 13, training ends at 12: not validated before" in said(own_cfg, capsys)
    own_cfg.train_cfg.val_begin = 14
    assert "val_begin is 14, training ends at 12: never validated" in said(own_cfg, capsys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("train_cfg.max_epochs", 0),
        ("train_cfg.max_epochs", 1.5),
        ("train_cfg.val_interval", 0),
        ("train_dataloader.batch_size", 0),
        ("train_dataloader.batch_size", "two"),
        ("val_dataloader.num_workers", -1),
    ],
)
def test_numbers_that_make_no_training(own_cfg, name, value):
    own_cfg.merge_from_dict({name: value})
    assert f"{name} is {value!r}; give a whole number" in sentence(own_cfg)
