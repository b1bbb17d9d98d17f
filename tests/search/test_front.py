"""The front under noise: which members may dominate which, and which is told as the best."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nas.search.front import Checks, as_good, best_of, errors_of, front_row, ties
from nas.search.objectives import parse_constraint, parse_objectives
from nas.search.study import Record

BOTH = parse_objectives("accuracy,latency")


def record(number, accuracy, latency, *, images=1000, half=0.02):
    attrs = {"val_images": images, "latency_low_ms": latency - half, "latency_high_ms": latency + half}
    return Record(number=number, decisions={}, state="completed", metrics={"accuracy": accuracy, "latency": latency}, attrs=attrs)


def test_errors_are_those_of_counting_and_of_the_medians_interval():
    errors = errors_of(record(0, 0.9, 2.0, half=0.0392))
    assert errors["accuracy"] == pytest.approx((0.9 * 0.1 / 1000) ** 0.5)
    assert errors["latency"] == pytest.approx(0.02)
    spread = errors_of(record(0, 0.9, 2.0), Checks(repeats={0: [0.8, 0.85]}))
    assert spread["accuracy"] == pytest.approx(0.05)
    assert errors_of(Record(number=0, decisions={}, metrics={"accuracy": 1.0})) == {}
    assert errors_of(record(0, 1.0, 2.0))["accuracy"] > 0  # no image was wrong by luck


def test_ties_are_those_that_may_dominate():
    clear = [record(0, 0.95, 3.0), record(1, 0.90, 2.0)]
    assert ties(clear, BOTH) == {0: [], 1: []}
    faster_and_as_good = [record(0, 0.951, 3.0), record(1, 0.95, 2.0)]
    assert ties(faster_and_as_good, BOTH) == {0: [1], 1: []}
    twins = [record(0, 0.95, 2.0), record(1, 0.951, 2.01)]
    assert ties(twins, BOTH) == {0: [1], 1: [0]}
    assert ties([record(0, 0.951, 3.0, images=10**6), record(1, 0.95, 2.0, images=10**6)], BOTH) == {0: [], 1: []}


def test_throughput_is_as_sure_as_the_latency_it_is_made_of():
    slow, fast = (replace(r, metrics={**r.metrics, "throughput": 1000 / r.metrics["latency"]})
                  for r in (record(0, 0.95, 2.0, half=0.0392), record(1, 0.951, 1.99, half=0.0392)))  # fmt: skip
    assert errors_of(slow)["throughput"] == pytest.approx(500 * 0.02 / 2)
    assert ties([slow, fast], parse_objectives("accuracy,throughput")) == {0: [1], 1: [0]}
    assert ties([slow, fast], parse_objectives("accuracy*(throughput/500)")) == {0: [1], 1: [0]}


def test_a_trial_off_the_front_may_be_as_good_as_its_members():
    members = [record(0, 0.95, 3.0), record(1, 0.90, 2.0)]
    others = [record(2, 0.949, 3.01), record(3, 0.80, 2.0), Record(number=4, decisions={}, metrics={"accuracy": 0.99})]
    assert as_good(others, members, BOTH).tolist() == [[True, False], [False, False], [False, False]]
    assert as_good([], members, BOTH).shape == (0, 2)


def test_the_best_keeps_its_limits_when_measured_again():
    records, limits = [record(0, 0.95, 2.9), record(1, 0.90, 2.0)], [parse_constraint("latency<=3ms")]
    assert best_of(records, (), Checks(), limits) is records[0]
    again = Checks(again={0: {"median_ms": 3.1, "low_ms": 3.0, "high_ms": 3.2, "metrics": {"latency": 3.1}}})
    assert best_of(records, (), again, limits) is records[1]
    slow_at_times = Checks(again={0: {**again.again[0], "metrics": {"latency": 2.9, "latency_p95": 6.0}}})
    assert best_of(records, (), slow_at_times, limits) is records[0]
    assert best_of(records[:1], (), slow_at_times, [parse_constraint("latency_p95<=5ms")]) is None


def test_a_row_tells_what_was_looked_at_again():
    checks = Checks(repeats={0: [0.9, 0.94]}, again={0: {"median_ms": 2.1, "low_ms": 2.0, "high_ms": 2.2}})
    assert Checks.from_metadata(checks.to_metadata()) == checks
    row = front_row(record(0, 0.95, 2.0), 0.91, checks, [4])
    assert row["accuracy_mean"] == pytest.approx(0.93)
    assert row["accuracy_sd"] == pytest.approx(0.0264575, abs=1e-6)
    assert (row["repeats"], row["latency_again_ms"], row["ties"]) == (2, 2.1, [4])
    assert front_row(record(1, 0.9, 2.0), None)["accuracy_mean"] is None
