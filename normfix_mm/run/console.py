"""What the terminal shows of a run: what matters, then its progress.

The frameworks print the environment, the whole config and every hook at each start, some 400
lines, and notes of their own that nobody can act on. The dumps stay in the log file.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import warnings
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.optim import Optimizer

from normfix_mm.run.resuming import forget_the_start

# How the messages begin that only the log file gets.
DUMPS = ("System environment:", "Config:\n", "Hooks will be executed in the following order:")
# What nobody can do anything about, by its beginning.
NOISE = (
    "Could not import OneDL",
    "Loads checkpoint by local backend from path",
    "backbone out_",  # MMPretrain's of timm
    "Distributed training is not used, all SyncBatchNorm",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    # pycocotools, at each look into a file
    "loading annotations into memory...",
    "Done (t=",
    "creating index...",
    "index created!",
    "Loading and preparing results...",
    "DONE (t=",
)
# The same of Python's warnings: about MMDetection's own code, and boxes over a picture's edge.
WARNINGS = (
    "faster_coco_eval is not installed",
    "DeprecationWarning: `num_anchors` is deprecated",
    "Warning: The (bbox|polygon) is out of bounds",
)
# What ImageNet's weights have for their classifier, and a detector or segmenter does not take.
_UNTAKEN = re.compile(
    r"The model and loaded state dict do not match exactly\s+"
    r"unexpected key in source state_dict: (?P<keys>[^\n]+)\s*"
)
_CLASSIFIER = re.compile(r"(\w+\.)*(conv_head|bn2|fc|classifier)\.\w+")
_COLOURS = re.compile(r"\x1b\[\d*m")
_LOGGED = re.compile(r"^[\d/]+ [\d:]+ - mmengine - \S+ - ")  # before a message of its logger


class QuietRunner(Runner):
    """mmengine's Runner, whose log file has everything and whose terminal what is of use."""

    def _init_model_weights(self) -> None:
        if self._resume and self._load_from is not None:
            forget_the_start(self.model)
        super()._init_model_weights()

    def build_logger(self, *args, **kwargs):
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_of_use)
        return logger

    def register_hooks(self, *args, **kwargs) -> None:
        super().register_hooks(*args, **kwargs)
        self.register_hook(_Beginning(), priority="VERY_HIGH")


def _is_of_use(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    untaken = _UNTAKEN.fullmatch(said)
    if untaken and all(map(_CLASSIFIER.fullmatch, untaken["keys"].split(", "))):
        return False
    return not said.lstrip("\n-").startswith((*DUMPS, *NOISE))


class _Beginning(Hook):
    """Says, before the first iteration, what is about to be trained, on what and for how long."""

    def before_train(self, runner) -> None:
        runner.logger.info("\n" + "\n".join(f"{k:<10}{v}" for k, v in beginning(runner).items()))


def beginning(runner: Runner) -> dict[str, str]:
    """What matters of a run that is about to train, by a word each."""
    loader = runner.train_dataloader
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    classes = list((getattr(loader.dataset, "metainfo", None) or {}).get("classes") or [])
    names = ", ".join(map(str, classes[:12])) + (", …" if len(classes) > 12 else "")
    parts = [type(p).__name__ for p in model.children() if hasattr(p, "init_weights")]
    batch = getattr(loader, "batch_size", None) or getattr(loader.batch_sampler, "batch_size", "?")
    length = f"{runner.max_iters - runner.iter} iterations"
    if runner.iter:
        length += f", from {runner.iter} on,"
    elif isinstance(runner.train_loop, EpochBasedTrainLoop):
        epochs = runner.max_epochs
        length = f"{epochs} epoch{'s' * (epochs != 1)}, {length}"
    each = f" by each of {runner.world_size} processes" if runner.world_size > 1 else ""
    said = {
        "model": f"{type(model).__name__}: {', '.join(parts)}",
        "classes": f"{len(classes)}: {names}",
        "training": f"{length} of {batch} images{each}",
    }
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    if isinstance(optimizer, Optimizer):
        groups = optimizer.param_groups
        rate = max(float(group.get("initial_lr", group["lr"])) for group in groups)
        decay = max(float(group.get("weight_decay", 0)) for group in groups)
        said["optimizer"] = f"{type(optimizer).__name__}, lr {rate:g}, weight decay {decay:g}"
    said["folder"] = runner.work_dir
    said["details"] = f"environment, config, hooks: the log in {runner.log_dir}"
    return said if classes else {k: v for k, v in said.items() if k != "classes"}


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Inside the block lines of noise that go to the standard output are dropped."""
    for message in WARNINGS:
        warnings.filterwarnings("ignore", message)
    sieve = _Sieve(sys.stdout)
    with contextlib.redirect_stdout(sieve):  # type: ignore[type-var]
        try:
            yield
        finally:
            sieve.flush()


class _Sieve:
    """A text stream that passes on what is of use."""

    def __init__(self, stream) -> None:
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            # mmengine's logger writes here, and filters nothing before there is a Runner.
            if not _LOGGED.sub("", _COLOURS.sub("", line), count=1).startswith(NOISE):
                self._stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        self._stream.write(self._rest)
        self._rest = ""
        self._stream.flush()

    def __getattr__(self, name: str):
        return getattr(self._stream, name)
