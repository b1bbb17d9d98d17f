"""What all strategies are: Optuna samplers that know the search space, so that no decision is drawn blindly.

A strategy works in the search loop and in anyone's own script::

    study = optuna.create_study(direction="maximize", sampler=RandomSampler(space, seed=0))
    study.optimize(lambda trial: evaluate(suggest(space, trial)), n_trials=100)

Its state is in the study and not in the object: every proposal depends on the seed, the trial's number and the trials
so far, and on nothing else. So any process can go on with a search, and a search that is continued repeats no point.
"""

from __future__ import annotations

import math
import random
import secrets
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any

from optuna import Study, Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from nas.space.decide import Decisions
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Choice, Hole, Scalar


def distribution(hole: Hole) -> BaseDistribution:
    """The hole as Optuna knows it. Labels are scalars and are stored as they are.

    Optuna has no logarithmic range with steps: such a one is even to its models. What is drawn here follows the hole.
    """
    if isinstance(hole, Choice):
        return CategoricalDistribution(hole.labels)
    # Optuna lowers, with a warning, an upper end that no step reaches; this is the same set of values.
    high = hole.high if hole.step is None or hole.count is None else _plus(hole.low, hole.step, hole.count - 1)
    if hole.whole:
        step = int(hole.step or 1)
        return IntDistribution(int(hole.low), int(high), log=hole.log and step == 1, step=step)
    return FloatDistribution(float(hole.low), float(high), log=hole.log and hole.step is None, step=hole.step)


def snap(hole: Hole, label: Scalar) -> Scalar:
    """The label as the hole spells it: a float range's 0.1 + 2 * 0.1 is 0.3, and no other architecture than that."""
    if isinstance(hole, Choice) or hole.step is None or hole.whole or not isinstance(label, int | float):
        return label
    return _plus(hole.low, hole.step, round((label - hole.low) / hole.step))


def _plus(low: float, step: float, times: int) -> float:
    """``low + times * step`` in decimal numbers, as they are written."""
    return float(Decimal(str(low)) + times * Decimal(str(step)))


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """The flat space: every decision that can ever be asked for."""
    return {key: distribution(hole) for key, hole in space.holes.items()}


def suggest(space: SearchSpace, trial: Trial) -> Architecture:
    """An architecture of the space, its active decisions suggested by ``trial`` under their own names."""

    def choose(key: str, hole: Hole) -> Scalar:
        match distribution(hole):
            case CategoricalDistribution(choices=choices):
                label: Scalar = trial.suggest_categorical(key, choices)
            case IntDistribution(low=low, high=high, step=step, log=log):
                label = trial.suggest_int(key, low, high, step=step, log=log)
            case FloatDistribution(low=low, high=high, step=step, log=log):
                label = trial.suggest_float(key, low, high, step=step, log=log)
            case other:
                raise TypeError(other)
        return snap(hole, label)

    return space.decide(choose)


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
