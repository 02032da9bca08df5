"""Searches whose processes are killed at any moment, on every storage; real processes throughout.

The training is a formula (landscape.py), in a process of its own as ever.
"""

import collections
import csv
import random
import signal
import time

import pytest
from tuning.processes import Forked, alive, until
from tuning.toy_search import search, toy_config

from normfix_mm.errors import BadInput

NAMES = (
    [f"lr{lr}_alpha0.5_t0.2" for lr in ("0.024", "0.043", "0.062", "0.081", "0.1")]
    + [f"lr{lr}_alpha0.5" for lr in ("0.005", "0.0145", "0.024", "0.0335", "0.043")]
    + [f"lr0.0145_alpha{alpha}" for alpha in (1, 2, 4, 8, 16)]
)


class Search:
    """A search on a storage, that processes can be put to work on."""

    def __init__(self, storage, name, folder, **landscape) -> None:
        self.starts = folder / "starts.log"
        self.config = toy_config(log=str(self.starts), **landscape)
        self.options = dict(storage=storage, study=name, lease=3.0, out=folder / "out")
        self.folder, self.count = folder, 0

    def process(self, **options) -> Forked:
        self.count += 1
        log = self.folder / f"process{self.count}.log"
        return Forked(lambda: search(self.config, **self.options | options), log)

    def lines(self, word: str) -> list[str]:
        """Names of trials that have started, or ended."""
        text = self.starts.read_text() if self.starts.exists() else ""
        return [line.split()[1] for line in text.splitlines() if line.startswith(word)]

    def pids(self) -> list[int]:
        return [int(line.split()[-1]) for line in self.starts.read_text().splitlines()]

    def table(self) -> list[dict]:
        with open(self.options["out"] / "trials.csv") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def named(request) -> str:
    return request.node.name


def bare(name: str) -> str:
    return name.partition(".try")[0]


def test_kills_at_any_moment_lose_the_running_trials_at_most(storage, named, tmp_path):
    """Leader and worker are killed again and again; in the end all is as if nothing had been."""
    job = Search(storage, named, tmp_path, seconds=0.5)
    draw = random.Random(named)
    processes = [job.process(), job.process(worker=True, jobs=2)]
    kills = 0
    while not all(p.ended() for p in processes) and kills < 8:
        time.sleep(draw.uniform(0.2, 2.0))
        victim = draw.randrange(2)
        if not processes[victim].ended():
            kills += 1
        processes[victim].send(signal.SIGKILL)
        processes[victim].wait()
        processes[victim] = job.process(**(dict(worker=True, jobs=2) if victim else {}))
    for process in processes:
        assert process.wait() == 0, process.log.read_text()
    job.process().wait()  # the leader's results, should it have been killed while it wrote them

    rows = job.table()
    assert sorted(row["trial"] for row in rows) == sorted(NAMES)
    assert {row["state"] for row in rows} == {"finished"}
    best = max(rows, key=lambda row: float(row["bbox_mAP"]))
    assert (best["lr"], best["alpha"], float(best["bbox_mAP"])) == ("0.0145", "0.5", 0.8)
    started = collections.Counter(map(bare, job.lines("start")))
    started.pop("probe", None)
    for row in rows:  # run once for each attempt, so never while or after it was run elsewhere
        assert started[row["trial"]] <= int(row["attempts"]), row
    assert sum(started.values()) <= len(NAMES) + 3 * kills
    assert not any(map(alive, job.pids()))


def test_a_killed_workers_training_dies_with_it(tmp_path):
    job = Search(None, "study", tmp_path, seconds=30)
    worker = job.process()
    until(lambda: len(set(job.lines("start")) - {"probe"}) > 0 and NAMES[0] in job.lines("start"))
    worker.send(signal.SIGKILL)
    worker.wait()
    until(lambda: not any(map(alive, job.pids())), 5, "the training outlives its worker")


def test_ctrl_c_hands_trials_back_at_once(tmp_path):
    job = Search(None, "study", tmp_path, seconds=3, power=0)
    for number in (signal.SIGINT, signal.SIGTERM):
        process = job.process(jobs=2)
        until(lambda: len(job.lines("start")) >= 3)
        process.send(number)
        assert process.wait(15) == 130, process.log.read_text()
        until(lambda: not any(map(alive, job.pids())), 5)
        job.starts.write_text("start probe 0\n")
    again = job.process(jobs=2)
    until(lambda: f"{NAMES[0]}.try3" in job.lines("start"), 15)  # no lease to be waited for
    again.send(signal.SIGKILL)
    again.wait()


def test_a_worker_that_was_wrongly_given_up_stops_its_training_and_goes_on(tmp_path):
    """Suspended for longer than the lease; its trial is run elsewhere, and only that one counts."""
    job = Search(None, "study", tmp_path, seconds=2.5, power=0)
    first = job.process()
    until(lambda: NAMES[0] in job.lines("start"))
    first.send(signal.SIGSTOP)
    second = job.process()
    until(lambda: f"{NAMES[0]}.try2" in job.lines("start"), 30)
    first.send(signal.SIGCONT)
    until(lambda: "has taken it over" in first.log.read_text(), 15)
    assert second.wait() == 0 and first.wait() == 0, first.log.read_text()
    rows = {row["trial"]: row for row in job.table()}
    assert rows[NAMES[0]]["attempts"] == "2" and rows[NAMES[0]]["state"] == "finished"
    assert len(rows) == len(set(rows)) == 15


def test_the_storage_may_go_away_for_a_while(postgres, tmp_path):
    job = Search(postgres.url, "outage", tmp_path, seconds=0.4)
    process = job.process(jobs=2)
    until(lambda: len(job.lines("end")) > 2)
    postgres.stop()
    until(lambda: "storage out of reach" in process.log.read_text(), 30)
    time.sleep(1)
    postgres.start()
    assert process.wait() == 0, process.log.read_text()
    assert sorted(row["trial"] for row in job.table()) == sorted(NAMES)
    assert {row["state"] for row in job.table()} == {"finished"}


def test_two_workers_take_clearly_less_time_than_one_and_run_the_same_trials(tmp_path):
    def timed(count: int) -> tuple[float, list[dict]]:
        folder = tmp_path / str(count)
        folder.mkdir()
        job = Search(None, "study", folder, seconds=1.0)
        began = time.monotonic()
        workers = [job.process() for _ in range(count)]
        assert [worker.wait() for worker in workers] == [0] * count
        return time.monotonic() - began, job.table()

    one, alone = timed(1)
    two, together = timed(2)
    assert two < 0.75 * one
    kept = ("trial", "state", "bbox_mAP", "attempts")
    assert [[row[k] for k in kept] for row in alone] == [[row[k] for k in kept] for row in together]


def test_the_same_command_again_with_other_settings_is_refused(tmp_path):
    out = tmp_path / "out"
    search(toy_config(), out, jobs=4, alphas=[0.5], splits=2)
    again = search(toy_config(), out, jobs=4)  # those of the study hold
    assert len(again.board.entries) == 4
    with pytest.raises(BadInput, match=r"splits 2, not 3"):
        search(toy_config(), out, splits=3)
    other = toy_config()
    other.optim_wrapper.optimizer.momentum = 0.9
    with pytest.raises(BadInput, match=r"optim_wrapper.optimizer.momentum none, not 0.9"):
        search(other, out)
    with pytest.raises(BadInput, match=r"method fixnorm, not grid"):
        search(toy_config(), out, method="grid", grid={"lr": [1]}, study="config_fixnorm")
