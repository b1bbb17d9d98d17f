"""The study of a search: an Optuna study that costs few writes, with what the search loop needs kept in memory.

A trial is sampled first and then stored once, with its real parameters, so that Optuna's dashboard and samplers can
read it; its end is one more write. Optuna's ``ask`` looks through all trials and then writes parameter by parameter.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.errors import RunError
from nas.search.objectives import Constraint, Metrics, Objective
from nas.search.samplers.base import distributions
from nas.search.samplers.view import view
from nas.search.storage import Storage
from nas.space.decide import Decisions
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Hole, Scalar
from nas.space.suggest import snap

State = Literal["completed", "failed", "duplicate", "stopped", "running"]
STATES: tuple[State, ...] = get_args(State)

_STORED = {
    "running": TrialState.RUNNING, "completed": TrialState.COMPLETE, "failed": TrialState.FAIL,
    "stopped": TrialState.PRUNED,
}  # fmt: skip
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "completed", TrialState.FAIL: "failed", TrialState.PRUNED: "stopped",
}  # fmt: skip
_OWN = ("identity", "metrics", "state", "seed", "reason", "duplicate_of")
_CONSTRAINT_KEY = "constraints:"
"""Optuna's prefix for what ``trial.set_constraint`` stores."""

UNFINISHED = "unfinished"
"""Attribute of a stopped trial that would have gone on: its architecture may be proposed, and trained, again."""


@dataclass(slots=True, kw_only=True)
class Record:
    """A trial as the loop knows it. ``attrs`` are its other attributes (timings, hardware), as they were given."""

    number: int
    decisions: Decisions
    identity: str = ""
    seed: int | None = None
    state: State = "running"
    metrics: Metrics = field(default_factory=dict)
    reason: str | None = None
    duplicate_of: int | None = None
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def counts(self) -> bool:
        """Whether it is one of a budget's trials: it was judged, if only at a rung of early stopping."""
        at_a_rung = self.state == "stopped" and "rungs" in self.attrs
        return self.state in ("completed", "failed") or (at_a_rung and not self.unfinished)

    @property
    def unfinished(self) -> bool:
        """Stopped before it could be judged: at the budget's end, or because its measurement was refused."""
        return self.state == "stopped" and bool(self.attrs.get(UNFINISHED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A proposal that is not stored yet. ``blind`` says how many decisions the sampler drew one by one."""

    number: int
    architecture: Architecture
    distributions: Mapping[str, BaseDistribution]
    system_attrs: Mapping[str, Any]
    blind: int


class _Ending(NamedTuple):
    state: TrialState
    values: list[float] | None
    constraints: dict[str, float]


class SearchStudy:
    """The trials of one search in an open storage; made there when there are none. Its only writer.

    ``records`` has every trial by its number. ``left_running`` are those that an earlier driver left in flight: the loop
    runs each again under its number, or tells that it failed. ``there``: it was made before, and nothing is made now. Raises
    RunError when the storage holds a search for other objectives, or none that was to be there.
    """

    def __init__(
        self, storage: Storage, space: SearchSpace, objectives: Sequence[Objective],
        constraints: Sequence[Constraint] = (), name: str = "search", *, there: bool = False,
    ) -> None:  # fmt: skip
        self.space, self.objectives, self.constraints = space, tuple(objectives), tuple(constraints)
        self._storage, self._distributions = storage, distributions(space)
        self.optuna = self._open(name, there)
        self._id = storage.optuna.get_study_id_from_name(name)
        self._trials: list[FrozenTrial] = []  # as the storage has them, for samplers: asking it for all takes longer and longer
        self._by_identity: dict[str, int] = {}
        self._sampler: BaseSampler | None = None
        self.records: list[Record] = []
        for trial in storage.optuna.get_all_trials(self._id, deepcopy=False):
            self._trials.append(trial)
            self._remember(self._record(trial))
        self.left_running = tuple(record.number for record in self.records if record.state == "running")

    def _open(self, name: str, there: bool) -> optuna.Study:
        storage = self._storage.optuna
        directions = [StudyDirection[objective.direction.upper()] for objective in self.objectives]
        names = [objective.name for objective in self.objectives]
        random = optuna.samplers.RandomSampler()  # never asked: the default would import and set up TPE
        try:
            study = optuna.Study(name, storage, sampler=random)
        except KeyError:
            if there:
                raise RunError("the search is not in its storage any more", got=name,
                               hint="Restore the storage. The run's trials.csv lists what was found.") from None  # fmt: skip
            with _quietly():
                storage.create_new_study(directions, name)
                study = optuna.Study(name, storage, sampler=random)
                study.set_metric_names(names)
        stored = study.metric_names or []
        if study.directions != directions or stored != names:
            raise RunError("this search was begun with other objectives", expected=",".join(stored),
                           got=",".join(names), hint="Use another folder for another search.")  # fmt: skip
        return study

    @property
    def metadata(self) -> dict[str, Any]:
        """What is stored beside the trials: the page, the configuration, the meter."""
        return dict(self._storage.optuna.get_study_user_attrs(self._id))

    @property
    def spent(self) -> dict[str, float]:
        """What was spent when it was last told, for :meth:`.budget.Meter.from_mapping`; trials are counted as they are stored."""
        stored = self.metadata
        counted = sum(record.counts for record in self.records) + sum(map(len, stored.get("repeats", {}).values()))
        return {**stored.get("meter", {}), "trials": counted}

    def set_metadata(self, **values: Any) -> None:
        """Store values that are plain JSON, in one write."""
        with self._storage.batch():
            self._set_metadata(values)

    def _set_metadata(self, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            self._storage.optuna.set_study_user_attr(self._id, key, value)

    def find(self, identity: str) -> Record | None:
        """The first trial of that identity, whatever became of it; not one that was stopped unfinished."""
        number = self._by_identity.get(identity)
        return None if number is None else self.records[number]

    def draft(self, sampler: BaseSampler) -> Draft:
        """What the sampler proposes next: any Optuna sampler, or one of ours. Nothing is stored.

        Raises SpaceError for a label that a decision does not have.
        """
        number = len(self.records)
        trial = FrozenTrial(
            number=number, trial_id=-1, state=TrialState.RUNNING, value=None, datetime_start=datetime.now(),
            datetime_complete=None, params={}, distributions={}, user_attrs={}, system_attrs={}, intermediate_values={},
        )  # fmt: skip
        seen = view(self.optuna, trial, self._trials)
        self._sampler = sampler
        sampler.before_trial(seen, trial)
        relative = sampler.sample_relative(seen, trial, sampler.infer_relative_search_space(seen, trial))
        blind = 0

        def choose(key: str, hole: Hole) -> Scalar:
            nonlocal blind
            known = self._distributions[key]
            if key in relative:
                label = snap(hole, relative[key])
            else:
                blind += not known.single()
                label = snap(hole, sampler.sample_independent(seen, trial, key, known))
            trial.params[key], trial.distributions[key] = label, known
            return label

        architecture = self.space.decide(choose)
        return Draft(number=number, architecture=architecture, distributions=trial.distributions,
                     system_attrs=trial.system_attrs, blind=blind)  # fmt: skip

    def add(
        self, draft: Draft, state: State = "running", *, identity: str = "", seed: int | None = None,
        metrics: Metrics | None = None, reason: str | None = None, duplicate_of: int | None = None,
        attrs: Mapping[str, Any] | None = None,
    ) -> Record:  # fmt: skip
        """Store a draft in one write: running, or already ended (a duplicate, or one that cannot be built).

        A duplicate takes over the metrics of the trial it repeats. Raises RunError when the draft is out of date.
        """
        if draft.number != len(self.records):
            raise RunError(f"trial {draft.number} is out of date: another was stored meanwhile")
        record = Record(number=draft.number, decisions=dict(draft.architecture.decisions), identity=identity, seed=seed,
                        attrs=dict(attrs or {}))  # fmt: skip
        end = self._end(record, state, metrics, reason, duplicate_of)
        now = datetime.now()
        template = FrozenTrial(
            number=draft.number, trial_id=-1, state=end.state, value=None, values=end.values, datetime_start=now,
            datetime_complete=now if end.state.is_finished() else None, params=dict(record.decisions),
            distributions=dict(draft.distributions), user_attrs=_user_attrs(record),
            system_attrs={**draft.system_attrs, **end.constraints}, intermediate_values={},
        )  # fmt: skip
        trial_id = self._storage.optuna.create_new_trial(self._id, template_trial=template)
        if self._storage.optuna.get_trial_id_from_study_id_trial_number(self._id, draft.number) != trial_id:
            raise RunError("something else writes to this search", hint="A search has one driver: stop the other.")
        self._trials.append(stored := self._storage.optuna.get_trial(trial_id))
        record.decisions = stored.params  # equal, and kept anyway
        self._remember(record)
        return record

    def ask(self, sampler: BaseSampler, **attrs: Any) -> tuple[Record, Architecture]:
        """Sample and store a running trial: for loops that look for no duplicates."""
        draft = self.draft(sampler)
        return self.add(draft, attrs=attrs), draft.architecture

    def tell(
        self, number: int, state: State, *, metrics: Metrics | None = None, reason: str | None = None,
        duplicate_of: int | None = None, attrs: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None, for_now: bool = False,
    ) -> Record:  # fmt: skip
        """End a running trial in one write, together with ``metadata`` (the meter).

        ``completed`` needs every objective and every limited metric; a value that is not a number makes it ``failed``.
        ``for_now``: it is stopped until :meth:`reopen`, and Optuna has it as waiting, since what has ended there has ended for
        good. Raises RunError for a trial that is not running.
        """
        record = self.records[number]
        if record.state != "running" or state == "running":
            raise RunError(f"trial {number} is {record.state} and cannot become {state}")
        before = _user_attrs(record)
        record.attrs |= attrs or {}
        end = self._end(record, state, metrics, reason, duplicate_of)
        if for_now:
            end = end._replace(state=TrialState.WAITING)
        trial_id, storage = self._trials[number]._trial_id, self._storage.optuna
        if self._sampler is not None and not for_now:
            self._sampler.after_trial(self.optuna, storage.get_trial(trial_id), end.state, end.values)
        with self._storage.batch():
            for key, value in _user_attrs(record).items():
                if key not in before or before[key] != value:
                    storage.set_trial_user_attr(trial_id, key, value)
            for key, excess in end.constraints.items():
                storage.set_trial_system_attr(trial_id, key, excess)
            self._set_metadata(metadata or {})
            storage.set_trial_state_values(trial_id, end.state, end.values)
        self._trials[number] = storage.get_trial(trial_id)
        if record.unfinished and self._by_identity.get(record.identity) == number:
            del self._by_identity[record.identity]
        return record

    @property
    def stopped_for_now(self) -> list[Record]:
        """Those that :meth:`reopen` would have run again."""
        both = zip(self.records, self._trials, strict=True)
        return [record for record, trial in both if trial.state == TrialState.WAITING and record.state == "stopped"]

    def reopen(self) -> None:
        """Have those that were stopped for now run again, under their numbers, in one write: as if left in flight."""
        again, storage = self.stopped_for_now, self._storage.optuna
        with self._storage.batch():
            for record in again:
                record.attrs |= {UNFINISHED: False} if record.unfinished else {}
                record.state, record.reason = "running", None
                trial_id = self._trials[record.number]._trial_id
                storage.set_trial_state_values(trial_id, TrialState.RUNNING)  # first: a waiting trial's attributes are fixed
                for key, value in {**_user_attrs(record), "reason": None}.items():  # nor can any be deleted
                    if self._trials[record.number].user_attrs.get(key) != value:
                        storage.set_trial_user_attr(trial_id, key, value)
        for record in again:
            self._trials[record.number] = storage.get_trial(self._trials[record.number]._trial_id)
            self._by_identity.setdefault(record.identity, record.number)
        self.left_running += tuple(record.number for record in again)

    def note(self, number: int, **attrs: Any) -> None:
        """Store attributes of a running trial, in one write."""
        record = self.records[number]
        record.attrs |= attrs
        with self._storage.batch():
            for key, value in attrs.items():
                self._storage.optuna.set_trial_user_attr(self._trials[number]._trial_id, key, value)
        self._trials[number] = self._storage.optuna.get_trial(self._trials[number]._trial_id)

    def _end(
        self, record: Record, state: State, metrics: Metrics | None, reason: str | None, duplicate_of: int | None
    ) -> _Ending:
        """Put the end into the record, and say what Optuna is to store of it."""
        like = state
        if state == "duplicate":
            original = self._original(record, duplicate_of)
            like, metrics = original.state, original.metrics
        known = dict(metrics or {})
        known |= {o.name: o.value(known) for o in self.objectives if o.factors and known.keys() >= set(o.metrics)}
        bad = [o.name for o in self.objectives if not math.isfinite(o.value(known))]
        if like == "completed" and bad:
            state = like = "failed"
            reason = f"{', '.join(bad)} is not a finite number"
        judged = [limit for limit in self.constraints if like == "completed" or limit.metric in known]
        # A violation without end would be no JSON.
        broken = {f"{_CONSTRAINT_KEY}{limit}": min(limit.violation(known), sys.float_info.max) for limit in judged}
        values = [float(o.value(known)) for o in self.objectives] if like == "completed" else None
        record.state, record.metrics, record.reason, record.duplicate_of = state, known, reason, duplicate_of
        return _Ending(_STORED[like], values, broken)

    def _original(self, record: Record, duplicate_of: int | None) -> Record:
        known = duplicate_of is not None and 0 <= duplicate_of < len(self.records)
        original = self.records[duplicate_of] if duplicate_of is not None and known else None
        if original is None or original.state in ("running", "duplicate") or original is record:
            raise RunError(f"trial {record.number} cannot be a duplicate", expected="an ended trial's number",
                           got=duplicate_of if original is None else f"{duplicate_of}, {original.state}")  # fmt: skip
        return original

    def _remember(self, record: Record) -> None:
        self.records.append(record)
        if record.identity and record.state != "duplicate" and not record.unfinished:
            self._by_identity.setdefault(record.identity, record.number)

    def _record(self, trial: FrozenTrial) -> Record:
        """The record of a stored trial; of one that another program stored, what can be known.

        Whether it has ended, if only for now, Optuna's state says: it is the last thing written of an end that a kill can cut
        short.
        """
        attrs = dict(trial.user_attrs)
        own = {key: attrs.pop(key) for key in _OWN if key in attrs}
        stopped_for_now = trial.state == TrialState.WAITING and own.get("state") == "stopped"
        if not trial.state.is_finished() and not stopped_for_now:
            # The state is the last word of an ending: without it, what was written of the ending does not count.
            own = {key: own[key] for key in ("identity", "seed") if key in own} | {"state": "running"}
        elif own.get("state", "running") == "running":
            own["state"] = _STATES[trial.state]
        if trial.values is not None:
            names = (objective.name for objective in self.objectives)
            own.setdefault("metrics", dict(zip(names, trial.values, strict=True)))
        decisions = trial.params
        if not decisions.keys() <= self._distributions.keys():
            decisions = {key: label for key, label in decisions.items() if key in self._distributions}
        return Record(number=trial.number, decisions=decisions, attrs=attrs, **own)


def _user_attrs(record: Record) -> dict[str, Any]:
    """What is stored of a record, without what says nothing."""
    own = {key: getattr(record, key) for key in _OWN}
    return {key: value for key, value in own.items() if value not in (None, "", {})} | record.attrs


@contextmanager
def _quietly() -> Iterator[None]:
    """Without Optuna's note that a study was made and its warning that names of metrics are experimental."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)
