"""A study that many processes share: who takes what, who is dead, what is refused."""

import math
import signal
import time

import pytest
from tuning.processes import Forked, until

from normfix_mm.errors import BadInput
from normfix_mm.tuning.algorithm4 import Algorithm4
from normfix_mm.tuning.bayes import BayesianDecay
from normfix_mm.tuning.grid import Grid
from normfix_mm.tuning.lease import Watch
from normfix_mm.tuning.storage import Address, Taken
from normfix_mm.tuning.study import Study, create, find

SETTINGS = dict(method="grid", grid={"lr": [0.1, 0.2]}, seed=0, lease=60.0)

pytestmark = pytest.mark.slow


@pytest.fixture
def name(request) -> str:
    return request.node.name  # one PostgreSQL serves all tests


def made(storage, name, **changes) -> Study:
    return create(Address(storage), name, True, SETTINGS | changes, {"a.b": 1}, {"tmax": 10})


def test_no_trial_is_taken_twice(storage, name, tmp_path):
    """SQLite as Optuna opens it fails here: two processes take the same waiting trial."""
    grid = Grid({"lr": tuple(range(1, 41))})
    made(storage, name).look(grid)

    def take() -> None:
        study = find(Address(storage), name)
        while waiting := study.look(grid).of("waiting"):
            claim = study.claim(waiting[0], grid)
            if claim is not None:
                print(f"took {claim.trial.name}")
                study.finish(claim, "finished", 1.0)

    workers = [Forked(take, tmp_path / f"{i}.log") for i in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4, workers[0].log.read_text()
    taken = [line for worker in workers for line in worker.log.read_text().splitlines()]
    assert sorted(taken) == sorted(f"took lr{i}" for i in range(1, 41))
    board = find(Address(storage), name).look(grid)
    assert board.is_over and {entry.attempts for entry in board.entries} == {1}


def test_trials_put_up_by_many_at_once_are_each_run_once(storage, name, tmp_path):
    """All see at the same moment that round 2 is due, and put up its trials."""
    search = Algorithm4((0.2, 3.2), alphas=(1, 2))
    study = made(storage, name)
    for entry in study.look(search).entries:
        study.finish(study.claim(entry, search), "finished", -entry.trial.values["lr"])
    start = time.time() + 1

    def work() -> None:
        study = find(Address(storage), name)
        time.sleep(max(0, start - time.time()))
        while not (board := study.look(search)).is_over:
            for entry in board.of("waiting"):
                if claim := study.claim(entry, search):
                    print(f"ran {claim.trial.name}")
                    study.finish(claim, "finished", -claim.trial.values["lr"])

    workers = [Forked(work, tmp_path / f"{i}.log") for i in range(4)]
    assert [worker.wait() for worker in workers] == [0] * 4, workers[0].log.read_text()
    ran = [line for worker in workers for line in worker.log.read_text().splitlines()]
    board = study.look(search)
    assert sorted(ran) == sorted(f"ran {e.trial.name}" for e in board.entries[5:])
    assert board.is_over and {entry.attempts for entry in board.entries} == {1}


def test_a_dead_workers_trial_is_put_up_at_once_on_the_same_machine(storage, name, tmp_path):
    study, grid = made(storage, name, lease=1000.0), Grid({"lr": (0.1, 0.2)})
    study.look(grid)

    def take_and_hang() -> None:
        other = find(Address(storage), name)
        other.claim(other.look(grid).of("waiting")[0], grid)
        print("has it")
        time.sleep(1000)

    worker = Forked(take_and_hang, tmp_path / "worker.log")
    until(lambda: worker.log.exists() and "has it" in worker.log.read_text())
    assert [e.state for e in study.look(grid).entries] == ["running", "waiting"]
    worker.send(signal.SIGKILL)
    worker.wait()
    again = study.look(grid).entries[0]
    assert (again.state, again.attempts) == ("waiting", 2)
    assert study.claim(again, grid).attempt == 2


def test_a_silent_worker_elsewhere_is_taken_for_dead_after_the_lease(storage, name, monkeypatch):
    """By the reader's own clock; and the one that was wrongly given up is told."""
    study, grid = made(storage, name, lease=1.0), Grid({"lr": (0.1,)})
    monkeypatch.setattr(
        "normfix_mm.tuning.study.myself", lambda: dict(host="far", place="x", pid=1)
    )
    claim = study.claim(study.look(grid).entries[0], grid)
    reader = find(Address(storage), name)
    for _ in range(6):  # longer than the lease, but it beats
        study.beat(claim, 7)
        entry = reader.look(grid).entries[0]
        assert (entry.state, entry.iterations) == ("running", 7)
        time.sleep(0.3)
    began = time.monotonic()
    until(lambda: reader.look(grid).entries[0].state == "waiting")
    assert time.monotonic() - began > 0.7
    with pytest.raises(Taken):
        study.beat(claim, 8)
    with pytest.raises(Taken):
        study.finish(claim, "finished", 1.0)
    assert reader.look(grid).entries[0].state == "waiting"


def test_who_did_not_look_takes_nobody_for_dead():
    """Suspended, or cut off from the storage: so may the others have been."""
    watch = Watch(lease=0.4)
    for seconds in (0.1, 0.1, 0.1, 0.3):  # the last is longer than half a lease
        watch.look()
        assert not watch.is_silent(1, "beat")
        time.sleep(seconds)
    watch.look()
    assert not watch.is_silent(1, "beat")
    for _ in range(4):
        time.sleep(0.12)
        watch.look()
    assert watch.is_silent(1, "beat") and not watch.is_silent(1, "another")


def test_a_trial_that_crashes_is_tried_as_often_as_asked(storage, name):
    study, grid = made(storage, name), Grid({"lr": (0.1, 0.2)})
    study.allow(2)
    for attempt in (1, 2, 3):
        entry = study.look(grid).entries[0]
        assert (entry.state, entry.attempts) == ("waiting", attempt)
        study.finish(study.claim(entry, grid), "crashed", None, error="out of luck")
    board = study.look(grid)
    assert (board.entries[0].state, board.entries[0].facts["error"]) == ("crashed", "out of luck")
    assert board.scores == {"lr0.1": -math.inf} and board.entries[1].state == "waiting"
    study.allow(0)  # asked for once more
    assert study.look(grid).entries[0].state == "waiting"


def test_a_stopped_trial_is_no_crash(storage, name):
    study, grid = made(storage, name), Grid({"lr": (0.1,)})
    study.allow(0)
    for _ in range(3):
        study.finish(study.claim(study.look(grid).entries[0], grid), "stopped", None)
    assert study.look(grid).entries[0].state == "waiting"


def test_values_curves_and_facts_come_back(storage, name):
    study, grid = made(storage, name), Grid({"lr": (0.1, 0.2), "data.size": (3,)})
    first, second = study.look(grid).entries
    claim = study.claim(first, grid)
    study.report(claim, 5, 0.25)
    study.finish(claim, "finished", 0.5, iterations=10, metrics={"bbox_mAP": 0.5}, error="")
    study.finish(study.claim(second, grid), "diverged", -math.inf, iterations=3)
    board = find(Address(storage), name).look(grid)
    one, other = board.entries
    assert one.value == 0.5 and one.curve == {5: 0.25} and one.facts["metrics"] == {"bbox_mAP": 0.5}
    assert (other.state, other.value, other.iterations) == ("diverged", -math.inf, 3)
    assert board.scores == {one.trial.name: 0.5, other.trial.name: -math.inf}


def test_less_is_better_where_it_is_said(storage, name):
    study = create(Address(storage), name, False, SETTINGS, {}, {})
    grid = Grid({"lr": (0.1, 0.2)})
    for entry, loss in zip(study.look(grid).entries, (2.0, 1.0)):
        study.finish(study.claim(entry, grid), "finished", loss)
    assert grid.best(study.look(grid).scores).values == {"lr": 0.2}


def test_a_sampler_chooses_within_the_ranges_and_learns(tmp_path):
    """Optuna's Gaussian process, on a bowl in log lr and log λ."""
    study = made(str(tmp_path / "journal.log"), "bo", method="bo-wd")
    search = BayesianDecay((0.01, 1.0), (1e-5, 1e-2), trials=16)
    while waiting := study.look(search).of("waiting"):
        claim = study.claim(waiting[0], search)
        lr, lam = claim.trial.values["lr"], claim.trial.values["lam"]
        assert 0.01 <= lr <= 1 and 1e-5 <= lam <= 1e-2
        value = -(math.log(lr / 0.1) ** 2) - 0.2 * math.log(lam / 3e-4) ** 2
        study.finish(claim, "finished", value if lr < 0.7 else -math.inf)
    board = study.look(search)
    best = next(e for e in board.entries if e.trial.name == search.best(board.scores).name)
    assert best.value > -0.1 and int(best.trial.name[2:]) > 5
    assert 0.07 < best.trial.values["lr"] < 0.14


def test_another_search_under_the_same_name_is_refused_with_what_differs(storage, name):
    made(storage, name)
    study = find(Address(storage), name)
    study.refuse_other(SETTINGS, {"a.b": 1})
    study.refuse_other(dict(grid={"lr": (0.1, 0.2)}))
    for settings, config, words in (
        (dict(seed=1), {"a.b": 1}, r"seed 0, not 1"),
        (dict(grid={"lr": (0.1,)}), {"a.b": 1}, r"grid .*0\.2.*, not"),
        (SETTINGS, {"a.b": 2}, r"a\.b 1, not 2"),
        (SETTINGS, {}, r"a\.b 1, not none"),
        (SETTINGS, {"a.b": 1, "c": "x"}, r"c none, not x"),
    ):
        with pytest.raises(BadInput, match=words + ".*another --study"):
            study.refuse_other(settings, config)


def test_a_study_whose_maker_was_killed_is_made_by_the_next(storage, name):
    import optuna

    from normfix_mm.tuning.storage import open_storage

    optuna.create_study(
        study_name=name, storage=open_storage(Address(storage)), direction="maximize"
    )
    assert find(Address(storage), name) is None
    study = made(storage, name)
    assert study.settings["seed"] == 0 and find(Address(storage), name).config == {"a.b": 1}


def test_a_study_of_somebody_else_is_refused(tmp_path):
    import optuna

    from normfix_mm.tuning.storage import open_storage

    address = Address(str(tmp_path / "journal.log"))
    study = optuna.create_study(study_name="theirs", storage=open_storage(address))
    study.add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(BadInput, match="'theirs' .* was not made by this tool"):
        find(address, "theirs")
