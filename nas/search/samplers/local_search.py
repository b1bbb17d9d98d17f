"""Local search: White, Nolen & Savani 2021, Exploring the Loss Landscape in Neural Architecture Search, arXiv:2005.02960.

As published: from a random architecture, all its neighbours (those that differ in one decision) are trained; the search
goes on from the best one, and starts anew where none is better. What differs here:

- the neighbours come in random order; one that any trial has tried is not trained again: its figures count;
- asynchronous: while the last neighbours are in flight, the next worker goes on with another climb;
- a continuous range's neighbours are its ends and the middles to them;
- constraints: feasible before infeasible, then the less broken;
- several objectives: Pareto local search (Paquete et al. 2004): a climb keeps a front, goes on from its least crowded
  member whose neighbours are not tried, and ends when there is none.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
from optuna import Study
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.past import Key, Keys, before, key_of, unseen
from nas.search.samplers.ranking import crowding, losses, violation
from nas.search.samplers.tokens import Tokens
from nas.search.vary import others
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace

START = "local_search:start"
"""Attribute of a trial from which a climb starts."""


class LocalSearchSampler(SpaceSampler):
    """Climbs one after the other; with several workers as many side by side as it takes to keep them busy."""

    def __init__(self, space: SearchSpace, *, seed: int | None = None) -> None:
        super().__init__(space, seed=seed)
        self._keys, self._tokens = Keys(self.flat), Tokens(space)
        self._around: dict[Key, list[tuple[Key, Decisions]]] = {}  # only saves time

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        past = before(study, trial)
        known = self._known(past)
        for start in past:
            if START in start.system_attrs and start.state == TrialState.COMPLETE:
                found = self._next(start, known, study.directions)
                if found is not None:
                    return found
        study._storage.set_trial_system_attr(trial._trial_id, START, True)
        return unseen(self.space, rng, known)

    def _known(self, past: Sequence[FrozenTrial]) -> dict[Key, FrozenTrial]:
        """Trials by their decisions: of equal ones a completed one, else one in flight."""
        worth = {TrialState.COMPLETE: 2, TrialState.RUNNING: 1}
        known: dict[Key, FrozenTrial] = {}
        for trial in past:
            key = self._keys(trial)
            other = known.setdefault(key, trial)
            if worth.get(trial.state, 0) > worth.get(other.state, 0):
                known[key] = trial
        return known

    def _next(
        self, start: FrozenTrial, known: Mapping[Key, FrozenTrial], directions: Sequence[StudyDirection]
    ) -> Decisions | None:
        """What to try next in a climb; None where it waits for trials in flight or has ended."""
        front, explored = [start], set[int]()
        centre: FrozenTrial | None = start
        while centre is not None:
            explored.add(centre.number)
            tried = []
            for key, decisions in self.around(centre):
                if key not in known:
                    return decisions
                tried.append(known[key])
            if not all(trial.state.is_finished() for trial in tried):
                return None
            for trial in tried:
                if trial.state == TrialState.COMPLETE:
                    front = _with(front, trial, directions)
            centre = _lonely([trial for trial in front if trial.number not in explored], front, directions)
        return None

    def around(self, centre: FrozenTrial) -> list[tuple[Key, Decisions]]:
        """All neighbours of a trial in an order of its own; decisions that become active by the change are drawn."""
        own = self.space.complete(self.decisions(centre), random.Random(centre.number)).decisions
        name = key_of(own)
        if name not in self._around:
            rng = random.Random(f"{self.seed}/{sorted(own.items())}")
            changed = [{**own, key: other} for key in own for other in others(self.space.holes[key], own[key])]
            found = [self._tokens.whole(decisions, rng) for decisions in changed]
            rng.shuffle(found)
            self._around[name] = [(key_of(decisions), decisions) for decisions in found]
        return self._around[name]


def _with(front: list[FrozenTrial], trial: FrozenTrial, directions: Sequence[StudyDirection]) -> list[FrozenTrial]:
    """The front with the trial in it, if no member is as good."""
    if any(_as_good(member, trial, directions) for member in front):
        return front
    return [*(member for member in front if not _as_good(trial, member, directions)), trial]


def _as_good(a: FrozenTrial, b: FrozenTrial, directions: Sequence[StudyDirection]) -> bool:
    if a.system_attrs or b.system_attrs:  # where limits are kept; summing them up takes longer than all the rest
        broken = violation(a), violation(b)
        if broken[0] != broken[1]:
            return broken[0] < broken[1]
    return all(
        (x >= y if direction == StudyDirection.MAXIMIZE else x <= y)
        for x, y, direction in zip(a.values, b.values, directions, strict=True)
    )


def _lonely(
    candidates: list[FrozenTrial], front: list[FrozenTrial], directions: Sequence[StudyDirection]
) -> FrozenTrial | None:
    """The least crowded of the candidates in their front; of equals the first."""
    if len(front) < 3 or not candidates:
        return candidates[0] if candidates else None
    distance = crowding(losses(front, directions), np.zeros(len(front), dtype=int))
    numbers = {trial.number: space for trial, space in zip(front, distance, strict=True)}
    return max(candidates, key=lambda trial: numbers[trial.number])
