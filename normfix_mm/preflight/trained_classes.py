"""Was the checkpoint trained on the classes of this config, in their order?

mmengine notes the classes of the training data in each checkpoint, and says nothing when a run is
resumed or evaluated with others: every number of a class then stands for another one.
"""

from __future__ import annotations

from collections.abc import Mapping

from normfix_mm.datasets.config import classes_of, used_datasets
from normfix_mm.errors import BadInput, quoted
from normfix_mm.preflight.notes import warn


def check_resumable(checkpoint: dict, path: str, cfg) -> None:
    """Is this what a run wrote, and one of the same classes?

    Raises:
        BadInput: It holds weights alone, or was trained on other classes or another order.
    """
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping) or not all(
        type(meta.get(key)) is int and meta[key] >= 0 for key in ("epoch", "iter")
    ):
        raise BadInput(
            f"The checkpoint {path!r} cannot be resumed: it holds weights, but no state of a run; "
            "start from its weights with load_from."
        )
    needed = {"optimizer": "optim_wrapper", "param_schedulers": "param_scheduler"}
    absent = [key for key, option in needed.items() if key not in checkpoint and cfg.get(option)]
    if absent:
        raise BadInput(
            f"The checkpoint {path!r} cannot be resumed: it has no {quoted(absent)}, as those of "
            "the best evaluation (best_….pth) have none, so that schedules would begin anew; "
            "resume from an epoch_….pth or iter_….pth, or start from its weights with load_from."
        )
    trained, wanted = classes_in(checkpoint), _classes_of(cfg, "train")
    if trained is not None and wanted is not None and trained != wanted:
        raise BadInput(
            f"The run of {path!r} was trained on {_difference(trained, wanted)}, so its outputs "
            "would stand for other classes from here on; go on with the classes that it had, or "
            "start a new run from its weights with load_from."
        )


def check_class_order(checkpoint: dict, path: str, cfg) -> None:
    """Refuse to evaluate a model under its own class names in another order.

    Raises:
        BadInput: With the first class that is elsewhere.
    """
    trained, wanted = classes_in(checkpoint), _classes_of(cfg, "test")
    if trained and wanted and trained != wanted and sorted(trained) == sorted(wanted):
        raise BadInput(
            f"The model of {path!r} was trained on {_difference(trained, wanted)}: its outputs "
            "would be taken for other classes; give the classes in the order of the training."
        )
    if trained and wanted and trained != wanted:
        warn(
            f"The model of {path!r} was trained on {_difference(trained, wanted)}; its outputs are "
            "taken for the classes of the config, number by number."
        )


def classes_in(checkpoint: dict) -> list[str] | None:
    """The classes that a run notes in its checkpoints; None where there are none."""
    meta = checkpoint.get("meta")
    noted = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
    classes = noted.get("classes") if isinstance(noted, Mapping) else None
    return list(map(str, classes)) if isinstance(classes, (list, tuple)) else None


def _classes_of(cfg, phase: str) -> list[str] | None:
    """The classes of a phase's first dataset, which mmengine notes; None where nothing tells."""
    for where, dataset in used_datasets(cfg, (phase,)):
        classes = classes_of(dataset, where)
        return None if classes is None else list(classes)
    return None


def _difference(trained: list[str], wanted: list[str]) -> str:
    if sorted(trained) == sorted(wanted):
        index = next(i for i, (a, b) in enumerate(zip(trained, wanted)) if a != b)
        return (
            "the same classes in another order than the config's (class number "
            f"{index} was {trained[index]!r} and is {wanted[index]!r})"
        )
    gone, new = set(trained) - set(wanted), set(wanted) - set(trained)
    changes = [f"the config has no {quoted(sorted(gone))}"] if gone else []
    changes += [f"the config adds {quoted(sorted(new))}"] if new else []
    return f"other classes than the config's ({'; '.join(changes) or 'some are named twice'})"
