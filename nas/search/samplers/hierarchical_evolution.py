"""Hierarchical evolution: Liu et al. 2018, Hierarchical Representations for Efficient Architecture Search, arXiv:1711.00436.

As published: 200 trivial architectures, each diversified by 1,000 random mutations, are the initial population; the best
of a random 5 % of it is mutated, and its child joins it; no one leaves. A mutation chooses a level of the hierarchy, a motif
of that level and an edge of that motif, each evenly, and gives the edge another operation, ``none`` included. Here, in any space:

- a level is how deep cells are nested in cells (and in the network, which is the topmost where it has decisions), a motif
  is such a cell, an edge any of its active decisions; a flat space has one level, and any decision is chosen evenly;
- the trivial architecture has the identity wherever it can be chosen, else the first label that is not ``none``;
- in the search an edge never gets the operation that it has: the paper draws evenly from all, and would train some parents again;
- decisions that become active by a mutation are trivial at first in the diversification, and drawn in the search;
- constraints: feasible before infeasible, then the less broken;
- with several objectives the tournament goes by non-dominated rank and crowding among those drawn for it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator

from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.base import SpaceSampler
from nas.search.samplers.past import before, split
from nas.search.samplers.ranking import order
from nas.search.samplers.structure import nesting, scope, trivial
from nas.search.vary import alternatives, redraw_at
from nas.space.decide import Decisions
from nas.space.plan import Plan
from nas.space.search_space import SearchSpace, draw

Levels = list[list[list[str]]]


class HierarchicalEvolutionSampler(SpaceSampler):
    """``population``: how many diversified architectures come first; ``mutations`` of each; ``share`` of a tournament.

    Raises UsageError for sizes that cannot be.
    """

    def __init__(
        self, space: SearchSpace, *, seed: int | None = None, population: int = 200, mutations: int = 1000,
        share: float = 0.05,
    ) -> None:  # fmt: skip
        super().__init__(space, seed=seed)
        if population < 1 or mutations < 1 or not 0 < share <= 1:
            raise UsageError("hierarchical evolution needs a population and tournaments",
                             got=f"{population=}, {mutations=}, {share=}",
                             expected="population and mutations of 1 or more, a share above 0 and up to 1")  # fmt: skip
        self.population, self.mutations, self.share = population, mutations, share
        self._level = nesting(space)

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        known, _ = split(before(study, trial))
        if len(known) < self.population:
            return self.diversified(rng)
        drawn = rng.sample(known, max(2, math.ceil(self.share * len(known)))) if len(known) > 2 else known
        _, parent = min(zip(order(drawn, study.directions), drawn, strict=True), key=lambda pair: pair[0])
        own = self.space.complete(self.decisions(parent), rng).decisions
        levels = self._levels(own)
        return redraw_at(self.space, own, _pick(levels, rng), rng) if levels else own

    def diversified(self, rng: random.Random) -> Decisions:
        """The trivial architecture after its mutations."""
        labels = {key: trivial(hole) for key, hole in self.space.holes.items()}
        active = set(_active(self.space.plan, labels))
        bearing = set(_bearing(self.space.plan))
        levels = self._levels(key for key in labels if key in active)
        for _ in range(self.mutations if levels else 0):
            key = _pick(levels, rng)
            labels[key] = draw(self.space.holes[key], rng)
            if key in bearing:
                now = set(_active(self.space.plan, labels))
                labels |= {new: trivial(self.space.holes[new]) for new in now - active}
                active, levels = now, self._levels(key for key in labels if key in now)
        return self.space.complete(labels, rng).decisions

    def _levels(self, active: Iterable[str]) -> Levels:
        """The active decisions that can change, by level and scope."""
        levels: dict[int, dict[str, list[str]]] = {}
        for key in active:
            if alternatives(self.space.holes[key]):
                levels.setdefault(self._level[scope(key)], {}).setdefault(scope(key), []).append(key)
        return [list(scopes.values()) for scopes in levels.values()]


def _pick(levels: Levels, rng: random.Random) -> str:
    """A level, a scope of it, a decision in that: each drawn evenly."""
    return rng.choice(rng.choice(rng.choice(levels)))


def _active(plan: Plan, labels: Decisions) -> Iterator[str]:
    """Keys of the decisions that are active under these labels."""
    for decision in plan:
        yield decision.key
        yield from _active(decision.below.get(labels[decision.key], ()), labels)


def _bearing(plan: Plan) -> Iterator[str]:
    """Keys of the decisions that others hang on."""
    for decision in plan:
        if decision.below:
            yield decision.key
        for below in decision.below.values():
            yield from _bearing(below)
