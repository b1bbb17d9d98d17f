"""A study as a sampler is to see it: with other trials than the stored ones, and a trial that is not stored yet."""

from __future__ import annotations

import copy
from collections.abc import Container
from typing import Any

from optuna import Study
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState


class _View:
    """A storage that answers for one study's trials and keeps what is written to ``draft``; the rest is passed on.

    Who asks for no copies gets ``trials`` itself: a copy of a long list, too, takes its time.
    """

    def __init__(self, storage: BaseStorage, trials: list[FrozenTrial] | None, draft: FrozenTrial) -> None:
        self._storage, self._trials, self._draft = storage, trials, draft

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if self._trials is None:
            return self._storage.get_all_trials(study_id, deepcopy, states)
        trials = self._trials if states is None else [trial for trial in self._trials if trial.state in states]
        return copy.deepcopy(trials) if deepcopy else trials

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._draft if trial_id == self._draft._trial_id else self._storage.get_trial(trial_id)

    def get_trial_system_attrs(self, trial_id: int) -> dict[str, Any]:
        return self.get_trial(trial_id).system_attrs

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id == self._draft._trial_id:
            self._draft.system_attrs[key] = value
        else:
            self._storage.set_trial_system_attr(trial_id, key, value)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def view(study: Study, draft: FrozenTrial, trials: list[FrozenTrial] | None = None) -> Study:
    """The study with ``trials`` for its own (None: its own). What a sampler writes to ``draft`` stays in ``draft``."""
    seen = copy.copy(study)
    storage: Any = _View(study._storage, trials, draft)
    seen._storage = storage
    return seen
