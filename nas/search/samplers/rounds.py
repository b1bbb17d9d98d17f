"""Strategies that learn in rounds: from the trials that have ended they make a list of candidates, which are then tried.

The rounds follow from the study: the first has ``first`` trials and every later one ``each``, counted as they end. The model
of a round learns from the trials that ended before it and from no others, so it is the same in every process and never
learns from a trial twice. Trials in flight make no one wait: the next candidate of the list is taken.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Container

from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.past import Key, Keys, before, completed, key_of, same, unseen
from nas.search.samplers.tokens import Tokens
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace

Candidates = list[tuple[Key, Decisions]]


class RoundSampler(SpaceSampler):
    """Subclasses say the :meth:`candidates` of a round, best first. Raises UsageError for sizes that cannot be."""

    def __init__(self, space: SearchSpace, *, seed: int | None, first: int, each: int) -> None:
        super().__init__(space, seed=seed)
        if first < 2 or each < 1:
            raise UsageError("rounds have trials", expected="2 or more in the first, 1 or more in each", got=f"{first}, {each}")
        self.first, self.each = first, each
        self.tokens = Tokens(space)
        self._keys = Keys(self.flat)
        # Only saves time: the last round's candidates, and what they were made from.
        self._made: tuple[int, list[FrozenTrial], Candidates] | None = None

    @abstractmethod
    def candidates(self, study: Study, number: int, learnt: list[FrozenTrial], rng: random.Random) -> list[Decisions]:
        """What to try in round ``number`` (from 1), best first, from the trials that ended before it; none of those."""

    def opening(self, rng: random.Random, taken: Container[Key]) -> Decisions:
        """A proposal of the first round, in which nothing is known."""
        return unseen(self.space, rng, taken)

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        past = before(study, trial)
        taken = set(map(self._keys, past))
        done = completed(past)
        if len(done) < self.first:
            return self.opening(rng, taken)
        number = 1 + (len(done) - self.first) // self.each
        listed = self._list(study, number, done[: self.first + (number - 1) * self.each])
        return next((decisions for key, decisions in listed if key not in taken), None) or unseen(self.space, rng, taken)

    def _list(self, study: Study, number: int, learnt: list[FrozenTrial]) -> Candidates:
        made = self._made
        if made is None or made[0] != number or not all(map(same, made[1], learnt)):
            rng = random.Random(f"{self.seed}/round {number}")
            found = self.candidates(study, number, learnt, rng)
            made = self._made = number, learnt, [(key_of(decisions), decisions) for decisions in found]
        return made[2]

    def whole(self, trial: FrozenTrial) -> Decisions:
        """The active decisions of a trial; what another program's trial lacks is drawn, always the same."""
        return self.tokens.whole(self.decisions(trial), random.Random(trial.number))
