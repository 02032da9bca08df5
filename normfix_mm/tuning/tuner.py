"""A search from its beginning to its end: settings, study, trials, what it leaves.

`tools/tune.py` is this function with a command line.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from mmengine.config import Config

from normfix_mm.checkpoints.whole_file import replacing
from normfix_mm.errors import BadInput
from normfix_mm.tuning import forecast, knobs, page
from normfix_mm.tuning.job import Job, flattened, tidied
from normfix_mm.tuning.measure import Cost, keep, measure, measured_before
from normfix_mm.tuning.progress import Progress, duration
from normfix_mm.tuning.results import (
    TABLE,
    Result,
    headline,
    summed_up,
    write_config,
    write_table,
)
from normfix_mm.tuning.schedule import iterations, shortened
from normfix_mm.tuning.search import Search, Trial
from normfix_mm.tuning.settings import (
    METHODS,
    check_counts,
    check_method,
    checked,
    complete,
    search_of,
)
from normfix_mm.tuning.storage import Address
from normfix_mm.tuning.study import RETRIES, Study, create, find
from normfix_mm.tuning.training import Trainer
from normfix_mm.tuning.worker import Worker

JOURNAL, TRIALS = "journal.log", "trials"


def tune(
    config: str | os.PathLike | Config,
    folder: str | os.PathLike | None = None,
    *,
    method: str = "fixnorm",
    rounds: int | None = None,
    classes: Sequence[str] | None = None,
    hold_out: int = 0,
    lists: Sequence = (),
    storage: str | None = None,
    study: str | None = None,
    out: str | os.PathLike | None = None,
    jobs: int = 1,
    gpus_per_trial: int | None = None,
    threads: int | None = None,
    retries: int | None = None,
    worker: bool = False,
    dry_run: bool = False,
    command: Sequence[str] | None = None,
    beside: Sequence[str] = (),
    pace: float = 5.0,
    made_by: Sequence[str] = ("normfix_mm.tuning.tune",),
    **settings,
) -> Result | None:
    """Tune a config.

    Args:
        config: a config, or its file.
        folder: data of one's own, for a config of `configs/coco_folder` or `configs/seg_folder`.
        method: 'fixnorm' (Algorithm 4), 'bo-wd' (Bayesian optimization of rate and decay) or
            'grid'.
        rounds: N, in place of `budgets`: from a fifth of the length in equal steps to all of it.
        classes, hold_out, lists: see :class:`Job`.
        storage: address of Optuna's storage; by default a journal file in `out`.
        study: its name there; by default the config's with the method.
        out: folder of trials and results; `work_dirs/tune/STUDY` by default.
        jobs: trials at a time; 0 only watches others' work.
        gpus_per_trial: processes of a trial, under torchrun.
        threads: of each process; by default the cores divided among the jobs.
        retries: how often a trial that crashes is tried again; 1 by default. Given again, the
            command tries once more what has failed for good.
        worker: only run trials, and leave the results to others.
        dry_run: only print what would be run, and what it costs.
        command: trains a config in place of `tools/train.py`: given the file, --work-dir DIR and,
            where that has a checkpoint, --resume, it leaves what mmengine leaves.
        beside: other studies of the storage whose progress the page draws as well.
        pace: seconds between looks at the study.
        made_by: the command that the page names, word by word.
        **settings: what decides the search; those not given are the study's if there is one, the
            config's `tune_cfg`, or the papers'. Of Algorithm 4: `lr_range`, `budgets`, `splits`,
            `alphas`; of bo-wd: `lr_range`, `lam_range`, `trials`; of a grid: `grid` (values by
            name), `share`; of all: `metric`, `direction`, `seed`, and `lease`, the seconds after
            which a silent worker is taken to be dead.

    Returns:
        The result; None of a worker and of a dry run.

    Raises:
        BadInput: anything that is wrong with the above, said in one sentence.
        KeyboardInterrupt: stopped; called again it goes on.
    """
    if method not in METHODS:
        raise BadInput(f"There is no method {method!r}; choose {', '.join(METHODS)}.")
    check_counts(0, jobs=jobs, retries=retries, hold_out=hold_out)
    check_counts(1, threads=threads, gpus_per_trial=gpus_per_trial)
    if command is not None and not command:
        raise BadInput("The command is empty; leave it out to train with tools/train.py.")
    cfg, name = _read(config)
    name = study or f"{name}_{method}"
    out = Path(out or Path("work_dirs/tune") / re.sub(r"[^\w.=+-]", "-", name))
    folder = None if folder is None else Path(folder)
    options = dict(gpus=gpus_per_trial, command=command)
    options["threads"] = threads or max(
        1, (os.cpu_count() or 1) // max(1, jobs * (gpus_per_trial or 1))
    )
    given = checked(method, rounds, settings)
    address = Address(storage or str(out / JOURNAL))
    known = None if dry_run else find(address, name)
    others = [] if dry_run else _others(address, beside)
    if known is not None:
        known.refuse_other(dict(method=method) | given)
    whole = dict(known.settings) if known else complete(method, cfg, given)
    check_method(method, cfg)
    knobs.check_metric(cfg, whole["metric"])
    search = search_of(whole)
    for trial in search.plan({}):
        knobs.set_values(copy.deepcopy(cfg), trial.values)  # has the config a place for them?
        long = [name for name in knobs.LENGTHS if name in trial.values]
        if long and trial.share != 1:
            raise BadInput(f"{long[0]} changes the length of a training; leave --share out.")
    job = Job(cfg, name, out, folder, classes, hold_out, whole["seed"], lists)
    if dry_run:
        cost = _measured(job, None, options)
        print(forecast.outlook(search, job.cfg, cost, jobs), flush=True)
        _warn_of_short(search, job.cfg, cost)
        return None
    whole |= job.data() | dict(gpus_per_trial=gpus_per_trial or 1)
    leaves = flattened(job.given)
    if known is None:
        known = _begin(address, name, search, job, whole, leaves, options)
    known.refuse_other(whole, leaves)
    if not worker:
        known.allow(RETRIES if retries is None else retries)

    def build(trial: Trial) -> Config:
        cfg = shortened(job.cfg, trial.share, known.facts["epoch_length"])
        return knobs.set_values(tidied(cfg), trial.values)

    trainer = Trainer(
        out / TRIALS, build, whole["metric"], known.maximize, data=job.digest, **options
    )
    expected = Cost(**{key: known.facts[key] for key in Cost.__annotations__})
    tmax = known.facts["tmax"]
    show = Progress(search, tmax, expected.seconds(tmax) - expected.start, expected.start)
    say = partial(print, flush=True)
    pace = min(pace, known.lease / 4)
    board = Worker(known, search, trainer, jobs, pace, show=show, say=say).run()
    if worker:
        return None
    result = summed_up(search, board, whole["metric"], tmax)
    results = {known.name: result} | {study.name: _so_far(study) for study in others}
    return _leave(result, job, known, made_by, results)


def _read(config) -> tuple[Config, str]:
    if isinstance(config, Config):
        row = config.get("row") or {}
        stem = Path(config.filename or "config").stem
        return copy.deepcopy(config), "_".join(filter(None, (stem, row.get("name"))))
    try:
        return Config.fromfile(str(config)), Path(config).stem
    except (FileNotFoundError, SyntaxError, ImportError) as error:
        raise BadInput(f"The config {str(config)!r} cannot be read: {error}.") from None


def _begin(address, name: str, search: Search, job: Job, whole, leaves, options) -> Study:
    """A new study, once a few iterations have shown that the config trains and how fast."""
    job.out.mkdir(parents=True, exist_ok=True)
    cost = _measured(job, job.out, options)
    for share in {share for _, _, share in search.outlook()}:
        shortened(job.cfg, share, cost.epoch_length)  # refused now, if it leaves nothing to train
    print(forecast.outlook(search, job.cfg, cost).splitlines()[-1], flush=True)
    _warn_of_short(search, job.cfg, cost)
    facts = asdict(cost) | dict(tmax=iterations(job.cfg, cost.epoch_length))
    return create(address, name, whole["direction"] == "maximize", whole, leaves, facts)


def _measured(job: Job, where: Path | None, options: dict) -> Cost:
    """What a probe says; the folder of one that fails stays, for its log is named."""
    if before := measured_before(job.cfg, job.digest, **options):
        cost, age = before
        print(f"a few iterations of this were measured {duration(age)} ago", flush=True)
        return cost
    print("measuring a few iterations", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="probe_", dir=where))
    try:
        cost = measure(job.cfg, folder, **options)
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(folder)
    keep(cost, job.cfg, job.digest, **options)
    return cost


def _warn_of_short(search: Search, cfg: Config, cost: Cost) -> None:
    if said := forecast.too_short(search, cfg, cost):
        print(f"warning: {said}", file=sys.stderr, flush=True)


def _others(address: Address, names: Sequence[str]) -> list[Study]:
    """Other studies of the storage."""
    studies = []
    for name in names:
        study = find(address, name)
        if study is None:
            raise BadInput(f"There is no study {name!r} in {address} to draw beside this one.")
        studies.append(study)
    return studies


def _so_far(study: Study) -> Result:
    """What a study holds, whether its search is over or not."""
    search = search_of(study.settings)
    board = study.look(search)
    return summed_up(search, board, study.settings["metric"], study.facts["tmax"])


def _leave(result: Result, job: Job, study: Study, made_by, drawn: dict) -> Result:
    """Write the results; the page draws those of `drawn`."""
    try:
        result.table, result.page = job.out / TABLE, job.out / "index.html"
        write_table(result.table, result)
        tuned = job.out / f"{study.name}_tuned.py"
        if result.best is None:
            tuned.unlink(missing_ok=True)  # of before, when this study was judged otherwise
        else:
            cfg = knobs.set_values(copy.deepcopy(job.whole), result.values)
            result.config = tuned
            write_config(result.config, cfg, result, Path(job.given.filename or "A config").name)
        words = shlex.join(study.address.clean(word) for word in made_by)
        print("drawing the page", flush=True)
        html = page.build(drawn, study.name, words, job.out / TRIALS)
        with replacing(result.page) as part:
            part.write_text(html)
    except OSError as error:
        raise BadInput(
            f"The results cannot be written to {job.out}: {error}; the study is complete, give the "
            "same command again."
        ) from None
    if result.best is not None:
        print(headline(result))
    for said in result.remarks:
        print(said)
    return result
