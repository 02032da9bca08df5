"""Shortened configs: their rates are the original's, sampled from mmengine's own schedulers."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

from normfix_mm.errors import BadInput
from normfix_mm.tuning.schedule import iterations, shortened, warm_up

L = 50  # iterations of an epoch


def config(schedulers, epochs: int | None = None, iters: int | None = None, **changes) -> Config:
    loop = dict(type="EpochBasedTrainLoop", max_epochs=epochs, val_interval=2)
    if iters:
        loop = dict(type="IterBasedTrainLoop", max_iters=iters, val_interval=iters // 10)
    hooks = dict(checkpoint=dict(type="CheckpointHook", interval=1 if epochs else iters // 10))
    hooks["logger"] = dict(type="LoggerHook", interval=50)
    return Config(dict(train_cfg=loop, param_scheduler=schedulers, default_hooks=hooks) | changes)


@pytest.mark.parametrize(
    "first",
    [
        dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=100),
        dict(type="LinearLR", by_epoch=False, end=70),
        dict(type="LinearLR", start_factor=0.1, begin=0, end=2, convert_to_iter_based=True),
        dict(type="ConstantLR", factor=0.1, by_epoch=False, begin=0, end=30),
        dict(type="LinearLR", start_factor=1.0, end_factor=0.1, by_epoch=False, begin=0, end=90),
        dict(type="StepLR", step_size=2, gamma=0.5),
    ],
)
def test_the_warm_up_ends_where_the_rate_is_whole(first):
    cfg = config([first], epochs=4)
    if first.get("convert_to_iter_based"):
        assert warm_up(cfg, L) == 2 * L
        return
    found = rates(cfg)
    first_whole = next(i for i, rate in enumerate(found) if rate == pytest.approx(max(found)))
    assert warm_up(cfg, L) == pytest.approx(first_whole, abs=1)


def rates(cfg: Config) -> list[float]:
    """The rate at each iteration, stepped as ParamSchedulerHook does."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    wrapper = OptimWrapper(optimizer)
    total = iterations(cfg, L)
    by_epoch = "max_epochs" in cfg.train_cfg
    built = []
    for each in cfg.param_scheduler:
        each = dict(each)
        each.setdefault("end", cfg.train_cfg.max_epochs if each.get("by_epoch", True) else total)
        args = dict(optimizer=wrapper, epoch_length=L)
        built.append(PARAM_SCHEDULERS.build(each, default_args=args))
    found = []
    for step in range(1, total + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in built:
            if not scheduler.by_epoch or (by_epoch and step % L == 0):
                scheduler.step()
    return found


WARM = dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=100)
SCHEDULES = {
    "steps": [WARM, dict(type="MultiStepLR", by_epoch=False, milestones=[1300, 1800], gamma=0.1)],
    "poly": [dict(type="PolyLR", power=0.9, eta_min=0.0, begin=0, end=2001, by_epoch=False)],
    "cosine": [
        WARM,
        dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=2000, T_max=1900),
    ],
    "exponential": [dict(type="ExponentialLR", gamma=0.999, by_epoch=False)],
    "every": [dict(type="StepLR", step_size=500, gamma=0.5, by_epoch=False)],
    "restarts": [
        dict(
            type="CosineRestartLR",
            periods=[800, 1200],
            restart_weights=[1, 0.5],
            eta_min=0.0,
            by_epoch=False,
        )
    ],
    "one cycle": [dict(type="OneCycleLR", eta_max=1.0, total_steps=2000, by_epoch=False)],
}
EPOCHS = {
    "steps": [WARM, dict(type="MultiStepLR", by_epoch=True, milestones=[27, 36], gamma=0.1)],
    "cosine": [
        dict(
            type="CosineAnnealingLR",
            by_epoch=True,
            convert_to_iter_based=True,
            begin=0,
            end=40,
            T_max=40,
        )
    ],
    "from the second epoch": [
        WARM,
        dict(type="CosineAnnealingLR", by_epoch=True, convert_to_iter_based=True, begin=2, end=40),
    ],
    "exponential by epoch": [dict(type="ExponentialLR", gamma=0.9, by_epoch=True)],
    "linear to the end": [dict(type="LinearLR", start_factor=1, end_factor=0.01, by_epoch=True)],
}


def same_shape(short: list[float], whole: list[float], share: float, tolerance: float) -> None:
    """At each moment of the short training, the rate of the same moment of the whole one.

    Steps are allowed to come one iteration of the short training late.
    """
    assert len(short) == round(share * len(whole))
    for step, rate in enumerate(short):
        near = whole[max(0, int((step - 1) / share)) : math.ceil((step + 1) / share) + 1]
        assert min(near) - tolerance <= rate <= max(near) + tolerance, step


@pytest.mark.parametrize("share", [0.2, 0.13, 0.5, 0.01])
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_shorter_schedule_of_iterations_has_the_same_shape(name, share):
    cfg = config(SCHEDULES[name], iters=2000)
    short = shortened(cfg, share)
    assert short.train_cfg.max_iters == round(2000 * share)
    assert short.train_cfg.val_interval == math.ceil(200 * share)
    assert short.default_hooks.checkpoint.interval == math.ceil(200 * share)
    same_shape(rates(short), rates(cfg), share, 1e-3)
    original = config(SCHEDULES[name], iters=2000).to_dict()
    assert cfg.to_dict() == original  # it is left as it was


@pytest.mark.parametrize(("share", "loop"), [(0.2, "Epoch"), (0.5, "Epoch"), (0.13, "Iter")])
@pytest.mark.parametrize("name", EPOCHS)
def test_a_shorter_schedule_of_epochs_has_the_same_shape(name, share, loop):
    cfg = config(EPOCHS[name], epochs=40)
    short = shortened(cfg, share, L)
    assert short.train_cfg.type == f"{loop}BasedTrainLoop"
    assert iterations(short, L) == round(40 * L * share)
    # Where the original steps once an epoch and the short one each iteration, a step is the limit.
    steps = name in ("exponential by epoch", "linear to the end")
    same_shape(rates(short), rates(cfg), share, 0.11 if steps else 1e-3)
    if loop == "Iter":
        assert short.train_cfg.val_interval == math.ceil(2 * L * share)
        assert short.default_hooks.checkpoint.interval == math.ceil(L * share)
        assert short.default_hooks.checkpoint.by_epoch is False
        assert short.default_hooks.logger.interval <= iterations(short, L) / 20
        assert short.log_processor.by_epoch is False
    else:
        assert short.train_cfg.val_interval == max(1, math.ceil(2 * share))


def test_the_last_step_of_a_schedule_stays_beyond_the_end():
    """end=2001 of 2000 iterations keeps the last one's rate above zero; a fifth of it does."""
    short = shortened(config(SCHEDULES["poly"], iters=2000), 0.2)
    assert short.param_scheduler[0].end == 401 and rates(short)[-1] > 0


def test_hooks_that_count_epochs_keep_them():
    hook = dict(type="YOLOXModeSwitchHook", num_last_epochs=3)
    cfg = config(EPOCHS["steps"], epochs=8, custom_hooks=[hook])
    cfg.param_scheduler[1].milestones = [6]
    short = shortened(cfg, 0.2, L)  # 1.6 epochs: two
    assert short.train_cfg.max_epochs == 2 and short.custom_hooks[0].num_last_epochs == 1
    assert short.param_scheduler[1].milestones == [75] and not short.param_scheduler[1].by_epoch
    same_shape(rates(short), rates(cfg), 0.25, 1e-3)


def test_validation_that_begins_late_or_changes_its_pace_scales_too():
    cfg = config(SCHEDULES["poly"], iters=2000)
    cfg.train_cfg.update(val_begin=500, dynamic_intervals=[(1500, 50)])
    loop = shortened(cfg, 0.2).train_cfg
    assert loop.val_begin == 100 and loop.dynamic_intervals == [(300, 10)]


def test_the_whole_budget_is_the_config_itself():
    cfg = config(EPOCHS["steps"], epochs=7)
    assert shortened(cfg, 1).to_dict() == cfg.to_dict() and shortened(cfg, 1) is not cfg


@pytest.mark.parametrize(
    ("schedulers", "length", "share", "words"),
    [
        ([dict(type="ReduceOnPlateauLR", monitor="loss")], 100, 0.2, "follows the course"),
        (SCHEDULES["poly"], 10, 0.01, "nothing of 10 iterations"),
    ],
)
def test_what_cannot_be_shortened_is_refused(schedulers, length, share, words):
    with pytest.raises(BadInput, match=words):
        shortened(config(schedulers, iters=length), share)


def test_a_config_without_a_length_is_refused():
    with pytest.raises(BadInput, match="max_epochs nor max_iters"):
        shortened(Config(dict(train_cfg=dict(type="Own"))), 0.2)


def test_epochs_of_unknown_length_are_refused():
    with pytest.raises(BadInput, match="how long one is"):
        shortened(config(EPOCHS["steps"], epochs=8), 0.2)
