"""The tabular bench in short, on a small committed table: its facts, and bounds that strategies have to keep."""

import os
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from benchmarks import plot_tabular, tables, tabular
from benchmarks.tables import TABLES, accel_nasbench, committed, dominated, nas_bench_201
from benchmarks.tabular import MODELLED, STRATEGIES, Problem, read, replay, sampler_of, summary
from nas.net.lower import lower

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
needs_data = pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA names no folder with the measured tables")


def curve(problem, name, evaluations, workers=1):
    return {step: problem.table.score(rows, problem.device)
            for step, _, rows in replay(problem, sampler_of(name, problem), evaluations, workers)}  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return committed(Path(__file__).parents[1] / "data" / "nas_bench_201.npz")


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def test_rows_are_the_official_ones(table):
    skips = dict.fromkeys(table.space.holes, "skip_connect")
    assert table.row(skips) == 1835
    assert len(table.rows) == 15625
    assert (table.test.argmax(), table.best) == (6111, 94.37)


def test_observations_are_single_runs_drawn_by_seed(table):
    one = table.observe(0).copy()
    assert (one == table.observe(0)).all()
    assert (one != table.observe(1)).mean() > 0.3
    assert (np.abs(table.runs - one[:, None]) == 0).any(axis=1).all()


def test_the_whole_table_is_the_unit_of_hypervolume(table):
    assert table.score(range(15625), "pixel3") == pytest.approx(1.0)
    assert 0.93 < table.ceiling(0, "pixel3") < 1.0
    assert dominated(np.array([1.0, 2.0, 5.0]), np.array([3.0, 1.0, -1.0])) == 4.0


def test_auto_beats_random_search_at_equal_evaluations(table):
    """Two seeds; after 30 evaluations it is above what random search has on average after 200."""
    ours = [curve(Problem(table, seed), "auto", 30)[30] for seed in range(2)]
    chance = [curve(Problem(table, seed), "random", 200) for seed in range(8)]
    assert 93.2 < np.mean([found[30] for found in chance]) < 93.8
    assert np.mean(ours) > np.mean([found[200] for found in chance])


def test_auto_beats_random_search_on_two_objectives(table):
    """After 50 evaluations its front dominates more than that of 200 random ones."""
    ours = curve(Problem(table, 0, "pixel3"), "auto", 50)[50]
    chance = [curve(Problem(table, seed, "pixel3"), "random", 200)[200] for seed in range(3)]
    assert ours > np.mean(chance)


@pytest.mark.parametrize(("name", "everywhere"), [("auto", True), (MODELLED, False)])
def test_an_arm_that_models_latency_is_told_it_of_what_was_evaluated_alone(table, monkeypatch, name, everywhere):
    asked, known = [], Problem.known
    monkeypatch.setattr(Problem, "known", lambda self, decisions: asked.append(1) or known(self, decisions))
    assert curve(Problem(table, 0, "pixel3"), name, 20)[20] > 0.3
    assert (len(asked) > 100) == everywhere


def test_many_workers_finish_in_less_time(table):
    problem, ends = Problem(table, 0), {}
    for workers in (1, 8):
        *_, (done, ends[workers], _) = replay(problem, sampler_of("random", problem), 50, workers)
        assert done == 50
    assert ends[8] < ends[1] / 4


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name.startswith("Optuna") and "GP" not in name])
def test_peers_run_as_a_user_calls_them(table, name):
    assert curve(Problem(table, 0), name, 20)[20] > 92.0


def test_cells_are_run_once_and_summed_up(table, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tabular, "TABLES", {"cifar10": lambda: table})
    monkeypatch.setattr(tabular, "WRITTEN", tmp_path / "tabular.csv")
    raw = tmp_path / "cells.csv"

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["tabular", "--raw", str(raw), "--strategies", "random", *words])
        tabular.main()
        return len(capsys.readouterr().out.splitlines())

    assert call("--seeds", "2", "--evaluations", "20") == 2
    assert call("--seeds", "3", "--evaluations", "20", "--minutes", "0") == 0
    assert call("--seeds", "3", "--evaluations", "30", "--write") == 3
    assert not read(raw).duplicated([*tabular.CELL, "evaluations"]).any()
    told = pd.read_csv(tmp_path / "tabular.csv")
    assert told["evaluations"].tolist() == [10, 20, 30]
    assert told["seeds"].tolist() == [3, 3, 3]
    assert told["regret"].tolist() == pytest.approx((94.37 - told["mean"]).tolist())
    monkeypatch.setattr(plot_tabular, "RESULTS", tmp_path)
    plot_tabular.main()
    assert (tmp_path / "tabular.png").stat().st_size > 1000


def test_summaries_of_two_objectives_have_the_regret_of_the_front(table, monkeypatch):
    monkeypatch.setattr(tabular, "TABLES", {"cifar10": lambda: table})
    told = summary(tabular.run(Problem(table, 0, "pixel3"), "random", 20, 8))
    assert told["regret"].tolist() == pytest.approx((1 - told["mean"]).tolist())


@needs_data
def test_the_committed_table_is_the_whole_one_rounded(table):
    whole = nas_bench_201("cifar10")
    assert all(whole.rows[labels] == row for labels, row in table.rows.items())
    np.testing.assert_allclose(table.test, whole.test, atol=0.006)
    np.testing.assert_allclose(table.runs, whole.runs, atol=0.006)
    assert set(TABLES) == {"cifar10", "cifar100", "mbconv"}
    assert set(tables.FLOOR) == {"cifar10", "cifar100", "imagenet"}


@needs_data
def test_accel_nasbench_pages_are_the_networks_that_were_trained():
    frame = pd.read_parquet(Path(os.environ["NAS_DATA"]) / "accel_nasbench.parquet").iloc[::1000]
    bench = accel_nasbench()
    for _, row in frame.iterrows():
        keys = {key: key.split(".")[1:] for key in bench.space.holes}
        told = {key: float(row[f"{block}_{tables._BLOCK[word]}"]) for key, (block, word) in keys.items()}
        decisions = {key: 0.25 * value if key.endswith("se_ratio") else int(value) for key, value in told.items()}
        graph = lower(bench.space.architecture(decisions))
        assert graph.num_params == pytest.approx(row["params_m"] * 1e6, rel=1e-5)
        number = bench.row(decisions)
        assert bench.row(decisions) == number
        assert bench.test[number] == pytest.approx(row["val_top1"], abs=3)
        assert bench.latency["zcu102"][number] == pytest.approx(row["lat_ms__zcu102"], rel=0.3)
