"""Progressive search: Liu et al. 2018, Progressive Neural Architecture Search, arXiv:1712.00559.

As published: all 136 cells of one block are trained; then, up to five blocks, every cell that was kept is extended by every
possible block, an ensemble of five networks trained on four fifths of the results each predicts what they are worth, and the
256 best are trained. What differs, for any space:

- a page's networks have all their layers from the beginning. What grows is the part that is decided: the first blocks of all
  cells (and the first layers of the network), then the second ones, and so on, at most five stages (:func:`.structure.stages`);
  the rest is trivial: the identity where it can be chosen, else the first label;
- the two cells of a page grow together, and a stage may be anything: so of all extensions 1,000 are drawn and predicted;
- the predictor is the paper's network without recurrence: embedded tokens (32 wide, not 100) averaged by stage, a layer of 100,
  a sigmoid with bias 1.8, absolute error, Adam at 0.01. It is trained anew for every stage, in 150 steps of 64 trials;
- after the last stage the search goes on in rounds: extensions are then the best trials with any one stage drawn again;
- asynchronous: no stage waits for its last trials, they are learnt from in the next;
- what is learnt is the objective scaled from 0 to 1; with several, the share of the trials that are worse, by non-dominated
  rank and crowding; trials that break a limit are worse than all others.
"""

from __future__ import annotations

import math
import random
from collections.abc import Container

import numpy as np
from optuna import Study
from optuna.trial import FrozenTrial

from nas.errors import UsageError
from nas.search.samplers.past import DRAWS, Key, key_of, unseen
from nas.search.samplers.ranking import merits
from nas.search.samplers.rounds import RoundSampler
from nas.search.samplers.structure import stages, trivial
from nas.search.samplers.tokens import Tokens
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace, draw

STAGES = 5
"""As many as the paper's cells have blocks."""


class PNASSampler(RoundSampler):
    """``keep``: trials of a stage, and how many of the best are extended. The first stage has fewer where there are fewer.
    ``steps`` of training for the predictor, ``pool``: how many extensions it judges.

    Raises UsageError for sizes that cannot be.
    """

    def __init__(self, space: SearchSpace, *, seed: int | None = None, keep: int = 256, steps: int = 150,
                 pool: int = 1000) -> None:  # fmt: skip
        self.stage = stages(space, STAGES)
        tokens = Tokens(space)
        first = math.prod(tokens.counts[slot] for key, slot in tokens.slots.items() if self.stage[key] == 0)
        super().__init__(space, seed=seed, first=min(keep, max(first, 2)), each=keep)
        if steps < 1 or pool < 1:
            raise UsageError("the predictor has to learn, and to choose from something", got=f"{steps=}, {pool=}",
                             expected="steps and a pool of 1 or more")  # fmt: skip
        self.steps, self.pool = steps, pool
        self.count = 1 + max(self.stage.values(), default=0)
        self._least = {key: trivial(hole) for key, hole in space.holes.items()}
        self._columns = [
            [start + place for key, slot in tokens.slots.items() if self.stage[key] == stage
             for start in [tokens.starts[slot]] for place in range(tokens.counts[slot])]
            for stage in range(self.count)
        ]  # fmt: skip

    def opening(self, rng: random.Random, taken: Container[Key]) -> Decisions:
        """The first stage drawn, the rest trivial; where all of those are taken, two stages, and so on."""
        for stage in range(self.count):
            for _ in range(DRAWS):
                decisions = self._drawn(self._least, range(stage + 1), rng)
                if key_of(decisions) not in taken:
                    return decisions
        return unseen(self.space, rng, taken)

    def candidates(self, study: Study, number: int, learnt: list[FrozenTrial], rng: random.Random) -> list[Decisions]:
        from nas.search.samplers.controller import one_thread
        from nas.search.samplers.ensemble import Ensemble

        worth = merits(learnt, study.directions)
        known = [self.whole(trial) for trial in learnt]
        best = np.argsort(-worth, kind="stable")[: self.each]
        pool = self._extensions([known[i] for i in best], number, {key_of(decisions) for decisions in known}, rng)
        if not pool:
            return []
        with one_thread():
            model = Ensemble(self._columns, rng.getrandbits(62))
            model.fit(self.tokens.rows(known), (worth - worth.min()) / (np.ptp(worth) or 1.0), self.steps)
            predicted = model.predict(self.tokens.rows(pool))
        return [pool[i] for i in np.argsort(-predicted, kind="stable")]

    def _extensions(self, parents: list[Decisions], number: int, known: set[Key], rng: random.Random) -> list[Decisions]:
        found: dict[Key, Decisions] = {}
        for _ in range(self.pool):
            stage = number if number < self.count else rng.randrange(self.count)
            decisions = self._drawn(rng.choice(parents), [stage], rng)
            if (key := key_of(decisions)) not in known:
                found[key] = decisions
        return list(found.values())

    def _drawn(self, decisions: Decisions, which: Container[int], rng: random.Random) -> Decisions:
        """These decisions with those of some stages drawn; what becomes active by it in other stages is trivial."""
        drawn = {key: draw(hole, rng) for key, hole in self.space.holes.items() if self.stage[key] in which}
        return self.tokens.whole({**self._least, **decisions, **drawn}, rng)
