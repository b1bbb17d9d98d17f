"""Which decisions matter: PED-ANOVA (Watanabe, Bansal, Hutter 2023) as Optuna has it, beside what chance alone would show."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from nas.search.objectives import Objective
from nas.search.samplers.base import distributions
from nas.search.study import Record
from nas.space.search_space import SearchSpace

LEAST, MOST = 10, 1000
"""Fewer trials say nothing; of more, the latest are looked at."""
SHUFFLES = 10


def importance(space: SearchSpace, records: Sequence[Record], objective: Objective) -> list[dict[str, Any]]:
    """A row a decision, the most important first: ``importance``, and ``chance``, the most that shuffled results showed.

    Importance is how far the decision's distribution among the best tenth of the trials is from that among all (Pearson
    divergence; no unit). Empty with fewer than :data:`LEAST` trials, or where all results are equal.
    """
    records = [r for r in records if math.isfinite(objective.loss(r.metrics))][-MOST:]
    losses = [objective.loss(r.metrics) for r in records]
    if len(records) < LEAST or len(set(losses)) < 2:
        return []
    measured = _measure(space, records, [losses, *(_shuffled(losses, seed) for seed in range(SHUFFLES))])
    found, *by_chance = measured
    rows = [{"decision": key, "importance": value, "chance": max((other.get(key, 0.0) for other in by_chance), default=0.0)}
            for key, value in found.items()]  # fmt: skip
    return sorted(rows, key=lambda row: -row["importance"])


def _shuffled(losses: Sequence[float], seed: int) -> list[float]:
    return random.Random(seed).sample(losses, len(losses))


def _measure(space: SearchSpace, records: Sequence[Record], targets: Sequence[Sequence[float]]) -> list[Mapping[str, float]]:
    """The importances of all decisions for each list of results."""
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.trial import FrozenTrial

    known = distributions(space)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study()
        study.add_trials([
            optuna.trial.create_trial(params=dict(r.decisions), distributions={k: known[k] for k in r.decisions}, value=0.0)
            for r in records
        ])  # fmt: skip
    finally:
        optuna.logging.set_verbosity(verbosity)

    def one(target: Sequence[float]) -> Mapping[str, float]:
        def loss(trial: FrozenTrial) -> float:
            return target[trial.number]

        return PedAnovaImportanceEvaluator().evaluate(study, target=loss)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that targets are minimised, which losses are, and that some words are experimental
        return [one(target) for target in targets]
