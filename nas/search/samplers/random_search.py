"""Random search: every active decision drawn uniformly. The baseline that any other strategy has to beat."""

from __future__ import annotations

import random

from optuna import Study
from optuna.trial import FrozenTrial

from nas.search.samplers.base import SpaceSampler
from nas.space.decide import Decisions


class RandomSampler(SpaceSampler):
    """Uniform over the options of every active decision, not over the set of architectures."""

    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        return self.space.sample(rng).decisions
