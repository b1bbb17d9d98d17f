import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.measure.stats import median_interval, median_rank, quieter_half, settled

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


@given(st.lists(st.tuples(times, times), min_size=1, max_size=40), st.sampled_from([0.25, 2.0, 1024.0]))
def test_quieter_half_is_fair_to_both_sides_and_to_units(pairs, unit):
    first, second = np.array(pairs).T
    kept = quieter_half(first, second)
    assert len(kept) == (len(pairs) + 1) // 2
    assert list(kept) == sorted(set(kept))
    assert list(kept) == list(quieter_half(second, first))
    assert list(kept) == list(quieter_half(first * unit, second))


def test_quieter_half_leaves_out_what_was_slow_on_either_side():
    first, second = np.ones(8), np.full(8, 5.0)
    first[[0, 3]], second[[4, 6]] = 2.0, 9.0
    assert list(quieter_half(first, second)) == [1, 2, 5, 7]
