"""What a training costs, from a few iterations of it: a probe, run as a trial is.

The probe also tells how many iterations an epoch has, which only the real data loader knows, and
finds what is wrong with a config before five trials do.
"""

from __future__ import annotations

import copy
import json
import os
import platform
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

import normfix_mm
from normfix_mm.datasets.remembered import recall, remember, stamp_of
from normfix_mm.errors import BadInput
from normfix_mm.report.run import scalars
from normfix_mm.tuning.job import flattened
from normfix_mm.tuning.outcome import last_words
from normfix_mm.tuning.search import Trial
from normfix_mm.tuning.training import Trainer

ITERATIONS = 8
BATCHES = 2  # of validation
NEVER = 10**9
KEPT = 24 * 3600  # seconds that a probe is good for
FILE = "probe.json"


@dataclass
class Cost:
    """What a probe has found.

    Attributes:
        epoch_length: iterations of an epoch; None if the command did not tell.
        iteration: seconds of a training iteration.
        validation: seconds of a whole evaluation.
        start: seconds until training begins.
    """

    epoch_length: int | None
    iteration: float
    validation: float
    start: float

    def seconds(self, iterations: float, validations: float = 1) -> float:
        return self.start + iterations * self.iteration + validations * self.validation


@HOOKS.register_module(force=True)
class ProbeHook(Hook):
    """Write down the length of an epoch and the time of an evaluation."""

    def after_train(self, runner) -> None:
        lengths: dict = dict(epoch_length=len(runner.train_dataloader))
        if runner.val_loop is not None:
            lengths.update(validation=_evaluation(runner.model, runner.val_loop.dataloader))
        if runner.rank == 0:
            (Path(runner.work_dir) / FILE).write_text(json.dumps(lengths))


def _evaluation(model, loader) -> float:
    model.eval()
    times = []
    with torch.no_grad():
        for batch, _ in zip(loader, range(BATCHES)):
            began = time.monotonic()
            model.val_step(batch)
            times.append(time.monotonic() - began)
    return min(times, default=0.0) * len(loader)


def probe_config(cfg: Config) -> Config:
    """A copy that trains a few iterations, evaluates nothing and keeps nothing."""
    cfg = copy.deepcopy(cfg)
    cfg.train_cfg = dict(
        type="IterBasedTrainLoop", max_iters=ITERATIONS, val_interval=NEVER, val_begin=NEVER
    )
    # As in a warm-up; the config's own schedule may count epochs.
    cfg.param_scheduler = [dict(type="ConstantLR", factor=0.01, by_epoch=False, begin=0, end=NEVER)]
    hooks = cfg.setdefault("default_hooks", {})
    hooks["logger"] = dict(type="LoggerHook", interval=1, log_metric_by_epoch=False)
    hooks["checkpoint"] = dict(type="CheckpointHook", interval=-1, by_epoch=False, save_last=False)
    cfg.log_processor = dict(type="LogProcessor", by_epoch=False, window_size=1)
    imports = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    names = imports["imports"]
    names = [names] if isinstance(names, str) else list(names)
    cfg.custom_imports = dict(imports, imports=[*names, __name__])
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), dict(type="ProbeHook")]
    return cfg


def measured_before(cfg: Config, data: str, **options) -> tuple[Cost, float] | None:
    """What a probe of the same has found here within a day, and how many seconds ago.

    So a dry run's probe serves the search that follows.

    Args:
        data: a digest of a folder's files.
        **options: as of :func:`measure`.
    """
    kept = recall(*_key(cfg, data, options))
    try:
        age = time.time() - kept["when"]
        return (Cost(**kept["cost"]), age) if 0 <= age < KEPT else None
    except (KeyError, TypeError):
        return None


def keep(cost: Cost, cfg: Config, data: str, **options) -> None:
    """Remember what a probe has found, for :func:`measured_before`."""
    remember(dict(when=time.time(), cost=asdict(cost)), *_key(cfg, data, options))


def _key(cfg: Config, data: str, options: dict) -> tuple:
    here = platform.node(), os.environ.get("CUDA_VISIBLE_DEVICES"), sys.executable
    versions = normfix_mm.__version__, torch.__version__
    return ("probe", cfg.pretty_text, data, _stamps(cfg), options, here, versions)


def _stamps(cfg: Config) -> dict[str, list]:
    """Size and times of the files and folders that the data loaders name."""
    stamps = {}
    for loader in ("train_dataloader", "val_dataloader"):
        leaves = flattened(cfg.get(loader) or {})
        texts = {key: text for key, text in leaves.items() if text and isinstance(text, str)}
        roots = {text for key, text in texts.items() if key.endswith("data_root")}
        for path in {os.path.join(root, text) for root in {"", *roots} for text in texts.values()}:
            if path not in roots and os.path.exists(path):
                stamps[path] = stamp_of(path)
    return dict(sorted(stamps.items()))


def measure(cfg: Config, folder: Path, **options) -> Cost:
    """Run a probe of the config in `folder`.

    Args:
        **options: `command`, `gpus` and `threads` of :class:`Trainer`.

    Raises:
        BadInput: the probe failed, with its last words.
    """
    trainer = Trainer(folder, lambda trial: probe_config(cfg), metric="", **options)
    began = time.time()
    training = trainer.start(Trial("probe"))
    try:
        code = training.process.wait()
    except BaseException:
        training.stop()
        raise
    train, _ = scalars(training.folder)
    if code or not train:
        said = last_words(training.folder / "log.txt").removeprefix("error: ")
        raise BadInput(
            f"The config does not train: {said or f'status {code}'} (the whole log is "
            f"{training.folder / 'log.txt'})"
        )
    ended = time.time()
    times = [entry["time"] for entry in train.values() if "time" in entry][1:]
    iteration = statistics.median(times) if times else (ended - began) / len(train)
    note = training.folder / FILE
    told = json.loads(note.read_text()) if note.exists() else {}
    start = max(0.0, ended - began - len(train) * iteration)
    return Cost(told.get("epoch_length"), iteration, told.get("validation", 0.0), start)
