"""What the early stopping experiment computes from searches: fronts at moments, and the area of a front."""

import math

import pytest

from benchmarks.early_stopping import FLOOR, LARGEST, POINTS, Found, fronts, hypervolume


def test_hypervolume_is_the_area_of_the_union():
    one = (FLOOR + 0.2, LARGEST / math.e)
    assert hypervolume([one]) == pytest.approx(0.2)
    assert hypervolume([one, (FLOOR + 0.1, LARGEST / math.e**2)]) == pytest.approx(0.2 + 0.1)
    assert hypervolume([one, (FLOOR + 0.1, LARGEST / 2)]) == pytest.approx(0.2)
    assert hypervolume([(FLOOR - 0.1, 10.0), (0.99, LARGEST)]) == 0.0
    assert hypervolume([]) == 0.0


def test_a_front_at_a_moment_knows_what_was_completed_by_then():
    early = Found(1.0, "a", {}, {"accuracy": 0.7, "num_params": 10.0})
    better = Found(50.0, "b", {}, {"accuracy": 0.8, "num_params": 10.0})
    after_the_end = Found(101.0, "c", {}, {"accuracy": 0.6, "num_params": 5.0})
    seen = fronts([early, better, after_the_end], "accuracy,num_params", 100.0)
    assert len(seen) == POINTS
    assert [member.identity for member in seen[0][1]] == ["a"]
    assert [member.identity for member in seen[POINTS // 2][1]] == ["b"]
    assert [member.identity for member in seen[-1][1]] == ["b", "c"]
