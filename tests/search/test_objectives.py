import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import MeasureError, UsageError
from nas.search.objectives import (
    METRICS,
    Constraint,
    Objective,
    dominates,
    front,
    further,
    metric,
    parse_constraint,
    parse_objectives,
)

ACCURACY_LATENCY = parse_objectives("accuracy,latency")


def test_objectives_keep_their_order_and_know_their_direction():
    assert [(str(o), o.direction) for o in parse_objectives(" latency , accuracy")] == [
        ("latency", "minimize"), ("accuracy", "maximize"),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), [
    ("", "no objective"), ("acuracy", "Did you mean 'accuracy'?"),
    ("accuracy,accuracy", "twice"), ("flops", "one of accuracy"),
])  # fmt: skip
def test_objectives_that_cannot_be_are_told(text, said):
    with pytest.raises(UsageError) as error:
        parse_objectives(text)
    assert said in str(error.value)


@pytest.mark.parametrize(("text", "limit"), [
    ("latency<=3ms", 3.0), ("latency <= 500us", 0.5), ("latency<=0.003s", 3.0), ("latency<=2", 2.0),
    ("latency<=500µs", 0.5),
    ("num_params<=1M", 1e6), ("num_params<=1.5k", 1500.0), ("macs<=300M", 3e8), ("macs<=1G", 1e9),
    ("memory<=10KB", 1e4), ("memory<=2MiB", 2.0**21), ("memory<=5mb", 5e6),
    ("accuracy>=0.9", 0.9), ("accuracy>=92.1%", 0.921),
])  # fmt: skip
def test_limits_are_read_in_the_metrics_unit(text, limit):
    constraint = parse_constraint(text)
    assert constraint.limit == limit
    assert parse_constraint(str(constraint)) == constraint


@pytest.mark.parametrize(("text", "said"), [
    ("latency", "such as latency<=3ms"), ("latency<3ms", "Write latency<="), ("latency==3ms", "not =="),
    ("latncy<=3ms", "latency"),
    ("latency<=3kg", "units: ms, us, s"), ("latency<=fast", "3ms"), ("latency<=-3ms", "3ms"), ("latency<=1e400", "3ms"),
    ("accuracy>=90", "90%"), ("macs<=3ms", "300M"),
])  # fmt: skip
def test_limits_that_cannot_be_are_told(text, said):
    with pytest.raises(UsageError) as error:
        parse_constraint(text)
    assert said in str(error.value)


@given(st.sampled_from(sorted(METRICS)), st.sampled_from(["<=", ">="]), st.floats(0, 1) | st.floats(0, 1e15))
def test_a_limit_written_out_reads_back_as_the_same(name, op, limit):
    constraint = Constraint(name, op, min(limit, 1.0) if name == "accuracy" else limit)
    assert parse_constraint(str(constraint)) == constraint


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_feasible_is_exactly_what_keeps_the_limit(limit, value):
    assert (Constraint("latency", "<=", limit).violation({"latency": value}) <= 0) == (value <= limit)
    assert (Constraint("latency", ">=", limit).violation({"latency": value}) <= 0) == (value >= limit)


def test_what_was_not_measured_cannot_be_judged_and_nan_is_infeasible():
    limit = parse_constraint("latency<=3ms")
    with pytest.raises(MeasureError, match="latency was not measured"):
        limit.violation({"accuracy": 0.9})
    assert limit.violation({"latency": math.nan}) == math.inf


def test_unknown_metric_names_the_nearest():
    with pytest.raises(UsageError, match="num_params"):
        metric("params")


GRID = st.integers(0, 5).map(float)


@given(st.lists(st.tuples(GRID, GRID, GRID), max_size=40), st.integers(1, 3))
def test_the_front_is_what_no_other_dominates(points, count):
    objectives = tuple(Objective(name) for name in ("accuracy", "latency", "num_params")[:count])
    records = [dict(zip(("accuracy", "latency", "num_params"), point, strict=True)) for point in points]
    expected = [i for i, a in enumerate(records) if not any(dominates(b, a, objectives) for b in records)]
    assert front(records, objectives) == expected


def test_the_front_leaves_out_what_has_no_number():
    records = [{"accuracy": 0.9, "latency": 2.0}, {"accuracy": math.nan, "latency": 1.0}, {"accuracy": 1.0},
               {"accuracy": 0.8, "latency": math.inf}, {"accuracy": 0.7, "latency": 1.0}]  # fmt: skip
    assert front(records, ACCURACY_LATENCY) == [0, 4]
    assert front([], ACCURACY_LATENCY) == []


def test_what_is_judged_by_beyond_the_usual():
    objectives = parse_objectives("accuracy*(memory/1MB)^-0.07,throughput,latency")
    assert further(objectives, [parse_constraint("latency_p95<=3ms"), parse_constraint("macs<=1M")]) == (
        objectives[0].name, "memory", "throughput", "latency_p95")
