"""What a recipe says: before training what was chosen and what changes it, after it the result."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from normfix_mm.preflight.notes import note, warn
from normfix_mm.recipe.rules import METHODS, TASKS, spoken
from normfix_mm.recipe.store import RecipeRun
from normfix_mm.report.run import Run
from normfix_mm.typed import invocation


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
    best = max(work_dir.glob("best_*.pth"), key=os.path.getmtime, default=None)
    config = next(iter(sorted(work_dir.glob("*.py"), key=os.path.getmtime, reverse=True)))
    if values:
        where = max(zip(values, steps))
        note(f"{task.word} {where[0]:.3f}, the best of {len(values)}, at iteration {where[1]}")
    page = _page(done, work_dir, run)
    lines = [f"page      {page}"] if page else []
    if best is not None:
        names = shlex.quote(str(config)), shlex.quote(str(best))
        lines += [
            f"test      {invocation('test')} {names[0]} {names[1]}",
            f"deploy    {invocation('fold')} {names[0]} {names[1]} deployed",
        ]
    longer = shlex.quote(f"{work_dir}_longer")
    folder = shlex.quote(str(args.folder))
    lines.append(
        f"longer    {invocation('train-folder')} {folder} --hours {2 * run.told['hours']:g} "
        f"--work-dir {longer}"
    )
    note("\n".join(lines))


def _page(done: Run, work_dir: Path, run: RecipeRun) -> Path | None:
    try:
        from normfix_mm.report import page
    except ImportError as error:
        warn(f"There is no page ({error}); pip install 'normfix-mm[report]' for it.")
        return None
    path = work_dir / "index.html"
    command = f"{invocation('report')} {shlex.quote(str(work_dir))}"
    title = f"{Path(run.told['folder']).name}: {run.choices.task}, {run.choices.method}"
    page.write(path, page.build([done], title, command))
    return path
