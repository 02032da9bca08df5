"""The datasets that a config names, and the steps of their pipelines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

LOADERS = {
    "train": ("train_dataloader", None),
    "val": ("val_dataloader", "val_evaluator"),
    "test": ("test_dataloader", "test_evaluator"),
}


def used_datasets(cfg, phases: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Name and config of each dataset of these phases."""
    for phase in phases:
        loader, _ = LOADERS[phase]
        if cfg.get(loader) is not None:
            for dataset in datasets(cfg[loader].dataset):
                yield f"{loader}.dataset", dataset


def datasets(dataset) -> Iterator[dict]:
    """The real datasets below wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get("datasets", [dataset["dataset"]] if "dataset" in dataset else None)
    if inner is None:
        yield dataset
    else:
        for each in inner:
            yield from datasets(each)


def transforms_named(dataset, name: str) -> list[dict]:
    """The steps of a dataset's pipeline whose type, a name or a class, begins with this."""
    steps = (step for step in dataset.get("pipeline") or () if isinstance(step, Mapping))
    return [step for step in steps if type_name(step).startswith(name)]


def type_name(config) -> str:
    """The bare name of what a config builds: without the registry that it is in."""
    kind = config.get("type")
    return (kind if isinstance(kind, str) else getattr(kind, "__name__", "")).rpartition(".")[2]
