"""On a made-up machine whose latencies follow the networks' size with noise, so that the truth is known."""

import math
import random

import numpy as np
import pytest

from nas.measure import foresight
from nas.measure.foresight import AUDIT, FIRST, HISTORY, Foresight, next_fit
from nas.net.graph import Graph
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


def test_something_never_seen_is_measured():
    other = lower(SearchSpace(parse_page({"name": "o", "input": [3, 16, 16], "num_classes": 10, "network": [
        {"op": "max_pool", "kernel_size": 3}, "global_avg_pool", "classifier"]})).sample(random.Random(0)))  # fmt: skip
    assert taught(20).surely_over(other, 1e-9) is None
