"""A resumed run is the uninterrupted one, bit for bit: flips, workers, loops, any checkpoint."""

import inspect
import pickle
import random

import numpy as np
import pytest
import torch
from engine.toy_run import evaluation, spoil_random_state, toy_config, train
from mmengine.registry import TRANSFORMS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from normfix_mm.engine.hooks.reproducible_data import (
    NumberedBatches,
    SeededDataset,
    numbered_loader,
)

pytestmark = pytest.mark.slow

HOOKS = [dict(type="ReproducibleHook"), dict(type="NormFixHook"), dict(type="EMAHook")]


@TRANSFORMS.register_module(force=True)
class DrawNumbers:
    """Puts one number of each generator into the picture, as an augmentation would."""

    def __call__(self, results):
        noise = random.random() + np.random.rand() + torch.rand(()).item()
        results["img"] = results["img"] + np.float32(10 * noise)
        return results


def config(root, work_dir, **changes):
    made = toy_config(root, work_dir, **changes)
    for part in made.train_dataloader.dataset.datasets:
        part.pipeline.insert(3, dict(type="DrawNumbers"))
    return made


def states(work_dir, name):
    saved = torch.load(work_dir / f"{name}.pth", weights_only=False)
    optimizer = saved["optimizer"]["state"]
    momenta = {k: v["momentum_buffer"] for k, v in optimizer.items() if "momentum_buffer" in v}
    return saved["state_dict"], saved["ema_state_dict"], momenta


def assert_equal(work_dirs, name):
    for first, second in zip(*(states(d, name) for d in work_dirs), strict=True):
        assert list(first) == list(second) and first
        for key, value in first.items():
            assert torch.equal(value, second[key]), key


@pytest.mark.parametrize(
    ("by_epoch", "length", "first", "last"),
    [(True, 2, "epoch_1", "epoch_2"), (False, 9, "iter_4", "iter_9")],
    ids=["epochs", "iterations"],
)
def test_resumed_equals_uninterrupted(toy_data, tmp_path, by_epoch, length, first, last):
    """Two persistent workers, random flips, and a seed that only the checkpoint knows."""
    options = dict(by_epoch=by_epoch, length=length, custom_hooks=HOOKS, randomness=dict(seed=None))
    train(config(toy_data, tmp_path / "a", workers=2, **options))
    spoil_random_state()
    resume = dict(resume=True, load_from=str(tmp_path / "a" / f"{first}.pth"))
    # Another number of workers shares the samples out otherwise; it must not matter.
    train(config(toy_data, tmp_path / "b", workers=2 if by_epoch else 1, **options, **resume))
    assert_equal([tmp_path / "a", tmp_path / "b"], last)


def test_resumed_from_an_epoch_that_was_the_best(toy_data, tmp_path):
    """`save_best` writes its checkpoint again after the evaluation, when the epoch is counted."""
    options = dict(length=3, custom_hooks=HOOKS, **evaluation(toy_data))
    options["model.test_cfg.score_thr"] = 0.0
    options["default_hooks.checkpoint"] = dict(
        type="CheckpointHook", interval=1, save_best="coco/bbox_mAP", rule="greater"
    )
    train(config(toy_data, tmp_path / "a", **options))
    spoil_random_state()
    (best,) = (tmp_path / "a").glob("best_*.pth")
    assert best.name.endswith("epoch_1.pth")
    resume = dict(resume=True, load_from=str(tmp_path / "a/epoch_1.pth"))
    resumed = train(config(toy_data, tmp_path / "b", **options, **resume))
    assert resumed.iter == 3 * len(resumed.train_dataloader)
    assert_equal([tmp_path / "a", tmp_path / "b"], "epoch_3")


def test_resumed_in_the_middle_of_an_epoch(toy_data, tmp_path):
    options = dict(length=2, custom_hooks=HOOKS)
    options["default_hooks.checkpoint"] = dict(type="CheckpointHook", interval=4, by_epoch=False)
    whole = train(config(toy_data, tmp_path / "a", **options))
    spoil_random_state()
    resume = dict(resume=True, load_from=str(tmp_path / "a" / "iter_8.pth"))
    resumed = train(config(toy_data, tmp_path / "b", **options, **resume))
    assert whole.iter == resumed.iter == 12 and resumed.epoch == 2
    assert_equal([tmp_path / "a", tmp_path / "b"], "iter_12")


def test_a_finite_sampler_in_the_iteration_loop(toy_data, tmp_path, monkeypatch):
    """mmengine starts it over when it is used up, here after six batches."""
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    options = {"train_dataloader.sampler": dict(type="DefaultSampler"), "custom_hooks": HOOKS}
    options |= dict(by_epoch=False, length=9)
    train(config(toy_data, tmp_path / "a", **options))
    resume = dict(resume=True, load_from=str(tmp_path / "a" / "iter_7.pth"))
    train(config(toy_data, tmp_path / "b", **options, **resume))
    assert_equal([tmp_path / "a", tmp_path / "b"], "iter_9")


def test_another_batch_size_is_said_to_differ(toy_data, tmp_path):
    train(config(toy_data, tmp_path / "a", length=1, custom_hooks=HOOKS))
    resume = dict(resume=True, load_from=str(tmp_path / "a" / "epoch_1.pth"), length=2)
    other = {"train_dataloader.batch_size": 3, "custom_hooks": HOOKS}
    train(config(toy_data, tmp_path / "b", **other, **resume))
    log = "".join(path.read_text() for path in (tmp_path / "b").glob("*/*.log"))
    assert "will differ from an uninterrupted one" in log and "'batches_per_epoch': 6" in log


@pytest.mark.skipif(
    "fast_forward_on_resume" not in inspect.signature(IterBasedTrainLoop).parameters,
    reason="OpenMMLab's mmengine always advances the data",
)
def test_skipping_advanced_data_is_refused(toy_data, tmp_path):
    options = {"train_cfg.fast_forward_on_resume": True, "custom_hooks": HOOKS, "by_epoch": False}
    with pytest.raises(ValueError, match="fast_forward_on_resume=True"):
        train(config(toy_data, tmp_path, **options))


# The data alone: no detector.


class Letters:
    """Four samples, each with one number of every generator."""

    pipeline = "first"

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def loader(workers=0, seed=7, rank=0, batch_size=2):
    batches = BatchSampler(SequentialSampler(range(4)), batch_size, False)
    plain = DataLoader(Letters(), num_workers=workers, collate_fn=list)
    return numbered_loader(plain, batches, seed, rank)


def test_numbers_do_not_depend_on_the_workers():
    assert list(loader(0)) == list(loader(1)) == list(loader(2))


def test_every_sample_epoch_seed_and_rank_has_its_own_numbers():
    one = loader()
    draws = [sample[1:] for _ in range(2) for batch in one for sample in batch]
    for other in (loader(seed=8), loader(rank=1)):
        draws += [sample[1:] for batch in other for sample in batch]
    for generator in zip(*draws, strict=True):
        assert len(set(generator)) == len(draws) == 16


def test_trained_batches_come_empty_and_skipped_ones_not_at_all():
    whole = list(loader(batch_size=1))
    advanced, skipped = loader(batch_size=1), loader(batch_size=1)
    advanced.batch_sampler.done = 2
    assert list(advanced) == [[], [], *whole[2:]]
    skipped.batch_sampler.skip, skipped.batch_sampler.iteration = 3, 3
    assert list(skipped) == whole[3:]
    assert len(list(skipped)) == 4  # only the first pass is cut short


def test_the_wrapped_dataset_is_still_the_dataset():
    dataset = Letters()
    wrapped = SeededDataset(dataset, 1, 0)
    wrapped.pipeline = "second"  # as mmdet's PipelineSwitchHook does
    assert dataset.pipeline == wrapped.pipeline == "second" and len(wrapped) == 4
    assert pickle.loads(pickle.dumps(wrapped)).pipeline == "second"
    with pytest.raises(AttributeError):
        wrapped.nothing  # noqa: B018
    assert NumberedBatches(BatchSampler(SequentialSampler(dataset), 2, False)).batch_size == 2


def test_the_training_process_is_seeded_per_iteration(toy_data, tmp_path):
    runner = Runner.from_cfg(toy_config(toy_data, tmp_path, length=1, custom_hooks=HOOKS[:1]))
    hook = next(h for h in runner.hooks if type(h).__name__ == "ReproducibleHook")
    hook.seed, hook.rank, drawn = 5, 0, []
    runner.train_loop  # noqa: B018  built on demand
    for iteration in (0, 1, 0):
        spoil_random_state()
        runner._train_loop._iter = iteration
        hook.before_train_iter(runner, 0)
        drawn.append((random.random(), np.random.rand(), torch.rand(()).item()))
    assert drawn[0] == drawn[2] and not set(drawn[0]) & set(drawn[1])
