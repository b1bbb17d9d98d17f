"""The strategies by name, and the choice of one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nas.errors import UsageError, nearest
from nas.search.budget import Budget
from nas.search.samplers.base import SpaceSampler, distributions
from nas.search.samplers.flat import NSGAIISampler, TPESampler
from nas.search.samplers.hierarchical_evolution import HierarchicalEvolutionSampler
from nas.search.samplers.local_search import LocalSearchSampler
from nas.search.samplers.nao import NAOSampler
from nas.search.samplers.pnas import STAGES, PNASSampler
from nas.search.samplers.random_search import RandomSampler
from nas.search.samplers.regularized_evolution import NonAgingEvolutionSampler, RegularizedEvolutionSampler
from nas.search.samplers.rl import ReinforceSampler, RLSampler
from nas.search.samplers.structure import stages
from nas.search.samplers.surrogate import Known, SurrogateSampler
from nas.space.search_space import SearchSpace

__all__ = [
    "STRATEGIES", "HierarchicalEvolutionSampler", "LocalSearchSampler", "NAOSampler", "NSGAIISampler",
    "NonAgingEvolutionSampler", "PNASSampler", "RLSampler", "RandomSampler", "RegularizedEvolutionSampler",
    "ReinforceSampler", "SpaceSampler", "SurrogateSampler", "TPESampler", "choose_strategy", "distributions",
]  # fmt: skip

STRATEGIES: Mapping[str, type[SpaceSampler]] = MappingProxyType({
    "random": RandomSampler,
    "regularized_evolution": RegularizedEvolutionSampler,
    "non_aging_evolution": NonAgingEvolutionSampler,
    "hierarchical_evolution": HierarchicalEvolutionSampler,
    "local_search": LocalSearchSampler,
    "rl": RLSampler,
    "reinforce": ReinforceSampler,
    "pnas": PNASSampler,
    "nao": NAOSampler,
    "tpe": TPESampler,
    "nsga2": NSGAIISampler,
    "surrogate": SurrogateSampler,
})  # fmt: skip

MANY = 5000
"""For more trials than this ``auto`` takes evolution."""

ASK_S = 1.0
"""Seconds that a proposal of the surrogate may take."""


def choose_strategy(
    name: str, space: SearchSpace, budget: Budget, seed: int | None = None,
    trials: int | None = None, known: Known | None = None,
) -> tuple[SpaceSampler, str]:  # fmt: skip
    """The strategy of that name, or the one that ``auto`` takes, and why in a sentence.

    Sizes are fitted to ``trials``, how many are expected (default: what the budget says). ``known``: metrics that need no
    training, for the strategies that can use them (:class:`SurrogateSampler`). Raises UsageError.
    """
    expected = trials or budget.trials
    if name != "auto" and name not in STRATEGIES:
        names = ", ".join(["auto", *STRATEGIES])
        raise UsageError("unknown strategy", got=name, expected=f"one of {names}", hint=nearest(name, STRATEGIES))
    chosen, why = (name, "it was asked for") if name != "auto" else _auto(expected, budget.limit("wall"))
    if chosen == "surrogate":
        return SurrogateSampler(space, seed=seed, known=known), why
    sizes = fitted(chosen, space, expected)
    told = ", ".join(f"{word} {size}" for word, size in sizes.items())
    return STRATEGIES[chosen](space, seed=seed, **sizes), f"{why}; {told}" if told else why


def fitted(name: str, space: SearchSpace, expected: int | None) -> dict[str, Any]:
    """Sizes of a strategy, as its keyword arguments, for so many trials: the published ones where there are enough."""
    population, sample = evolution_sizes(expected)
    match name:
        case "regularized_evolution" | "non_aging_evolution":
            return {"population": population, "sample": sample}
        case "nsga2":
            return {"population": population}
        case "hierarchical_evolution":
            return {"population": min(2 * population, 200)}
        case "pnas":
            return {"keep": _share_of(expected, 1 + len(set(stages(space, STAGES).values())), 4, 256)}
        case "nao":
            first = _share_of(expected, 4, 12, 600)
            return {"first": first, "each": first // 2, "best": first // 6}
        case "rl" | "reinforce" if expected is not None and expected < 2000:
            return {"batch": _share_of(expected, 20, 4, 20 if name == "rl" else 8), "lr": 0.0035}
    return {}


def _share_of(expected: int | None, parts: int, least: int, most: int) -> int:
    """That part of the expected trials (of 200, where they are not known), within the bounds."""
    return min(max((expected or 200) // parts, least), most)


def _auto(expected: int | None, wall: float | None) -> tuple[str, str]:
    """``wall``: the budget in seconds of wall time, in which so many proposals have to be made."""
    if expected is not None and expected > MANY:
        return "regularized_evolution", f"with {expected:,} trials a model that sees a few hundred of them is no better"
    if expected and wall and wall / expected < ASK_S:
        return "regularized_evolution", "trials are over sooner than a model proposes the next ones"
    return "surrogate", "its model needs the fewest trials (NAS-Bench-201, Accel-NASBench: results/benchmarks/tabular.csv)"


def evolution_sizes(expected: int | None) -> tuple[int, int]:
    """Population and sample for so many trials: a fifth of them, from 10 to the published 100; a quarter of that.

    Where the number is not known, 20 and 5.
    """
    population = 20 if expected is None else min(max(expected // 5, 10), 100)
    return population, max(2, population // 4)
