"""Kendall's tau of proxies and final trainings, and what few networks can say."""

import itertools
import math

import pytest

from nas.search.agreement import agreement


def pairs(order):
    return list(enumerate(order))


@pytest.mark.parametrize(("order", "tau", "chance"), [((1, 2, 3), 1, 1 / 6), ((3, 2, 1), -1, 1), ((1, 2, 3, 4), 1, 1 / 24),
                                                      ((1, 2, 4, 3), 2 / 3, 4 / 24)])  # fmt: skip
def test_few_networks_are_told_with_what_chance_would_do(order, tau, chance):
    found = agreement(pairs(order))
    assert (found.tau, found.chance, found.interval) == (pytest.approx(tau), pytest.approx(chance), None)
    assert f"n={len(order)}; n is small" in str(found)


def test_chance_is_the_share_of_all_orders():
    taus = [agreement(pairs(order)).tau for order in itertools.permutations(range(5))]
    found = agreement(pairs((0, 2, 1, 3, 4)))
    assert found.chance == pytest.approx(sum(tau >= found.tau - 1e-9 for tau in taus) / len(taus))


def test_many_networks_have_an_interval():
    order = [1, 0, *range(2, 12)]
    found = agreement(pairs(order))
    low, high = found.interval
    assert low < found.tau < high < 1
    assert math.atanh(high) - math.atanh(low) == pytest.approx(2 * 1.96 * math.sqrt(0.437 / 8))
    assert f"(n=12; 95 % from {low:.2f} to {high:.2f})" in str(found)
    assert agreement(pairs(range(12))).interval[0] > 0.9


@pytest.mark.parametrize("order", [(1, 2), (), (1, 1, 1)])
def test_there_may_be_none(order):
    assert agreement(pairs(order)) is None
    assert agreement([(b, a) for a, b in pairs(order)]) is None
