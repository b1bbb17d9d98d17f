"""The decision that makes the difference comes out first, and chance is told from importance."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from nas.report.run.importance import LEAST, importance
from nas.search.objectives import Objective
from nas.search.study import Record
from tests.search.fakes import MANY, space_of

ACCURACY = Objective("accuracy")
RANGES = MANY.replace("{choice: [4, 6, 8, 10, 12]}", "{range: [4, 64]}").replace("{choice: [1, 3, 5, 7]}", "3", 1)
CONDITIONAL = """
name: conditional
source: a test
input: [1, 8, 8]
num_classes: 10
network:
  - {name: a, choice: {plain: {op: conv_bn_act, out_channels: 4},
      wide: {op: mbconv, out_channels: 4, expansion: {choice: [1, 2]}}}}
  - global_avg_pool
  - classifier
"""


def records(page: str, count: int, quality: Callable[[Any, random.Random], float]) -> list[Record]:
    space, chance = space_of(page), random.Random(1)
    found = []
    for number in range(count):
        decisions = space.sample(chance).decisions
        metrics = {"accuracy": quality(decisions, chance)}
        found.append(Record(number=number, decisions=decisions, state="completed", metrics=metrics))
    return found


def test_a_decision_that_matters_is_first_and_beyond_chance() -> None:
    past = records(MANY, 120, lambda d, r: (d["network.a.kernel_size"] == 5) + 0.1 * r.random())
    first, *rest = importance(space_of(MANY), past, ACCURACY)
    assert (first["decision"], first["trials"]) == ("network.a.kernel_size", 120)
    assert first["importance"] == pytest.approx(1, abs=0.05)
    assert first["importance"] > 10 * first["chance"]
    assert all(row["importance"] < 0.2 for row in rest)


def test_a_range_matters_by_its_parts() -> None:
    past = records(RANGES, 120, lambda d, r: d["network.a.out_channels"] + 3 * r.random())
    first = importance(space_of(RANGES), past, ACCURACY)[0]
    assert first["decision"] == "network.a.out_channels"
    assert first["importance"] > 0.8


def test_a_decision_is_judged_where_it_had_to_be_made() -> None:
    past = records(CONDITIONAL, 80, lambda d, r: float(len(d)) + 0.5 * r.random())
    rows = {row["decision"]: row for row in importance(space_of(CONDITIONAL), past, ACCURACY)}
    inner = next(row for key, row in rows.items() if "expansion" in key)
    assert inner["trials"] < 80
    assert inner["importance"] < 0.3 < 0.9 < rows["network.a"]["importance"]


def test_noise_is_mostly_not_taken_for_importance() -> None:
    rows = importance(space_of(MANY), records(MANY, 120, lambda d, r: r.random()), ACCURACY)
    assert sum(row["importance"] > row["chance"] for row in rows) <= 1
    assert all(row["importance"] < 0.15 for row in rows)


@pytest.mark.parametrize("count", [0, LEAST - 1])
def test_few_trials_say_nothing(count: int) -> None:
    assert importance(space_of(MANY), records(MANY, count, lambda d, r: r.random()), ACCURACY) == []


def test_equal_results_say_nothing() -> None:
    assert importance(space_of(MANY), records(MANY, 30, lambda d, r: 0.5), ACCURACY) == []
