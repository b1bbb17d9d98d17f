"""On a made-up machine whose latencies follow the networks' size with noise, so that the truth is known."""

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from nas.measure import foresight
from nas.measure.foresight import AUDIT, FIRST, HISTORY, Foresight, next_fit
from nas.measure.table import LatencyTable, Sums, work_of
from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace

SPACE = SearchSpace(parse_page({"name": "s", "input": [3, 16, 16], "num_classes": 10, "network": [
    {"op": "conv_bn_act", "out_channels": 8},
    {"repeat": {"choice": [1, 2, 3, 4, 5, 6]}, "each": {"op": "sep_conv", "kernel_size": {"choice": [3, 5]},
                                                        "out_channels": {"choice": [8, 16, 24]}}},
    "global_avg_pool", "classifier"]}))  # fmt: skip


def networks(count: int, seed: int = 0) -> list[Graph]:
    rng = random.Random(seed)
    return [lower(SPACE.sample(rng)) for _ in range(count)]


def truth(graph: Graph) -> float:
    return 0.5 + graph.macs / 1e6 + 0.1 * sum(1 for _ in graph.calls())


def taught(count: int, noise: float = 0.02) -> Foresight:
    rng, found = np.random.default_rng(0), Foresight()
    for graph in networks(count):
        found.add(graph, truth(graph) * math.exp(noise * rng.standard_normal()))
    return found


def test_nothing_is_foreseen_before_enough_was_measured():
    graph, *_ = networks(1, seed=9)
    assert taught(FIRST[0] - 1).interval(graph) is None
    assert taught(FIRST[0] - 1).surely_over(graph, 1e-9) is None
    assert taught(FIRST[0]).interval(graph) is not None


@pytest.mark.parametrize("count", [20, 80])
def test_intervals_hold_the_truth_and_are_narrow(count):
    found = taught(count)
    triples = [(found.interval(graph), truth(graph)) for graph in networks(150, seed=1)]
    inside = [triple[0] <= true <= triple[2] for triple, true in triples if triple]
    assert np.mean(inside) > 0.98
    assert np.median([(high - low) / median for (low, median, high), _ in triples]) < 0.6


def test_what_is_surely_over_is_told_why_and_what_may_fit_is_measured():
    found, graphs = taught(80), networks(120, seed=2)
    limit = float(np.median([truth(graph) for graph in graphs]))
    words = [found.surely_over(graph, limit) for graph in graphs]
    skipped = [truth(graph) > limit for graph, why in zip(graphs, words, strict=True) if why]
    assert len(skipped) > 30
    assert all(skipped)
    why = next(filter(None, words))
    assert all(part in why for part in ("99% confidence", "80 measurements", f"over {limit:.4g} ms"))


def test_one_in_many_is_measured_all_the_same():
    found, graph = taught(20), max(networks(30, seed=3), key=truth)
    told = [found.surely_over(graph, 1e-3) for _ in range(2 * AUDIT)]
    assert [index + 1 for index, why in enumerate(told) if why is None] == [AUDIT, 2 * AUDIT]


def test_fits_are_ever_rarer():
    fits = [next_fit(0)]
    while fits[-1] < 180:
        fits.append(next_fit(fits[-1]))
    assert fits == [20, 40, 80, 130, 180]
    assert next_fit(500) == 625, "of a run that goes on"


def test_the_newest_measurements_count(monkeypatch):
    monkeypatch.setattr(foresight, "HISTORY", 25)
    found = Foresight()
    graphs = networks(40)
    for index, graph in enumerate(graphs):
        found.add(graph, truth(graph) * (100 if index < 15 else 1))
    assert found.measurements == 40
    low, median, high = found.interval(graphs[0])
    assert low <= median <= high < 50 * truth(graphs[0])
    assert HISTORY > 25


def measured(ms: float):
    """What a measurement of a module would give, in a unit of 2 ms."""
    return lambda module, shape: SimpleNamespace(median_ms=ms, low_ms=ms, high_ms=ms, reference_depth=1, reference_ms=2.0)


def tabled(path, whole: int, noise: float = 0.02, units=None) -> Sums:
    """A table of a machine on which a network takes ``truth``: operations alone are slower, each by a factor of its own."""
    rng, table = np.random.default_rng(1), LatencyTable(path / "table.json", {})
    for graph in networks(60, seed=7):
        for work in table.missing(graph):
            alone = (0.12 + 1.3 * work.call.macs / 1e6) * math.exp(0.1 * rng.standard_normal())
            table.add(work, measured(alone), 1)
    sampled, known = random.Random(8), 0
    while known < whole:
        architecture = SPACE.sample(sampled)
        ms = truth(lower(architecture)) * math.exp(noise * rng.standard_normal())
        table.add_whole(architecture, Size(), measured(ms))
        known = len(table.whole)
    return Sums(table, units)


def test_a_table_tells_before_anything_is_measured(tmp_path):
    found, graphs = Foresight(tabled(tmp_path, 25)), networks(150, seed=1)
    triples = [(found.interval(graph), truth(graph)) for graph in graphs]
    assert np.mean([low <= true <= high for (low, _, high), true in triples]) > 0.97
    assert np.median([abs(median / true - 1) for (_, median, _), true in triples]) < 0.08
    limit = float(np.median([true for _, true in triples]))
    why = next(filter(None, (found.surely_over(graph, limit) for graph in graphs)))
    assert "from a latency table and its 25 whole networks), over" in why


def test_the_searchs_own_measurements_replace_the_tables(tmp_path):
    """A machine that is a tenth slower than in the table's hour."""
    found, graphs, others = Foresight(tabled(tmp_path, 25)), networks(80, seed=1), networks(60, seed=2)
    rng = np.random.default_rng(3)

    def error():
        return np.median([found.interval(graph)[1] / (1.1 * truth(graph)) - 1 for graph in others])

    for graph in graphs[: FIRST[0] - 1]:
        found.add(graph, 1.1 * truth(graph) * math.exp(0.02 * rng.standard_normal()))
    assert -0.12 < error() < -0.06
    for graph in graphs[FIRST[0] - 1 :]:
        found.add(graph, 1.1 * truth(graph) * math.exp(0.02 * rng.standard_normal()))
    assert abs(error()) < 0.02
    assert "from a latency table and 80 measurements" in next(filter(None, (found.surely_over(g, 0.1) for g in others)))


def test_a_table_with_few_whole_networks_waits_for_measurements(tmp_path):
    found, graph = Foresight(tabled(tmp_path, FIRST[0] - 1)), networks(1, seed=9)[0]
    for other in networks(FIRST[0], seed=10):
        assert found.interval(graph) is None
        found.add(other, truth(other))
    assert found.interval(graph) is not None


def test_what_the_table_lacks_is_foreseen_from_measurements_alone(tmp_path):
    sums = tabled(tmp_path, 20)
    found, (graph, *others) = Foresight(sums), networks(30, seed=11)
    assert found.interval(graph) is not None
    *_, last = work_of(graph)
    del sums._ms[last.key]
    assert found.interval(graph) is None
    for other in others:
        found.add(other, truth(other))
    low, _, high = found.interval(graph)
    assert low <= truth(graph) <= high


def test_a_table_is_taken_in_the_searchs_unit(tmp_path):
    graph = networks(1, seed=12)[0]
    usual, slower = (Foresight(tabled(tmp_path / name, 20, units=units)).interval(graph)
                     for name, units in (("a", {1: 2.0}), ("b", {1: 3.0})))  # fmt: skip
    assert slower == pytest.approx([1.5 * ms for ms in usual])


def test_something_never_seen_is_measured():
    other = lower(SearchSpace(parse_page({"name": "o", "input": [3, 16, 16], "num_classes": 10, "network": [
        {"op": "max_pool", "kernel_size": 3}, "global_avg_pool", "classifier"]})).sample(random.Random(0)))  # fmt: skip
    assert taught(20).surely_over(other, 1e-9) is None
