"""The tabular bench in short: its facts, and bounds that our strategy and random search have to keep."""

import os

import numpy as np
import optuna
import pytest

from benchmarks.tables import nas_bench_201
from benchmarks.tabular import STRATEGIES, Problem, all_seen, replay, score

pytestmark = pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA names no folder with nasbench201.parquet")


def curve(problem, name, evaluations, workers=1):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = STRATEGIES[name](problem)
    return {step: score(problem, rows) for step, _, rows in replay(problem, sampler, evaluations, workers)}


@pytest.fixture(scope="module")
def table():
    return nas_bench_201("cifar10")


def test_rows_are_the_official_ones(table):
    skips = dict.fromkeys(table.space.holes, "skip_connect")
    assert table.row(skips) == 1835
    assert len(table.rows) == 15625
    assert (table.test.argmax(), round(float(table.test.max()), 2)) == (6111, 94.37)


def test_observations_are_single_runs_drawn_by_seed(table):
    one, other = table.observe(0), table.observe(1)
    assert (one == table.observe(0)).all()
    assert (one != other).mean() > 0.3
    assert (np.abs(table.runs - one[:, None]) == 0).any(axis=1).all()


def test_the_whole_table_is_the_unit_of_hypervolume(table):
    problem = Problem(table, 0, "raspi4")
    assert score(problem, range(15625)) == pytest.approx(1.0)
    assert 0.93 < all_seen(problem) < 1.0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_auto_keeps_its_bounds(table):
    found = [curve(Problem(table, seed), "auto", 30)[30] for seed in range(2)]
    assert np.mean(found) > 93.7
    random = [curve(Problem(table, seed), "random", 100)[100] for seed in range(20)]
    assert 93.5 < np.mean(random) < 94.0


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_many_workers_finish_in_less_time(table):
    problem = Problem(table, 0)
    ends = {}
    for workers in (1, 8):
        *_, (done, ends[workers], _) = replay(problem, STRATEGIES["random"](problem), 50, workers)
        assert done == 50
    assert ends[8] < ends[1] / 4
