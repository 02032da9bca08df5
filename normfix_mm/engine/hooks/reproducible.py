"""A resumed run that equals the uninterrupted one, bit for bit where the hardware does.

mmengine saves no random state, its workers outlive epochs, and its samplers draw from a seed that
a resumed run learns too late. Instead of saving states, this hook makes every random number a
function of where it is used: (seed, rank, iteration) in the training process, and (seed, rank,
iteration, place in the batch) in the data pipeline, whatever the number of workers.
"""

import logging
import math

import torch
from mmengine.dist import broadcast, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS, HOOKS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch.utils.data import BatchSampler, DataLoader

from normfix_mm.engine.hooks.reproducible_data import numbered_loader, seed_everything
from normfix_mm.errors import BadInput

_KEY = "reproducible"


@HOOKS.register_module(force=True)
class ReproducibleHook(Hook):
    """Seed all generators anew at every iteration and for every training sample.

    The seed is the run's (`randomness=dict(seed=...)`, or the one mmengine draws and stores in its
    checkpoints). Works with the epoch and the iteration loop, with any number of workers, also from
    a checkpoint in the middle of an epoch, whose first batches are then left out.

    Raises:
        ValueError: before training, if the data cannot be numbered.
        BadInput: what a resumed checkpoint says of the data is damaged.
    """

    # Before every hook that might draw a random number.
    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self._saved: dict | None = None
        self._epoch_start = 0

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        self._saved = checkpoint.get(_KEY)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        done = checkpoint["meta"]["iter"] - self._epoch_start
        checkpoint[_KEY] = self._signature(runner) | dict(batches_done=done)

    def before_train(self, runner) -> None:
        loop = runner.train_loop
        _refuse(loop)
        # Rank 0's: samplers must agree, also where `diff_rank_seed` gives every rank its own.
        self.seed = _broadcast(runner.seed)
        self.rank = get_rank()
        old = loop.dataloader
        batches = fresh_batches(runner.cfg.get("train_dataloader"), old, self.seed)
        loop.dataloader = numbered_loader(old, batches, self.seed, self.rank)
        self._batches = loop.dataloader.batch_sampler
        signature = self._signature(runner)
        if runner.iter > 0 and self._saved is not None:
            _check_saved(self._saved, isinstance(loop, EpochBasedTrainLoop))
        saved = {key: (self._saved or {}).get(key) for key in signature}
        if runner.iter > 0 and saved != signature:
            print_log(
                "ReproducibleHook: this run will differ from an uninterrupted one, because the "
                f"checkpoint was written with {self._saved and saved}, and this run has "
                f"{signature}.",
                logger="current",
                level=logging.WARNING,
            )
        if isinstance(loop, IterBasedTrainLoop):
            self._batches.done = runner.iter
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)
        elif runner.iter > 0 and saved == signature:
            self._batches.skip = self._saved["batches_done"]

    def before_train_epoch(self, runner) -> None:
        self._epoch_start = runner.iter - self._batches.skip
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches.iteration = runner.iter

    def after_train_epoch(self, runner) -> None:
        # Whatever is saved from here on, also after the evaluation (save_best), is of an epoch
        # that is over: nothing of the next one is to be left out.
        self._epoch_start = runner.iter

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        seed_everything(self.seed, self.rank, runner.iter)

    def _signature(self, runner) -> dict[str, int]:
        """What must not change for the data to come in the same order."""
        return dict(
            version=1,
            seed=self.seed,
            batches_per_epoch=len(runner.train_dataloader),
            ranks=get_world_size(),
        )


def fresh_batches(config: dict | None, loader: DataLoader, seed: int) -> BatchSampler:
    """The run's batch sampler built again, with the seed and from its start.

    The one in the loader was seeded before a resumed run knew its seed, and workers may have
    drawn from it already. Without a config there is no way to build another, and it has to do.
    """
    if not config or not isinstance(config.get("sampler"), dict):
        return loader.batch_sampler
    sampler = DATA_SAMPLERS.build(
        config["sampler"], default_args=dict(dataset=loader.dataset, seed=seed)
    )
    if isinstance(config.get("batch_sampler"), dict):
        options = dict(sampler=sampler, batch_size=config.get("batch_size"))
        return DATA_SAMPLERS.build(config["batch_sampler"], default_args=options)
    return BatchSampler(sampler, config["batch_size"], config.get("drop_last", False))


def _check_saved(saved: object, by_epoch: bool) -> None:
    """Refuse a position in the data that no run has written: batches would be passed over."""
    whole = isinstance(saved, dict) and all(
        type(saved.get(key)) is int for key in ("batches_per_epoch", "batches_done")
    )
    most = saved["batches_per_epoch"] if whole and by_epoch else math.inf
    if not whole or not 0 <= saved["batches_done"] <= most:
        raise BadInput(
            f"ReproducibleHook: the entry {_KEY!r} of the resumed checkpoint is damaged; go on "
            "from another checkpoint, or start from its weights with load_from."
        )


def _broadcast(value: int) -> int:
    """Rank 0's value on every rank."""
    shared = torch.tensor(value)
    broadcast(shared)
    return int(shared)


def _refuse(loop) -> None:
    if not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        raise ValueError(
            f"ReproducibleHook: the train loop {type(loop).__name__} is unknown; use mmengine's "
            "EpochBasedTrainLoop or IterBasedTrainLoop, or leave the hook out."
        )
    if loop.dataloader.batch_sampler is None:
        raise ValueError(
            "ReproducibleHook: the train dataloader has no batch sampler (batch_size=None or an "
            "iterable dataset), so its samples have no numbers; use a dataset with indices."
        )
    if getattr(loop, "fast_forward_on_resume", False):
        raise ValueError(
            "ReproducibleHook: fast_forward_on_resume=True starts a resumed run at the first batch "
            "again; leave it out, for this hook skips trained batches without loading them."
        )
