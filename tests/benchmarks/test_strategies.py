"""The faithful strategies on the real table: each finds what random search does not, after 200 evaluations."""

import os

import numpy as np
import optuna
import pytest

from benchmarks.tables import nas_bench_201
from benchmarks.tabular import Problem, replay
from nas.search.budget import parse_budget
from nas.search.samplers import choose_strategy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA names no folder with nasbench201.parquet"),
]


def found(name, seeds=5, evaluations=200):
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, last = nas_bench_201("cifar10"), []
    for seed in range(seeds):
        problem, budget = Problem(table, seed), parse_budget(f"{evaluations}trials")
        sampler, _ = choose_strategy(name, table.space, budget, seed)
        steps = {step: rows for step, _, rows in replay(problem, sampler, evaluations)}
        last.append(table.score(steps[max(steps)], None))
    return float(np.mean(last))


@pytest.mark.parametrize("name", ["regularized_evolution", "non_aging_evolution", "hierarchical_evolution", "local_search",
                                  "rl", "reinforce", "pnas", "nao"])  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_strategies_find_more_than_random_search(name):
    assert found(name) > 93.9  # random search: 93.84 (10 seeds), the best one in the table 94.37
