"""What a recipe says: before training what was chosen and what changes it, after it the result."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping
from pathlib import Path

from normfix_mm.preflight.notes import note, warn
from normfix_mm.recipe.rules import METHODS, TASKS, spoken
from normfix_mm.recipe.store import RecipeRun
from normfix_mm.report import facts
from normfix_mm.report.run import Run
from normfix_mm.typed import invocation, line

_LENGTHS = ("train_cfg.max_epochs", "train_cfg.max_iters")


def say(run: RecipeRun) -> None:
    """What was chosen, and what changes it."""
    made, told = run.choices, run.told
    iterations = made.epochs * made.epoch_length
    took = ""
    if "seconds" in told:
        took = f", some {spoken(told['seconds'])} of {spoken(3600 * told['hours'])}"
    names = told.get("unsafe")
    mirrored = "mirrored at random (--no-flip)"
    if not made.flip:
        mirrored = "not mirrored" + (f", as {names[0]!r} would be another thing" if names else "")
    lines = {
        "task": f"{made.task}, {TASKS[made.task].model} from ImageNet (--task)",
        "method": f"{made.method} (--method {', '.join(METHODS)})",
        "pictures": f"{told['pictures']} of {made.size[0]}×{made.size[1]} (--size W H), {mirrored}",
        "length": f"{made.epochs} epochs, {iterations} iterations of {told['batch']}{took} "
        "(--hours, --epochs)",
        "rate": f"up to {made.lr:g}, one cycle (--lr)",
    }
    note("\n".join(f"{key:<10}{value}" for key, value in lines.items()))


def conclude(run: RecipeRun, args: argparse.Namespace) -> None:
    """The result, the page, and how to go on."""
    task, work_dir = TASKS[run.choices.task], run.work_dir
    done = Run.load(work_dir)
    steps, values = done.val_curve(task.metric.rpartition("/")[2])
    if values:
        where = max(zip(values, steps))
        note(f"{task.word} {where[0]:.3f}, the best of {len(values)}, after {where[1]} iterations")
    words = longer(run, args)
    page = _page(done, work_dir, run, words)
    lines = [f"page      {page}"] if page else []
    if done.checkpoint is not None:
        lines.append(f"test      {line(facts.tested(done))}")
        if (fold := facts.deployed(done)) is not None:
            lines.append(f"deploy    {line(fold)}")
    if (tune := facts.tuned(done)) is not None:
        lines.append(f"tune      {line(tune)}")
    lines.append(f"longer    {line(words)}")
    note("\n".join(lines))


def longer(run: RecipeRun, args: argparse.Namespace) -> list[str]:
    """The command for the same training, twice as long, in another work dir."""
    given = dict(run.told["given"])
    hours, epochs = 2 * run.told["hours"], given.pop("epochs", None)
    given["hours"] = f"{hours:g}"
    if epochs:
        del given["hours"]
        given["epochs"] = 2 * epochs
    words = [str(args.folder)]
    for name, value in given.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += map(str, value if isinstance(value, (list, tuple)) else [value])
    if args.skip_data_check:
        words.append("--skip-data-check")
    words += ["--work-dir", f"{run.work_dir}_longer"]
    chosen = [*run.told.get("settings", ()), *settings(args.cfg_options)]
    if chosen:
        last = {setting.partition("=")[0]: setting for setting in chosen}
        words += ["--cfg-options", *map(_doubled, last.values())]
    return [*invocation("train-folder").split(), *words]


def settings(options: Mapping | None) -> list[str]:
    """What --cfg-options was given, word by word."""
    return [f"{key}={_written(value)}" for key, value in (options or {}).items()]


def _written(value: object) -> str:
    if isinstance(value, (list, tuple)):
        inner = ",".join(map(_written, value))
        return f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    return str(value)


def _doubled(setting: str) -> str:
    """A length that stands in a setting is the one that counts."""
    key, _, value = setting.partition("=")
    return f"{key}={2 * int(value)}" if key in _LENGTHS and value.isdecimal() else setting


def _page(done: Run, work_dir: Path, run: RecipeRun, words: list[str]) -> Path | None:
    try:
        from normfix_mm.report import page
    except ImportError as error:
        warn(f"There is no page ({error}); pip install 'normfix-mm[report]' for it.")
        return None
    path = work_dir / "index.html"
    command = f"{invocation('report')} {shlex.quote(str(work_dir))}"
    title = f"{Path(run.told['folder']).name}: {run.choices.task}, {run.choices.method}"
    page.write(path, page.build([done], title, command, [("train it longer", words)]))
    return path
