"""The trials of a study as strategies read them: in which order, and which are the same."""

from __future__ import annotations

import random
from bisect import insort
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial, TrialState

from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace
from nas.space.spec import Scalar

Key = frozenset[tuple[str, Scalar]]

DRAWS = 50
"""Random architectures that are drawn to find one that is new; the last is taken anyway."""


def before(study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
    """All trials but this one, by number."""
    return [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]


def completed(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Completed trials as they ended. A trial that ends later comes later: what was learnt from the first n stays so."""
    ended = (trial for trial in trials if trial.state == TrialState.COMPLETE and trial.datetime_complete is not None)
    return sorted(ended, key=_when)


class Completed:
    """:func:`completed` of a study that grows, without looking through all of it again: finished trials do not change."""

    def __init__(self) -> None:
        self._completed: list[FrozenTrial] = []
        self._open: list[int] = []
        self._seen = 0

    def __call__(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Those of all of a study's trials, each at its number. The list is not to be changed."""
        last = self._completed[-1:]
        if self._seen > len(trials) or any(not same(trial, trials[trial.number]) for trial in last):
            self._completed, self._open, self._seen = [], [], 0  # another study
        still = []
        for number in chain(self._open, range(self._seen, len(trials))):
            trial = trials[number]
            if not trial.state.is_finished():
                still.append(number)
            elif trial.state == TrialState.COMPLETE and trial.datetime_complete is not None:
                insort(self._completed, trial, key=_when)
        self._open, self._seen = still, len(trials)
        return self._completed


def _when(trial: FrozenTrial) -> tuple[datetime, int]:
    assert trial.datetime_complete is not None
    return trial.datetime_complete, trial.number


def split(trials: list[FrozenTrial]) -> tuple[list[FrozenTrial], int]:
    """Completed trials by number, and how many are in flight."""
    known = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return known, sum(not trial.state.is_finished() for trial in trials)


def key_of(decisions: Decisions) -> Key:
    """Decisions as something that can be looked up."""
    return frozenset(decisions.items())


class Keys:
    """The keys of trials. Finished trials do not change, and theirs are remembered."""

    def __init__(self, known: Container[str]) -> None:
        self._known = known
        self._found: dict[int, tuple[FrozenTrial, Key]] = {}

    def __call__(self, trial: FrozenTrial) -> Key:
        """What of the trial's parameters are decisions of the space."""
        found = self._found.get(trial.number)
        if found is not None and found[0] is trial:
            return found[1]
        key = frozenset((name, label) for name, label in trial.params.items() if name in self._known)
        if trial.state.is_finished():
            self._found[trial.number] = trial, key
        return key


def unseen(space: SearchSpace, rng: random.Random, taken: Container[Key]) -> Decisions:
    """Random decisions that are not taken; any, where those are hard to find."""
    for _ in range(DRAWS):
        decisions = space.sample(rng).decisions
        if key_of(decisions) not in taken:
            break
    return decisions


def same(a: FrozenTrial, b: FrozenTrial) -> bool:
    """Whether these are one finished trial, read twice."""
    return a is b or (a.number, a.values, a.params) == (b.number, b.values, b.params)


def informative(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """The completed ones that are no copies of others."""
    return [t for t in trials if t.state == TrialState.COMPLETE and not _copy(t)]


def measured(trial: FrozenTrial) -> Mapping[str, float]:
    """What was measured of a trial without a result: one in flight, or one that was stopped or failed; no copy of another."""
    told = trial.user_attrs.get("metrics") or trial.user_attrs.get("known")
    return told if isinstance(told, Mapping) and trial.state != TrialState.COMPLETE and not _copy(trial) else {}


def slack(violations: Iterable[float]) -> np.ndarray:
    """By how much a limit is broken (above 0) or kept: as logarithms of metric by limit, where all can be."""
    table = np.array(list(violations), dtype=float)
    return np.log1p(table) if (table > -1).all() else table


def _copy(trial: FrozenTrial) -> bool:
    return bool(trial.user_attrs.get("state") == "duplicate")
