"""A study that any number of processes work on at once, in Optuna's storage.

Nobody leads. Whoever looks at the study puts up for running what the search's plan lacks; whoever
has time takes a trial that waits. The storage lets only one process turn a waiting trial into a
running one. Two processes may put up one trial at the same moment: the storage numbers trials, and
only the lowest number of a name is ever taken. A trial that crashed, was stopped, or whose worker
died is put up again under a new number; its entry counts the attempts.
"""

from __future__ import annotations

import json
import math
import time
import warnings
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from normfix_mm.errors import BadInput, listing
from normfix_mm.tuning import board
from normfix_mm.tuning.board import Board, Entry
from normfix_mm.tuning.knobs import floor_of
from normfix_mm.tuning.lease import LEASE, Watch, is_dead, myself
from normfix_mm.tuning.search import Search, Trial
from normfix_mm.tuning.storage import Address, Taken, ask, open_storage

RETRIES = 1


@dataclass
class Claim:
    """A trial that this process, and no other, is running."""

    trial: Trial
    attempt: int
    id: int
    beats: int = 0


class Study:
    """A study in a storage. Made by :func:`find` and :func:`create`.

    Attributes:
        name: the study's.
        address: where it lies.
        settings: what decides the search; a study of others is another study.
        config: the settings of the config, by dotted name.
        facts: what was found out when it was made.
        maximize: whether more of the metric is better.
        lease: seconds without a beat after which a worker is taken to be dead.
    """

    def __init__(self, address: Address, study) -> None:
        self.address, self.name = address, study.study_name
        self.maximize = study.direction.name == "MAXIMIZE"
        self._study, self._storage = study, study._storage
        told = study.user_attrs
        self.settings: dict = told.get("settings", {})
        self.facts: dict = told.get("facts", {})
        self.config: dict = _unpacked(told["config"]) if "config" in told else {}
        self.lease: float = self.settings.get("lease", LEASE)
        self._floor = floor_of(self.settings.get("metric", "")) if self.maximize else -math.inf
        self._watch = Watch(self.lease)

    def refuse_other(self, settings: Mapping, config: Mapping | None = None) -> None:
        """See that the study is of these settings and, if given, this config.

        Raises:
            BadInput: it is not; the message says what differs.
        """
        pairs = [(key, self.settings.get(key), settings[key]) for key in settings]
        keys = [] if config is None else sorted({*self.config, *config})
        pairs += [(key, self.config.get(key), config.get(key)) for key in keys]
        other = [
            f"{key} {_short(a)}, not {_short(b)}" for key, a, b in pairs if _plain(a) != _plain(b)
        ]
        if other:
            raise BadInput(
                f"The study {self.name!r} in {self.address} is of other settings: it has "
                f"{listing(other, 4)}; give those again, or another --study (and --out)."
            )

    @property
    def retries(self) -> int:
        """How often a trial may crash and be tried again."""
        return self._ask(lambda: self._study.user_attrs.get("retries", RETRIES))

    def allow(self, retries: int) -> None:
        """Let trials crash and be tried again so often, from now on.

        A trial that has failed for good gets new tries: somebody has asked for it again, and may
        have removed the cause.
        """
        crashes = [
            sum(frozen.user_attrs.get("outcome") == "crashed" for frozen in attempts)
            for attempts in self._groups().values()
            if not any(frozen.state.name == "COMPLETE" for frozen in attempts)
        ]
        count = retries + max(crashes, default=0)
        self._ask(lambda: self._study.set_user_attr("retries", count))

    # -- looking --------------------------------------------------------------------------------

    def look(self, search: Search) -> Board:
        """What is known of every trial of the plan; puts up those that nobody has put up yet."""
        while True:
            retries, groups = self.retries, self._groups()
            known = {
                name: board.entry_of(Trial(name), attempts, retries)
                for name, attempts in groups.items()
            }
            scores = {
                name: board.score_of(entry, self.maximize, self._floor)
                for name, entry in known.items()
                if entry is not None and entry.ended
            }
            plan = search.plan(scores)
            entries = {t: board.entry_of(t, groups.get(t.name, []), retries) for t in plan}
            if all(entries.values()):
                return Board(list(entries.values()), scores)
            for trial, entry in entries.items():
                if entry is None:
                    self._put_up(_as_before(trial, groups.get(trial.name, [])), search)

    def _groups(self) -> dict[str, list]:
        """The attempts at each trial, by name; closes what is dead or doubled on the way."""
        groups: dict[str, list] = {}
        self._watch.look()
        for frozen in self._ask(lambda: self._study.get_trials(deepcopy=False)):
            name = frozen.user_attrs.get("name")
            if name is not None:
                groups.setdefault(name, []).append(frozen)
        for attempts in groups.values():
            self._close(attempts)
        return groups

    def _close(self, attempts: list) -> None:
        for i, reason in board.to_close(attempts, self._is_lost):
            number = attempts[i]._trial_id
            try:
                self._end(number, "FAIL", None, outcome=reason)
            except Taken:
                continue
            attempts[i] = self._ask(lambda n=number: self._storage.get_trial(n))

    def _is_lost(self, attempt) -> bool:
        told = attempt.user_attrs
        silent = self._watch.is_silent(attempt._trial_id, told.get("beat"))
        return is_dead(told.get("worker", {})) or silent

    # -- working --------------------------------------------------------------------------------

    def _put_up(self, trial: Trial, search: Search) -> None:
        import optuna

        told = dict(name=trial.name, phase=trial.phase, share=trial.share, variant=trial.variant)
        spaces = {}
        for key, value in trial.values.items():
            low, high = search.ranges.get(key, (value, value))
            spaces[key] = optuna.distributions.FloatDistribution(
                min(low, value), max(high, value), log=search.sampled
            )
        frozen = optuna.create_trial(
            state=optuna.trial.TrialState.WAITING,
            params={key: float(value) for key, value in trial.values.items()},
            distributions=spaces,
            user_attrs=told,
        )
        self._ask(lambda: self._study.add_trial(frozen))

    def claim(self, entry: Entry, search: Search) -> Claim | None:
        """Take a trial that waits; None if another process was faster."""
        import optuna

        running = optuna.trial.TrialState.RUNNING
        try:
            won = self._ask(lambda: self._storage.set_trial_state_values(entry.id, running))
        except Taken:
            return None
        if not won:
            return None
        claim = Claim(entry.trial, entry.attempts, entry.id)
        self._note(claim, worker=myself(), beat=[0, 0])
        if search.sampled and not entry.trial.values:
            values = self._ask(lambda: self._sampled(entry, search))
            claim.trial = replace(claim.trial, values=values)
        return claim

    def _sampled(self, entry: Entry, search: Search) -> dict[str, float]:
        import optuna

        self._study.sampler = search.sampler(self.settings.get("seed", 0) + entry.number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of runs that diverged: it takes them for the worst
            trial = optuna.trial.Trial(self._study, entry.id)
            return {
                key: trial.suggest_float(key, low, high, log=True)
                for key, (low, high) in search.ranges.items()
            }

    def beat(self, claim: Claim, iterations: int) -> None:
        """Say that this process lives, and how far its trial is.

        Raises:
            Taken: another process has taken this one for dead.
        """
        claim.beats += 1
        self._note(claim, beat=[claim.beats, iterations])

    def report(self, claim: Claim, iteration: int, value: float) -> None:
        """A value of the metric on the way."""
        self._ask(
            lambda: self._storage.set_trial_intermediate_value(claim.id, iteration, float(value))
        )

    def finish(self, claim: Claim, outcome: str, value: float | None, **facts) -> None:
        """End a trial.

        Args:
            outcome: 'finished', 'diverged', 'crashed' or 'stopped'.
            value: of the metric; of the first two only.

        Raises:
            Taken: another process has taken this one for dead.
        """
        state = "COMPLETE" if outcome in ("finished", "diverged") else "FAIL"
        self._end(claim.id, state, value, outcome=outcome, **facts)

    def _end(self, trial_id: int, state: str, value: float | None, **facts) -> None:
        import optuna

        for key, fact in facts.items():
            self._ask(lambda k=key, f=fact: self._storage.set_trial_user_attr(trial_id, k, f))
        values = None if value is None else [float(value)]
        goal = optuna.trial.TrialState[state]
        self._ask(lambda: self._storage.set_trial_state_values(trial_id, goal, values))

    def _note(self, claim: Claim, **facts) -> None:
        for key, fact in facts.items():
            self._ask(lambda k=key, f=fact: self._storage.set_trial_user_attr(claim.id, k, f))

    def _ask(self, question: Callable):
        return ask(self.address, question)


def _as_before(trial: Trial, attempts: list) -> Trial:
    """A trial whose values were sampled keeps those of its last attempt, and so goes on with it."""
    params = [attempt.params for attempt in attempts if attempt.params]
    return trial if trial.values or not params else replace(trial, values=params[-1])


def find(address: Address, name: str) -> Study | None:
    """The study of this name, if the storage has one.

    Raises:
        BadInput: the storage cannot be opened, or the study is not one of ours.
    """
    import optuna

    storage = open_storage(address)
    for _ in range(50):
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            return None
        if "settings" in study.user_attrs:
            return Study(address, study)
        if study.get_trials(deepcopy=False):
            break
        time.sleep(0.1)  # another process is just making it
    else:
        return None  # or was killed while it did
    raise BadInput(f"The study {name!r} in {address} was not made by this tool; name another one.")


def create(
    address: Address, name: str, maximize: bool, settings: Mapping, config: Mapping, facts: Mapping
) -> Study:
    """A new study; the one that is there if another process was faster."""
    import optuna

    study = optuna.create_study(
        study_name=name,
        storage=open_storage(address),
        direction="maximize" if maximize else "minimize",
        load_if_exists=True,
    )
    if "settings" not in study.user_attrs:
        study.set_user_attr("config", _packed(config))
        study.set_user_attr("facts", dict(facts))
        study.set_user_attr("settings", _plain(settings))  # last: now it is complete
    return Study(address, study)


def _packed(content: Mapping) -> str:
    """A few thousand characters for the settings of a large config: databases set a limit."""
    return b64encode(zlib.compress(json.dumps(_plain(content)).encode())).decode()


def _unpacked(text: str) -> dict:
    return json.loads(zlib.decompress(b64decode(text)))


def _plain(value):
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(value, default=str))


def _short(value: object) -> str:
    text = "none" if value is None else str(_plain(value))
    return text if len(text) < 60 else f"{text[:57]}…"
