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
import sys
import time
import warnings
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from normfix_mm.errors import BadInput, listing, one_line
from normfix_mm.tuning.lease import LEASE, Watch, is_dead, myself
from normfix_mm.tuning.search import Scores, Search, Trial
from normfix_mm.tuning.storage import Address, open_storage

RETRIES = 1
PATIENCE = 600  # seconds for which a storage may be out of reach
MOST_LOST = 10  # workers that a trial may outlive
ENDED = ("finished", "diverged", "crashed")


@dataclass
class Entry:
    """A trial as the study knows it.

    Attributes:
        trial: with its values, also those a sampler has chosen.
        state: 'waiting', 'running', 'finished', 'diverged' or 'crashed' (for good).
        value: of the metric; infinitely bad for a run that diverged; None without one.
        id, number: Optuna's, of the latest attempt.
        attempts: how many there have been, the present one included.
        iterations: done so far.
        facts: what its worker has noted: 'seconds', 'metrics', 'error', 'folder', 'worker'.
        curve: values of the metric by iteration.
    """

    trial: Trial
    state: str
    value: float | None = None
    id: int = -1
    number: int = -1
    attempts: int = 0
    iterations: int = 0
    facts: dict = field(default_factory=dict)
    curve: dict[int, float] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass
class Board:
    """The study at one moment: every planned trial, in the order of the plan."""

    entries: list[Entry]
    scores: Scores

    @property
    def is_over(self) -> bool:
        return all(entry.ended for entry in self.entries)

    def of(self, *states: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.state in states]


@dataclass
class Claim:
    """A trial that this process, and no other, is running."""

    trial: Trial
    attempt: int
    id: int
    beats: int = 0


class Taken(Exception):
    """A trial that this process was running has been given to another one."""


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
            scores = {}
            for name, attempts in groups.items():
                entry = self._entry(Trial(name), attempts, retries)
                if entry.ended:
                    scores[name] = self._score(entry)
            plan = search.plan(scores)
            entries = [self._entry(trial, groups.get(trial.name, []), retries) for trial in plan]
            absent = [entry.trial for entry in entries if entry.state == "absent"]
            if not absent:
                return Board(entries, scores)
            for trial in absent:
                self._put_up(trial, search)

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
        for i, frozen in enumerate(attempts):
            state, told = frozen.state.name, frozen.user_attrs
            others = [other.state.name for other in attempts[:i] + attempts[i + 1 :]]
            first = [other.state.name for other in attempts[:i]]
            reason = None
            if state == "RUNNING":
                beat, worker = told.get("beat"), told.get("worker", {})
                if is_dead(worker) or self._watch.is_silent(frozen._trial_id, beat):
                    reason = "lost"
            elif state == "WAITING" and (
                {"COMPLETE", "RUNNING"} & set(others) or "WAITING" in first
            ):
                reason = "double"
            if reason:
                try:
                    self._end(frozen._trial_id, "FAIL", None, outcome=reason)
                except Taken:
                    continue
                closed = self._ask(lambda f=frozen: self._storage.get_trial(f._trial_id))
                attempts[i] = closed

    def _entry(self, trial: Trial, attempts: list, retries: int) -> Entry:
        outcomes = [frozen.user_attrs.get("outcome", "lost") for frozen in attempts]
        real = [f for f, outcome in zip(attempts, outcomes) if outcome != "double"]
        for state in ("COMPLETE", "RUNNING", "WAITING"):
            for frozen in real:
                if frozen.state.name == state:
                    return self._described(trial, frozen, len(real))
        failed = [outcome for outcome in outcomes if outcome != "double"]
        if failed.count("crashed") > retries or failed.count("lost") >= MOST_LOST:
            entry = self._described(trial, real[-1], len(real))
            entry.state, entry.value = "crashed", None
            entry.facts.setdefault("error", "every worker that ran it died")
            return entry
        return Entry(trial, "absent", attempts=len(real))

    def _described(self, trial: Trial, frozen, attempts: int) -> Entry:
        told = frozen.user_attrs
        state = dict(RUNNING="running", WAITING="waiting").get(frozen.state.name)
        # Not the noted outcome: somebody may have noted another, just before it ended.
        state = state or ("diverged" if math.isinf(frozen.value or 0.0) else "finished")
        beat = told.get("beat") or [0, 0]
        if not trial.values and frozen.params:
            trial = replace(trial, values=dict(frozen.params))
        facts = {k: v for k, v in told.items() if k not in ("name", "beat", "outcome", "attempt")}
        facts["began"] = frozen.datetime_start
        return Entry(
            trial,
            state,
            frozen.value if state in ENDED else None,
            frozen._trial_id,
            frozen.number,
            attempts,
            told.get("iterations", beat[1]),
            facts,
            dict(frozen.intermediate_values),
        )

    def _score(self, entry: Entry) -> float:
        if entry.value is None or math.isnan(entry.value):
            return -math.inf
        return entry.value if self.maximize else -entry.value

    # -- working --------------------------------------------------------------------------------

    def _put_up(self, trial: Trial, search: Search) -> None:
        import optuna

        told = dict(name=trial.name, phase=trial.phase, share=trial.share, variant=trial.variant)
        spaces = {}
        for key, value in trial.values.items():
            low, high = search.ranges.get(key, (value, value))
            spaces[key] = optuna.distributions.FloatDistribution(min(low, value), max(high, value))
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
        if search.sampled:
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
        """The storage's answer, waited for while the storage is out of reach.

        Raises:
            Taken: the question is about a trial that has ended.
            BadInput: no answer for ten minutes.
        """
        from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
        from sqlalchemy.exc import SQLAlchemyError

        since = time.monotonic()
        said = False
        while True:
            try:
                return question()
            except UpdateFinishedTrialError:
                raise Taken from None
            except (StorageInternalError, SQLAlchemyError, OSError) as error:
                cause = error.__cause__ or error
                why = self.address.clean(one_line(cause))
                full = isinstance(error, OSError) and error.errno == 28
                if full or time.monotonic() - since > PATIENCE:
                    raise BadInput(
                        f"The storage {self.address} is out of reach ({why}); nothing that had "
                        "ended is lost: give the same command again when it is back."
                    ) from None
                if not said:
                    print(f"storage out of reach, trying on: {why}", file=sys.stderr, flush=True)
                said = True
            time.sleep(1)


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
