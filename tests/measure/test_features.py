import math
import random

import numpy as np
import pytest

from nas.measure.features import as_table, depth_of, features_of
from nas.measure.predictor import LatencyPredictor
from nas.net.graph import Size
from nas.net.lower import lower
from nas.space.library import load_architecture, load_space

SMALL = Size(width=0.25, depth=1 / 3, input=(3, 16, 16), num_classes=10)


@pytest.fixture(scope="module")
def graphs():
    space = load_space("nasnet_cell")
    return [lower(space.sample(random.Random(seed)), SMALL) for seed in range(60)]


def test_sums_are_the_graphs(graphs):
    for graph in graphs[:5]:
        features, calls = features_of(graph), [call for _, call in graph.calls()]
        assert features["macs"] == pytest.approx(math.log1p(graph.macs))
        assert features["params"] == pytest.approx(math.log1p(graph.num_params))
        assert features["ops"] == len(calls) == sum(features[f"{op}.ops"] for op in {call.op for call in calls})
        assert sum(math.expm1(features[f"{op}.macs"]) for op in {c.op for c in calls}) == pytest.approx(graph.macs, abs=1)
        assert 0 < features["depth"] <= features["ops"]


def test_depth_is_the_longest_chain():
    graph = lower(load_architecture("nasnet_a_cifar"))
    deeper = lower(load_architecture("nasnet_a_cifar"), Size(depth=2))
    assert 0 < depth_of(graph) < depth_of(deeper) < features_of(deeper)["ops"]


def test_a_table_keeps_its_columns():
    table, names = as_table([{"a": 1.0}, {"b": 2.0, "a": 3.0}])
    assert names == ("a", "b")
    assert table.tolist() == [[1, 0], [3, 2]]
    assert as_table([{"b": 5.0, "c": 9.0}], names)[0].tolist() == [[0, 5]]
    assert as_table([], names)[0].shape == (0, 2)


def test_a_predictor_learns_a_cost_of_networks_from_these_features(graphs):
    """Time that goes with work and with launching every operation, as on a device."""
    cost = np.array([sum(2e-3 + 1e-7 * c.macs + 2e-7 * math.prod(c.shape) for _, c in graph.calls()) for graph in graphs])
    table, names = as_table([features_of(graph) for graph in graphs[:40]])
    predictor = LatencyPredictor.fit(table, cost[:40])
    median = predictor.predict(as_table([features_of(graph) for graph in graphs[40:]], names)[0]).median_ms
    assert np.mean(np.abs(median / cost[40:] - 1)) < 0.3 * np.mean(np.abs(cost[:40].mean() / cost[40:] - 1))
