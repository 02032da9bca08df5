"""How each run was made, and the commands that come next.

Command, date, versions and machine are RunRecordHook's; of a run without it, what its folders and
its config say.
"""

from __future__ import annotations

import re
import shlex
from datetime import datetime

from normfix_mm.report.markup import folded, table, text
from normfix_mm.report.run import Run, settings
from normfix_mm.typed import invocation, line, resumed

UNKNOWN = "–"


def made(runs: list[Run]) -> str:
    """A table with a column for each run, then their whole configs, folded."""
    columns = [_made(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, UNKNOWN) for column in columns)] for name in names]
    said = table("settings", ["", *(run.name for run in runs)], rows)
    if unknown := [run.name for run in runs if not run.records]:
        said += (
            f"\n<p>Command, versions and machine of {text(', '.join(unknown))} were not noted: "
            f"{invocation('train')} does, and any other command with "
            "<code>dict(type='RunRecordHook')</code> in its custom_hooks.</p>"
        )
    configs = [
        folded(f"Whole config of {run.name}", f"<pre>{text(run.config_path.read_text())}</pre>")
        for run in runs
        if run.config_path
    ]
    return "\n".join([said, *configs])


def _made(run: Run) -> dict[str, str]:
    seed = str(run.config.get("randomness", {}).get("seed"))
    if not run.records:
        starts = [_time_of(path.name) for path in sorted(run.folder.glob("*_*"))]
        dates = [start for start in starts if start]
        return dict(date=", ".join(dates) or UNKNOWN, seed=seed, config=str(run.config_path))
    last = run.records[-1]
    dates = [record["date"] for record in run.records]
    versions = ", ".join(f"{name} {number}" for name, number in last["versions"].items())
    processes = f", {last['processes']} processes" if last["processes"] > 1 else ""
    seconds = sum(record["seconds"] for record in run.records)
    return {
        "command": last["command"],
        "date": dates[0] + "".join(f", gone on {date}" for date in dates[1:]),
        "duration": _duration(seconds) + ("" if last["ended"] else ", not ended"),
        "machine": last["machine"] + processes,
        "versions": versions,
        "seed": str(last["seed"]),
        "config": str(run.config_path),
    }


def _time_of(folder: str) -> str | None:
    """The start that mmengine names a folder by."""
    try:
        return datetime.strptime(folder, "%Y%m%d_%H%M%S").isoformat(" ", "minutes")
    except ValueError:
        return None


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def commands(steps: list[tuple[str, list[str]]]) -> str:
    """A list of purposes, each with the words of its command."""
    items = [
        f"<li>{text(purpose)}: <code>{text(line(words))}</code></li>" for purpose, words in steps
    ]
    return "<ul>\n" + "\n".join(items) + "\n</ul>"


def tested(run: Run) -> list[str]:
    """The command that evaluates what the run is judged by, and draws its predictions."""
    return [*invocation("test").split(), *_trained(run), "--show-dir", "shown"]


def deployed(run: Run) -> list[str] | None:
    """The command that makes it a stock model; None where nothing of ours is in it."""
    ours = r"normfix_mm|'(FixNorm|WN|WS|CWN|Normalized)\w+'|'normalize'|normalize="
    if not re.search(ours, run.config.pretty_text):
        return None
    return [*invocation("fold").split(), *_trained(run), str(run.folder / "deployed")]


def tuned(run: Run) -> list[str] | None:
    """The command that searches learning rate and α; None where FixNorm did not train it."""
    content = run.config.pretty_text
    if "type='NormFixHook'" not in content or "type='FixNorm" not in content:
        return None
    return [*invocation("tune").split(), str(run.config_path)]


def _trained(run: Run) -> list[str]:
    return [str(run.config_path), str(run.checkpoint)]


def following(runs: list[Run]) -> list[tuple[str, list[str]]]:
    """What makes sense after the first of these runs, for :func:`commands`."""
    run = runs[0]
    folder = str(run.folder)
    steps = []
    if run.records and not run.records[-1]["ended"]:
        steps.append(("go on with it", resumed(shlex.split(run.records[-1]["command"]))))
    if run.checkpoint:
        steps.append(("evaluate it, and draw its predictions", tested(run)))
        if (fold := deployed(run)) is not None:
            steps.append(("fold it into a stock model, to deploy it", fold))
    if (tune := tuned(run)) is not None:
        steps.append(("search for a better learning rate and α", tune))
    if len(runs) == 1:
        beside = [*invocation("report").split(), folder, "OTHER_WORK_DIR"]
        steps.append(("see another run beside it", beside))
        if (model := _model_of(run)) is not None:
            compare = [*invocation("compare").split(), "FOLDER", "--model", model]
            steps.append(("compare the methods on the same data", compare))
    return steps


def _model_of(run: Run) -> str | None:
    """What tools/compare.py calls the model of a config for folders."""
    match = re.fullmatch(r"(.+)_(?:baseline|ws-eps|fixnorm)_\w+-\w+_folder", run.config_path.stem)
    return match and match[1]


def setting_rows(runs: list[Run]) -> str:
    """The hyper-parameters of the runs, side by side."""
    columns = [dict(settings(run)) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, UNKNOWN) for column in columns)] for name in names]
    return table("settings", ["", *(run.name for run in runs)], rows)
