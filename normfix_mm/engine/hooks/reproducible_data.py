"""Data whose every random number is a function of (seed, rank, iteration, place in the batch).

A worker's generators run on from sample to sample, so what an augmentation draws depends on all
the worker has done since it started, which a resumed run cannot know. Here the generators
(Python's, NumPy's, torch's) are seeded anew for every sample before its pipeline runs.
Departure from a plain run: none in distribution, only in which numbers are drawn.

Not covered: transforms that keep state of their own between samples (a mosaic's cache), and
libraries with generators of their own (albumentations).
"""

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader


def seed_everything(*key: int) -> None:
    """Seed Python's, NumPy's and torch's generators from a tuple of non-negative integers."""
    words = np.random.SeedSequence(key).generate_state(4)
    random.seed(int(words[0]) << 32 | int(words[1]))
    np.random.seed(words)
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


class NumberedBatches:
    """A batch sampler whose batches say which iteration and which place each index is for.

    Yields a list of (iteration, place, index) for each batch.

    Attributes:
        iteration: number of the next batch.
        done: iterations before this one, which a resumed run has behind it, yield empty batches and
            load nothing; mmengine's iteration loop draws and drops them to get there.
        skip: so many batches at the start of the next pass are left out, so that mmengine's epoch
            loop goes on in the middle of an epoch.
    """

    def __init__(self, batches: BatchSampler) -> None:
        self.batches = batches
        self.iteration = self.done = self.skip = 0

    @property
    def sampler(self):
        """The sampler of indices, for hooks that call its `set_epoch`."""
        return self.batches.sampler

    @property
    def batch_size(self) -> int:
        return self.batches.batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        skip, self.skip = self.skip, 0
        for number, batch in enumerate(self.batches):
            if number < skip:
                continue
            iteration = self.iteration
            self.iteration += 1
            if iteration < self.done:
                yield []
            else:
                yield [(iteration, place, index) for place, index in enumerate(batch)]


class SeededDataset:
    """A dataset that seeds all generators from the number of each sample before it is loaded.

    Attributes are read from and written to the wrapped dataset, as hooks that change a pipeline
    in mid-training expect.
    """

    def __init__(self, dataset, seed: int, rank: int) -> None:
        self.__dict__.update(dataset=dataset, key=(seed, rank))

    def __getitem__(self, numbered: tuple[int, int, int]):
        iteration, place, index = numbered
        # One number more than the (seed, rank, iteration) of the training process, so that the two
        # never draw the same.
        seed_everything(*self.key, iteration, place, 1)
        return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str):
        if name == "dataset":  # while unpickling there is none yet
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value) -> None:
        setattr(self.dataset, name, value)

    def __getstate__(self) -> dict:
        return self.__dict__

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


class CollateUnlessEmpty:
    """The loader's collate function, which never sees the empty batches of `NumberedBatches`."""

    def __init__(self, collate: Callable) -> None:
        self.collate = collate

    def __call__(self, samples: list):
        return self.collate(samples) if samples else []


def numbered_loader(loader: DataLoader, batches: BatchSampler, seed: int, rank: int) -> DataLoader:
    """A loader like `loader` over the same dataset, drawing numbered batches."""
    options = ["num_workers", "pin_memory", "timeout", "worker_init_fn", "generator"]
    options += ["prefetch_factor", "persistent_workers", "multiprocessing_context"]
    return DataLoader(
        SeededDataset(loader.dataset, seed, rank),
        batch_sampler=NumberedBatches(batches),
        collate_fn=CollateUnlessEmpty(loader.collate_fn),
        **{name: getattr(loader, name) for name in options},
    )
