"""Training a config as the commands do: gone on with, checked, run, and told how it goes on."""

from __future__ import annotations

import shlex

from mmengine.hooks import Hook
from mmengine.runner import Runner

from normfix_mm import preflight
from normfix_mm.engine import (
    AsTrainedHook,
    ClassRecordHook,
    FiniteWeightsHook,
    FreshScoresHook,
    RunRecordHook,
)
from normfix_mm.run import ending, resuming
from normfix_mm.run.runner import build_runner


def train(cfg, resume: bool | str = False, contents: bool = True) -> None:
    """Train a complete config (flags and overrides merged in).

    Args:
        resume: go on from this checkpoint, or (True) from the latest of the work dir.
        contents: whether to look into annotation files, pictures and label files first.

    Raises:
        BadInput: what can be known to be wrong before it costs time.
        Stopped: what can only be seen in training, such as weights that are no longer finite.
        Interrupted: by Ctrl-C or a signal, with what was saved.
    """
    if resume:
        resuming.resume(cfg, resume if isinstance(resume, str) else None)
    source = "`--resume`" if resume and cfg.resume else "`load_from`"
    preflight.check(cfg, ("train", "val"), source, contents)
    with resuming.resumable(cfg.work_dir):
        runner = build_runner(cfg)
        add_hooks(runner)
        runner.train()


def add_hooks(runner: Runner) -> None:
    """What every training by our commands has, whether its config names it or not."""
    hooks: list[Hook] = [
        AsTrainedHook(),
        FiniteWeightsHook(),
        FreshScoresHook(),
        ClassRecordHook(),
        RunRecordHook(),
    ]
    for hook in hooks:
        if not any(type(there) is type(hook) for there in runner.hooks):
            runner.register_hook(hook)
    for hook in runner.hooks:
        if isinstance(hook, RunRecordHook):
            hook.command = hook.command or shlex.join(ending.typed())
