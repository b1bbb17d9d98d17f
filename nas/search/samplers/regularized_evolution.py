"""Regularized (aging) evolution: Real et al. 2019, Regularized Evolution for Image Classifier Architecture Search,
arXiv:1802.01548.

As published: a population of 100, filled by random architectures; the best of 25 drawn from it with replacement is
mutated; the child comes in, the oldest goes out. What differs here:

- a mutation re-draws one active decision of any kind to another label, chosen evenly among all active decisions, and
  draws the decisions that become active by it. The paper first chooses a cell, a block and one of its two inputs or
  operations, and leaves the architecture as it is with probability 0.05: that would be trained twice;
- constraints: feasible before infeasible, then the less broken;
- with several objectives the tournament goes by non-dominated rank and then crowding (Deb et al. 2002).

The paper's control without aging takes the worst of the sample out instead of the oldest member. Which one that was is
stored with the child, for the sample cannot be drawn again from what is stored; a child takes no one out before it has
completed. Two children in flight may name the same one: the population is then one larger.
"""

from __future__ import annotations

import random

from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.past import Completed
from nas.search.samplers.ranking import order
from nas.search.vary import redraw
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace

REMOVED = "evolution:removed"
"""Attribute of a child: the number of the trial that it takes out of the population."""


class RegularizedEvolutionSampler(SpaceSampler):
    """``population`` and ``sample``: the paper's P and S. A search of few trials needs smaller ones.

    ``aging=False``: the worst of the sample goes, not the oldest member.

    Raises UsageError for sizes that cannot be.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, population: int = 100, sample: int = 25,
        aging: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed)
        if population < 1 or sample < 1:
            raise UsageError("regularized evolution needs a population and a sample", expected="1 or more",
                             got=f"population={population}, sample={sample}")  # fmt: skip
        self.population, self.sample, self.aging = population, sample, aging
        self._completed = Completed()

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        known = self.living(study, trial)
        if len(known) < self.population:
            return self.space.sample(rng).decisions
        drawn = [known[rng.randrange(len(known))] for _ in range(self.sample)]
        ranked = self.ranked(study, known, drawn)
        if not self.aging:
            study._storage.set_trial_system_attr(trial._trial_id, REMOVED, ranked[-1].number)
        return redraw(self.space, self.decisions(ranked[0]), rng)

    def living(self, study: Study, trial: FrozenTrial) -> list[FrozenTrial]:
        """The population, youngest first."""
        born = self._completed(study.get_trials(deepcopy=False))
        if self.aging:
            return born[: -self.population - 1 : -1]
        removed = {past.system_attrs[REMOVED] for past in born if REMOVED in past.system_attrs}
        return [past for past in reversed(born) if past.number not in removed]

    def ranked(self, study: Study, known: list[FrozenTrial], drawn: list[FrozenTrial]) -> list[FrozenTrial]:
        """Those drawn, the best first. Rank and crowding are those within the whole population."""
        keys = dict(zip((past.number for past in known), order(known, study.directions), strict=True))
        return sorted(drawn, key=lambda past: keys[past.number])


class NonAgingEvolutionSampler(RegularizedEvolutionSampler):
    """Evolution without aging: the control of the same paper."""

    def __init__(self, space: SearchSpace, *, seed: int | None = None, population: int = 100, sample: int = 25) -> None:
        super().__init__(space, seed=seed, population=population, sample=sample, aging=False)
