"""A comparison of methods on a folder, from its beginning to its end: tools/compare.py's work.

Every run of it has a folder in `out` with its result, as before it used a study: older comparisons
go on, with what they have.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.errors import BadInput
from normfix_mm.report import markup
from normfix_mm.tuning.board import Board
from normfix_mm.tuning.comparison import MARK, METHODS, Comparison, table
from normfix_mm.tuning.job import Job, held_out, with_folder
from normfix_mm.tuning.knobs import metric_of, set_values
from normfix_mm.tuning.progress import Progress
from normfix_mm.tuning.search import Trial
from normfix_mm.tuning.settings import check_counts
from normfix_mm.tuning.side_by_side import side_by_side
from normfix_mm.tuning.storage import Address
from normfix_mm.tuning.study import create
from normfix_mm.tuning.training import Trainer
from normfix_mm.tuning.tuner import JOURNAL
from normfix_mm.tuning.worker import Worker

FOLDERS = ("class_folder", "coco_folder", "seg_folder")
HELD_OUT = 40
TABLE = "table.md"


def configs_of(model: str) -> dict[str, Path]:
    """The config of each method.

    Raises:
        BadInput: there is no such model; the message lists those there are.
    """
    return {method: _config_of(model, method) for method in METHODS}


def compare(
    folder: Path,
    model: str,
    search: Comparison,
    out: Path,
    classes: Sequence[str] | None = None,
    lists: Sequence = (),
    storage: str | None = None,
    worker: bool = False,
    pace: float = 5.0,
    made_by: Sequence[str] = ("normfix_mm.tuning.compare_folder.compare",),
    **options,
) -> str | None:
    """Compare the methods, or go on with it.

    Args:
        folder: data of one's own.
        model: names three configs of `configs/coco_folder`, `seg_folder` or `class_folder`.
        search: what is run.
        out: folder of the runs and the table.
        classes: of the folder; by default all that it has.
        lists: as of :class:`Job`; the trials hold out of those to train on.
        storage, worker, pace, made_by: as of :func:`normfix_mm.tuning.tune`.
        **options: `jobs` of :class:`Worker`; `threads` and `command` of :class:`Trainer`.

    Returns:
        The table, Markdown, which is also written to `out`, beside a page that shows a run of each
        method; None of a worker.

    Raises:
        BadInput: anything wrong with the above, or a run that failed.
        KeyboardInterrupt: stopped; called again it goes on.
    """
    check_counts(0, jobs=options.get("jobs"))
    check_counts(1, threads=options.get("threads"))
    configs = {method: read_config(path) for method, path in configs_of(model).items()}
    first = next(iter(configs.values()))
    metric = metric_of(first)[0]
    begin(out, model, folder, classes, lists)
    job = Job(first, model, out, folder, classes, HELD_OUT, lists=lists)
    held = held_out(first, folder, out, HELD_OUT, *lists[:1])

    def build(trial: Trial) -> Config:
        given = held if trial.phase == "trial" else lists
        cfg = with_folder(configs[trial.variant], folder, out, classes, given)
        return set_values(cfg, trial.values)

    settings = dict(method="compare", search=repr(search), metric=metric) | job.data()
    texts = "".join(cfg.pretty_text for cfg in configs.values())
    name = hashlib.sha256((json.dumps(settings) + texts).encode()).hexdigest()[:12]
    address = Address(storage or str(out / JOURNAL))
    study = create(address, f"compare {model} {name}", True, settings, {}, {})
    if not worker:
        study.allow(retries=0)
    jobs = options.pop("jobs", 1)
    trainer = Trainer(out, build, metric, trusting=True, data=job.digest, **options)
    say = partial(print, flush=True)
    show = Progress(search, 0, 0.0)
    board = Worker(study, search, trainer, jobs, pace, strict=True, show=show, say=say).run()
    if worker:
        return None
    text = table(search, board, metric)
    with replacing(out / TABLE) as part:
        part.write_text(text + "\n")
    say("drawing the page")
    command = shlex.join(address.clean(word) for word in made_by)
    with replacing(out / "index.html") as part:
        part.write_text(_page(search, board, out, f"{model} on {folder.name}", text, command))
    return text


def _page(
    search: Comparison, board: Board, out: Path, title: str, markdown: str, command: str
) -> str:
    """The tables, then a run of each method side by side: the same seed, each at its rate."""
    finals = search.finals(board.scores)
    means = {m: statistics.mean(board.scores[t.name] for t in of) for m, of in finals.items()}
    methods = sorted(finals, key=lambda method: -means[method])
    names = {finals[m][0].name: f"{m}, lr {finals[m][0].values['lr']:g}" for m in methods}
    tables = [
        [_cells(line) for line in block.splitlines() if line[:4] != "|---"]
        for block in markdown.split("\n\n")
    ]
    parts = [
        f"<h1>{markup.text(title)}</h1>",
        f"<p>Made by <code>{markup.text(command)}</code></p>",
        *(markup.table("settings", head, rows) for head, *rows in tables),
    ]
    runs = side_by_side(out, names, f"Seed {search.seeds[0]} of each method, side by side")
    return markup.document(title, parts + runs)


def _cells(line: str) -> list[str]:
    """Those of a line of a Markdown table."""
    return [cell.replace(MARK, "|") for cell in re.split(r" ?(?<!\\)\| ?", line)[1:-1]]


def begin(
    out: Path,
    model: str,
    folder: Path,
    classes: Sequence[str] | None,
    lists: Sequence = (),
) -> None:
    """Make the folder of this comparison; finished runs of another one must not count as its own.

    Raises:
        BadInput: it holds another comparison.
    """
    here = dict(model=model, folder=str(folder.resolve()), classes=classes)
    if any(lists):
        here["lists"] = [each and str(each) for each in lists]
    note = out / "comparison.json"
    there = json.loads(note.read_text()) if note.exists() else here
    if "detector" in there:  # as the model was called before segmenters could be compared
        there["model"] = there.pop("detector")
    if there != here and any(out.glob("*/log.txt")):
        raise BadInput(
            f"{out} holds the runs of {there['model']} on {there['folder']} (classes "
            f"{there['classes'] or 'of the data'}{_said(there.get('lists'))}); name another folder "
            "with --out."
        )
    with replacing(note) as part:
        part.write_text(json.dumps(here))


def _said(lists: Sequence | None) -> str:
    return ", lists " + ", ".join(filter(None, lists)) if lists else ""


def read_config(path: Path) -> Config:
    """The config of a method."""
    return Config.fromfile(path)


def _config_of(model: str, method: str) -> Path:
    there = [path for folder in FOLDERS for path in sorted((_configs() / folder).glob("*.py"))]
    found = [path for path in there if path.name.startswith(f"{model}_{METHODS[method]}_")]
    if len(found) != 1:
        models = sorted({p.name.split("_baseline_")[0] for p in there if "_baseline_" in p.name})
        raise BadInput(f"There is no model {model!r} to compare; choose {', '.join(models)}.")
    return found[0]


def _configs() -> Path:
    here = Path(__file__).resolve().parents[1]
    return next(p for p in (here.parent / "configs", here / ".mim/configs") if p.is_dir())
