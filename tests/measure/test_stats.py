import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.measure.stats import effective_size, median_interval, median_rank, settled

times = st.floats(1e-6, 1e3)


@pytest.mark.parametrize(("n", "rank"), [(1, 0), (5, 0), (6, 1), (10, 2), (20, 6), (50, 18), (100, 40)])
def test_ranks_are_those_of_the_sign_test_tables(n, rank):
    assert median_rank(n, 0.95) == rank


@pytest.mark.parametrize("draw", ["uniform", "standard_cauchy", "exponential"])
@pytest.mark.parametrize("n", [9, 40, 101])
def test_interval_covers_the_median_whatever_the_distribution(draw, n):
    median = {"uniform": 0.5, "standard_cauchy": 0.0, "exponential": np.log(2)}[draw]
    samples = getattr(np.random.default_rng(0), draw)(size=(2000, n))
    intervals = [median_interval(row) for row in samples]
    covered = np.mean([low <= median <= high for low, high in intervals])
    assert 0.94 <= covered <= 0.995


@given(st.lists(times, min_size=6, max_size=80))
def test_interval_holds_the_sample_median_and_widens_with_confidence(values):
    low, high = median_interval(values, 0.9)
    wider_low, wider_high = median_interval(values, 0.99)
    assert wider_low <= low <= np.median(values) <= high <= wider_high


def test_too_few_values_tell_nothing():
    assert median_interval([1.0, 2.0, 3.0]) == (-np.inf, np.inf)


@pytest.mark.parametrize(("values", "ended"), [
    ([1.0] * 9, False),  # less than two windows
    ([1.0] * 10, True),
    (list(np.geomspace(2, 1, 10)), False),  # still falling
    (list(np.geomspace(1, 2, 10)), True),  # slower is not warming up
    ([9.0, 5.0, 2.0] + [1.0] * 10, True),
    ([1.0, 1.0, 1.0, 1.0, 50.0, 1.0, 1.0, 1.0, 1.0, 1.0], True),  # one outlier does not matter
])  # fmt: skip
def test_settled(values, ended):
    assert settled(values, window=5, tolerance=0.02) is ended


def phases(rng, n, length):
    """Values that are high and low by turns, for random times of that mean length."""
    change = rng.random(n) < 1 / length
    return np.where(np.cumsum(change) % 2, 1.2, 1.0) * rng.normal(1, 0.1, n)


def test_values_that_follow_each_other_by_chance_count_each():
    sizes = [effective_size(np.random.default_rng(seed).normal(size=200)) for seed in range(50)]
    assert 140 < np.median(sizes) <= 200


def test_values_in_phases_count_for_less_the_longer_these_last():
    short, long = (np.median([effective_size(phases(np.random.default_rng(seed), 400, length)) for seed in range(30)])
                   for length in (4, 40))  # fmt: skip
    assert 20 < 2 * long < short < 300


def test_an_interval_over_phases_covers_the_median():
    rng = np.random.default_rng(0)
    median = np.median(phases(rng, 200_000, 10))
    intervals = [median_interval(phases(rng, 300, 10)) for _ in range(400)]
    assert np.mean([low <= median <= high for low, high in intervals]) > 0.88


def test_equal_values_count_each():
    assert effective_size(np.ones(30)) == 30
    assert median_interval(np.ones(30)) == (1, 1)
