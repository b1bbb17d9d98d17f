"""Optuna's own samplers on the flat space of all decisions, so that none of them draws blindly.

On a space with conditional decisions Optuna's samplers model only what all trials have in common and draw the rest one
by one, the genetic ones at random. Here they are shown trials in which every decision has a label.
Stored are the active decisions alone; one that was not active is shown with a label drawn from the trial's number:
always the same for that trial, evenly spread over trials, and so of no weight to a model. Of what they propose, the
active decisions are kept.
"""

from __future__ import annotations

import copy
import heapq
import random
from abc import abstractmethod
from collections.abc import Sequence

import optuna
from optuna import Study
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from nas.errors import UsageError
from nas.search.objectives import nondominated
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.ranking import losses, violation
from nas.search.samplers.view import view
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace, draw, valid


class FlatSampler(SpaceSampler):
    """A strategy of Optuna's. Subclasses :meth:`make` the sampler and choose the :meth:`history` it learns from."""

    keeps_attributes = False
    """Whether what the sampler writes about a trial has to be stored with it."""

    def __init__(self, space: SearchSpace, *, seed: int | None = None) -> None:
        super().__init__(space, seed=seed)
        self._many = {key: known for key, known in self.flat.items() if not known.single()}
        self._flattened: dict[int, tuple[FrozenTrial, FrozenTrial]] = {}

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """Optuna's sampler; a new one for every proposal, so that it keeps no state."""

    @abstractmethod
    def history(self, study: Study, trials: list[FrozenTrial]) -> Sequence[FrozenTrial]:
        """Which of the trials to learn from, by number."""

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        past = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        shown = [self.flatten(other) for other in self.history(study, past)]
        draft = copy.copy(trial)
        draft.system_attrs = dict(trial.system_attrs)
        found = self.make(rng.getrandbits(32)).sample_relative(view(study, draft, shown), draft, self._many)
        if self.keeps_attributes:
            for key, value in draft.system_attrs.items():
                if key not in trial.system_attrs:
                    study._storage.set_trial_system_attr(trial._trial_id, key, value)
        return self.space.complete(found, rng).decisions

    def flatten(self, trial: FrozenTrial) -> FrozenTrial:
        """The trial with a label for every decision. Finished trials do not change and are remembered."""
        known = self._flattened.get(trial.number)
        if known is not None and known[0] is trial:
            return known[1]
        rng = random.Random(trial.number)
        flat = copy.copy(trial)
        flat.params = {
            key: trial.params[key] if key in trial.params and valid(hole, trial.params[key]) else draw(hole, rng)
            for key, hole in self.space.holes.items()
        }
        flat.distributions = self.flat
        if trial.state.is_finished():
            self._flattened[trial.number] = (trial, flat)
        return flat


class TPESampler(FlatSampler):
    """Tree-structured Parzen estimators over all decisions jointly (Optuna's multivariate TPE, with a constant liar).

    A model is fitted for every proposal, so it learns from at most ``history`` trials: those its good ones are chosen
    from (the best, or the front), all in flight, and the youngest.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, startup: int = 10, history: int = 400
    ) -> None:
        super().__init__(space, seed=seed)
        if startup < 1 or history < 50:
            raise UsageError("TPE needs trials to learn from", expected="startup of 1 or more, history of 50 or more",
                             got=f"startup={startup}, history={history}")  # fmt: skip
        self.startup, self.cap = startup, history

    def make(self, seed: int) -> BaseSampler:
        return optuna.samplers.TPESampler(
            n_startup_trials=self.startup, multivariate=True, constant_liar=True, seed=seed
        )

    def history(self, study: Study, trials: list[FrozenTrial]) -> Sequence[FrozenTrial]:
        running = [trial for trial in trials if trial.state == TrialState.RUNNING]
        done = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
        if len(done) > self.cap:
            best = self._best(study, [trial for trial in done if trial.state == TrialState.COMPLETE])
            kept = {trial.number: trial for trial in best}
            for trial in reversed(done):
                if len(kept) == self.cap:
                    break
                kept.setdefault(trial.number, trial)
            done = list(kept.values())
        return sorted(done + running, key=lambda trial: trial.number)

    def _best(self, study: Study, done: list[FrozenTrial]) -> list[FrozenTrial]:
        """Up to an eighth of the cap: the best feasible ones, or the youngest of their front."""
        feasible = [trial for trial in done if violation(trial) == 0]
        count = self.cap // 8
        if not feasible:
            return heapq.nsmallest(count, done, key=violation)
        table = losses(feasible, study.directions)
        if table.shape[1] == 1:
            return [feasible[i] for i in heapq.nsmallest(count, range(len(feasible)), key=lambda i: table[i, 0])]
        return [trial for trial, best in zip(feasible, nondominated(table), strict=True) if best][-count:]


class NSGAIISampler(FlatSampler):
    """Non-dominated sorting genetic algorithm II (Deb et al. 2002), Optuna's: uniform crossover of all decisions.

    ``population``: a generation. What a trial's generation and who its parents are is stored in the study.
    """

    keeps_attributes = True

    def __init__(self, space: SearchSpace, *, seed: int | None = None, population: int = 50) -> None:
        super().__init__(space, seed=seed)
        if population < 2:
            raise UsageError("NSGA-II needs a population", expected="2 or more", got=population)
        self.population = population

    def make(self, seed: int) -> BaseSampler:
        return optuna.samplers.NSGAIISampler(population_size=self.population, seed=seed)

    def history(self, study: Study, trials: list[FrozenTrial]) -> Sequence[FrozenTrial]:
        return [trial for trial in trials if trial.state == TrialState.COMPLETE]
