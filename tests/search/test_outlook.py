"""What is spared: on made-up accuracies that follow from the networks' size, with noise, so that the truth is known."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

from nas.measure.foresight import AUDIT, Foresight
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.objectives import dominates, parse_constraint, parse_objectives
from nas.search.outlook import Outlook
from nas.search.study import Record
from tests.search.fakes import MANY, space_of

SPACE = space_of(MANY)
NOISE = 0.004


def networks(count, seed):
    rng = random.Random(seed)
    return [lower(SPACE.sample(rng)) for _ in range(count)]


def truth(graph, noise=0.0):
    """Of a space in which most are dominated: the larger ones are the slower and less accurate."""
    return {"accuracy": 0.95 - 0.04 * math.log(graph.num_params) + noise, "latency": 0.1 + graph.macs / 1e5,
            "num_params": float(graph.num_params), "macs": float(graph.macs)}  # fmt: skip


def exact(graph):
    return {"num_params": float(graph.num_params), "macs": float(graph.macs)}


def taught(objectives, count=60, *, limits=(), trained=True):
    """An outlook, and the front of what it has learnt from."""
    rng, goals = np.random.default_rng(0), parse_objectives(objectives)
    outlook = Outlook(goals, [parse_constraint(limit) for limit in limits], Foresight())
    records = []
    for number, graph in enumerate(networks(count, seed=0)):
        metrics = truth(graph, NOISE * rng.standard_normal())
        outlook.measured(graph, metrics)
        if trained:
            outlook.trained(graph, metrics)
        records.append(Record(number=number, decisions={}, state="completed", metrics=metrics))
    return outlook, [r for r in records if not any(dominates(o.metrics, r.metrics, goals) for o in records)]


def told(outlook, front, graphs, known=exact):
    return [outlook.dominated(identity(graph), graph, known(graph), front) for graph in graphs]


@pytest.mark.parametrize("objectives", ["accuracy,latency", "accuracy,macs", "accuracy*(latency/1ms)^-0.07,num_params"])
def test_what_is_spared_is_dominated(objectives):
    outlook, front = taught(objectives)
    rng = np.random.default_rng(1)
    graphs = networks(200, seed=1)
    spared = [graph for graph, why in zip(graphs, told(outlook, front, graphs), strict=True) if why]
    assert len(spared) > 20
    found = [truth(graph, NOISE * rng.standard_normal()) for graph in spared]
    assert all(any(dominates(m.metrics, metrics, outlook.objectives) for m in front) for metrics in found)


def test_the_reason_is_told_with_what_is_foreseen():
    outlook, front = taught("accuracy,latency")
    graphs = networks(100, seed=1)
    why = next(filter(None, told(outlook, front, graphs)))
    assert all(words in why for words in ("dominates it: it has an accuracy of at most", " and a latency of at least", "99%"))
    assert int(why.split()[1]) in {member.number for member in front}
    measured = next(filter(None, told(outlook, front, graphs, truth_but_accuracy)))
    assert "accuracy of at most" in measured
    assert "latency" not in measured


def truth_but_accuracy(graph):
    return {name: value for name, value in truth(graph).items() if name != "accuracy"}


@pytest.mark.parametrize("objectives", ["accuracy", "accuracy*(macs/1M)^-0.07"])
def test_a_single_objective_is_left_plain(objectives):
    assert not any(told(*taught(objectives), networks(100, seed=1)))


def test_too_little_evidence_spares_nothing():
    graphs = networks(100, seed=1)
    assert not any(told(*taught("accuracy,latency", 19), graphs))
    assert not any(told(*taught("accuracy,latency", 60, trained=False), graphs))
    outlook, front = taught("accuracy,latency")
    assert not any(told(outlook, [], graphs)), "nothing is trained that could dominate"
    outlook.latency = None
    assert not any(told(outlook, front, graphs)), "latency is not foreseen"
    assert any(told(outlook, front, graphs, truth_but_accuracy)), "but it may have been measured"


def test_a_metric_that_only_a_measurement_tells_is_waited_for():
    outlook, front = taught("accuracy,macs,memory")
    for member in front:
        member.metrics = {**member.metrics, "memory": 5.0}
    graphs = networks(100, seed=1)
    assert not any(told(outlook, front, graphs))
    assert any(told(outlook, front, graphs, lambda graph: {**exact(graph), "memory": 6.0}))
    assert not any(told(outlook, front, graphs, lambda graph: {**exact(graph), "memory": 4.0}))


def test_one_in_many_is_tried_to_its_end():
    outlook, front = taught("accuracy,latency")
    graph = max(networks(100, seed=1), key=lambda graph: graph.macs / graph.num_params)
    asked = [outlook.dominated(str(index), graph, exact(graph), front) for index in range(2 * AUDIT)]
    assert [index + 1 for index, why in enumerate(asked) if not why] == [AUDIT, 2 * AUDIT]
    assert not outlook.dominated(str(AUDIT - 1), graph, truth_but_accuracy(graph), front), "nor after its measurement"


def test_an_earlier_drivers_trials_are_learnt_from():
    graphs = networks(60, seed=0)
    records = [Record(number=n, decisions={"n": n}, state="completed", metrics=truth(graph)) for n, graph in enumerate(graphs)]
    records += [Record(number=60, decisions={"n": 0}, state="duplicate", duplicate_of=0, metrics=truth(graphs[0])),
                Record(number=61, decisions={"n": 1}, state="stopped", metrics={"latency": 1.0}),
                Record(number=62, decisions={"n": 1}, state="failed")]  # fmt: skip
    outlook = Outlook(parse_objectives("accuracy,latency"), (), Foresight())
    outlook.recall(records, lambda record: graphs[record.decisions["n"]])
    assert outlook.latency.measurements == 61
    front = [r for r in records[:60] if not any(dominates(o.metrics, r.metrics, outlook.objectives) for o in records[:60])]
    assert any(told(outlook, front, networks(100, seed=1)))


def test_limits_on_latency_are_foreseen_too():
    graphs = networks(100, seed=1)
    limit = float(np.median([truth(graph)["latency"] for graph in graphs]))
    outlook, _ = taught("accuracy,macs", limits=[f"latency<={limit}ms"])
    over = [graph for graph in graphs if outlook.over(graph)]
    assert len(over) > 20
    assert all(truth(graph)["latency"] > limit for graph in over)
    assert not any(taught("accuracy,macs")[0].over(graph) for graph in graphs)


def test_a_perfect_accuracy_is_not_ruled_out_where_some_are_perfect():
    outlook = Outlook(parse_objectives("accuracy,macs"), (), None)
    graphs = networks(60, seed=0)
    for graph in graphs:
        outlook.trained(graph, {"accuracy": 1.0})
    front = [SimpleNamespace(number=0, metrics={"accuracy": 1.0, "macs": 1.0})]
    assert not any(outlook.dominated("a", graph, {"macs": 1.0}, front) for graph in networks(50, seed=1))
    assert outlook.dominated("b", graphs[0], {"macs": 2.0}, front), "equal at best, and larger"
