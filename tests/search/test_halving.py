"""Successive halving by non-dominated rank: who goes on, who waits, who is given up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.halving import Halving, contributions, rungs_of
from nas.search.objectives import dominates, parse_objectives

ACCURACY, BOTH = parse_objectives("accuracy"), parse_objectives("accuracy,latency")


@pytest.mark.parametrize(("epochs", "rungs"), [(1, (1,)), (2, (2,)), (3, (1, 3)), (4, (1, 4)), (5, (2, 5)), (9, (1, 3, 9)),
                                               (10, (1, 3, 10)), (20, (2, 7, 20)), (27, (1, 3, 9, 27))])
def test_rungs(epochs, rungs):
    assert rungs_of(epochs) == rungs


def at_the_first_rung(objectives, results, epochs=10, **options):
    halving = Halving(objectives, epochs, **options)
    for trial, metrics in enumerate(results):
        halving.saw(trial, halving.first(), metrics, waits=True)
    return halving


def test_the_best_third_goes_on_best_first():
    halving = at_the_first_rung(ACCURACY, [{"accuracy": a} for a in (0.1, 0.5, 0.9, 0.3, 0.7, 0.2)])
    assert [halving.promote(), halving.promote(), halving.promote()] == [2, 4, None]
    halving.saw(6, 1, {"accuracy": 0.6}, waits=True)
    assert halving.promote() is None  # seven results promote two
    halving.saw(7, 1, {"accuracy": 0.95}, waits=True)
    assert halving.promote() == 7  # a new best goes on, although two have gone
    halving.saw(8, 1, {"accuracy": 0.0}, waits=True)
    assert halving.promote() is None  # the third, 0.7, has gone


def test_higher_rungs_come_first():
    halving = at_the_first_rung(ACCURACY, [{"accuracy": a / 10} for a in range(9)])
    for _ in range(3):
        trial = halving.promote()
        halving.saw(trial, halving.after(1), {"accuracy": 0.5 + trial / 100}, waits=True)
    assert halving.after(1) == 3
    assert halving.promote() == 8
    assert halving.after(3) == 10


def test_a_fast_learner_does_not_shut_out_a_fast_network():
    """The second objective is known exactly: a network that is the fastest is on the front whatever it has learnt."""
    slow = [{"accuracy": 0.8 + i / 100, "latency": 10.0 + i} for i in range(4)]
    dominated = {"accuracy": 0.3, "latency": 5.0}
    fast = {"accuracy": 0.4, "latency": 1.0}
    halving = at_the_first_rung(BOTH, [*slow, dominated, fast])
    promoted = {halving.promote(), halving.promote()}
    assert 5 in promoted
    assert 4 not in promoted


def test_only_so_many_wait():
    halving = at_the_first_rung(ACCURACY, [{"accuracy": a / 100} for a in range(10)], waiting=4)
    lost = halving.given_up()
    assert sorted(lost) == [0, 1, 2, 3, 4, 5]
    assert halving.given_up() == []
    assert halving.promote() == 9
    halving.leave(8)
    assert halving.promote() == 7


METRICS = st.fixed_dictionaries({"accuracy": st.integers(0, 5).map(float), "latency": st.integers(0, 5).map(float)})


@given(st.lists(METRICS, min_size=3, max_size=20))
def test_nobody_goes_on_before_one_that_dominates_it(results):
    halving = at_the_first_rung(BOTH, results)
    promoted = []
    while (trial := halving.promote()) is not None:
        promoted.append(trial)
    assert len(promoted) == len(results) // 3
    for trial in promoted:
        better = [i for i, other in enumerate(results) if dominates(other, results[trial], BOTH)]
        assert set(better) <= set(promoted)


def test_contributions_are_areas():
    table = np.array([[0.0, 3.0], [1.0, 1.0], [3.0, 0.0], [5.0, 5.0]])
    gain = contributions(table, np.array([0, 0, 0, 1]))
    assert gain.tolist() == [np.inf, (3 - 1) * (3 - 1), np.inf, np.inf]


def test_who_has_waited_too_long_is_given_up_and_the_latest_are_compared(monkeypatch):
    monkeypatch.setattr("nas.search.halving.COMPARED", 6)
    halving = at_the_first_rung(ACCURACY, [{"accuracy": 0.99}, *({"accuracy": a / 10} for a in range(8))])
    assert halving.given_up() == [0, 1, 2]
    assert [halving.promote(), halving.promote(), halving.promote()] == [8, 7, None]
