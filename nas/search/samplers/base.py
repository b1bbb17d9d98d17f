"""What all strategies are: Optuna samplers that know the search space, so that no decision is drawn blindly.

A strategy works in the search loop and in anyone's own script::

    study = optuna.create_study(direction="maximize", sampler=RandomSampler(space, seed=0))
    study.optimize(lambda trial: evaluate(space.suggest(trial)), n_trials=100)

Its state is in the study and not in the object: every proposal depends on the seed, the trial's number and the trials
so far, and on nothing else. So any process can go on with a search, and a search that is continued repeats no point.
"""

from __future__ import annotations

import math
import random
import secrets
from abc import ABC, abstractmethod
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace
from nas.space.spec import Choice, Hole, Scalar
from nas.space.suggest import limits, snap


def distribution(hole: Hole) -> BaseDistribution:
    """The hole as Optuna knows it. Labels are scalars and are stored as they are.

    A logarithmic range with steps is even to Optuna's models. What is drawn here follows the hole.
    """
    if isinstance(hole, Choice):
        return CategoricalDistribution(hole.labels)
    low, high, step, log = limits(hole)
    if hole.whole:
        return IntDistribution(int(low), int(high), log=log, step=int(step or 1))
    return FloatDistribution(float(low), float(high), log=log, step=step)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The flat space: every decision that can ever be asked for."""
    return {key: distribution(hole) for key, hole in space.holes.items()}


class SpaceSampler(BaseSampler, ABC):
    """A strategy for one search space. Subclasses say :meth:`propose`.

    ``seed``: None draws one. Directions, values and constraints come from the study; failed trials are left out.
    """

    def __init__(self, space: SearchSpace, *, seed: int | None = None) -> None:
        self.space = space
        self.seed = secrets.randbits(32) if seed is None else seed
        self.flat = distributions(space)

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, rng: random.Random) -> Decisions:
        """The active decisions of the architecture to try next. ``trial`` itself is not to be learnt from."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.flat

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        rng = random.Random(f"{self.seed}/{trial.number}")
        decisions = self.propose(study, trial, rng)
        holes = self.space.holes
        params = {key: snap(holes[key], label) for key, label in decisions.items() if key in search_space}
        foreign = {name: draw_from(known, rng) for name, known in search_space.items() if name not in self.flat}
        return params | foreign

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Parameters that are not the space's (a learning rate beside it) are drawn at random."""
        return draw_from(param_distribution, random.Random(f"{self.seed}/{trial.number}/{param_name}"))

    def decisions(self, trial: FrozenTrial) -> dict[str, Scalar]:
        """What of a trial's parameters are decisions of the space."""
        return {key: label for key, label in trial.params.items() if key in self.flat}


def draw_from(known: BaseDistribution, rng: random.Random) -> Any:
    """A value drawn uniformly (its logarithm, in a log range)."""
    match known:
        case CategoricalDistribution(choices=choices):
            return rng.choice(choices)
        case IntDistribution(low=low, high=high, log=True):
            value = math.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(max(round(value), low), high)
        case IntDistribution(low=low, high=high, step=step):
            return rng.randrange(low, high + 1, step)
        case FloatDistribution(low=low, high=high, log=True):
            return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
        case FloatDistribution(low=low, high=high, step=None):
            return min(max(rng.uniform(low, high), low), high)
        case FloatDistribution(low=low, high=high, step=float(step)):
            return min(low + step * rng.randrange(round((high - low) / step) + 1), high)
    raise TypeError(known)
