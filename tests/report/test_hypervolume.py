"""Hypervolumes are Optuna's, grow only, and compare the search with the baseline at equal cost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from nas.report.run.hypervolume import Scale, growth, hypervolume
from nas.search.archive import open_archive
from nas.search.objectives import parse_objectives
from nas.search.study import Record

GRID = st.integers(0, 6).map(float)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 4).flatmap(lambda d: arrays(float, st.tuples(st.integers(0, 8), st.just(d)), elements=GRID)))
def test_the_volume_is_optunas(losses: np.ndarray) -> None:
    reference = np.full(losses.shape[1], 5.0)
    inside = losses[(losses <= reference).all(axis=1)]
    expected = compute_hypervolume(inside, reference) if len(inside) else 0.0
    assert hypervolume(losses, reference) == pytest.approx(expected)


def record(number: int, accuracy: float, latency: float) -> Record:
    return Record(number=number, decisions={}, state="completed", metrics={"accuracy": accuracy, "latency": latency})


def test_a_share_is_of_the_box_from_the_best_to_the_worst() -> None:
    records = [record(0, 0.8, 4.0), record(1, 0.4, 2.0), record(2, 0.2, 6.0)]
    scale = Scale(records, parse_objectives("accuracy,latency"))
    assert scale.reference() == {"accuracy": 0.0, "latency": 6.0}
    assert scale.fraction(records[:1]) == pytest.approx(0.5)
    assert scale.fraction(records[:2]) == pytest.approx(0.75)
    assert scale.fraction(records[2:]) == pytest.approx(0.0, abs=1e-6)
    assert scale.fraction([]) == 0.0


def test_an_objective_in_which_all_are_equal_is_left_out() -> None:
    records = [record(0, 0.8, 3.0), record(1, 0.4, 3.0)]
    scale = Scale(records, parse_objectives("accuracy,latency"))
    assert scale.fraction(records) == pytest.approx(1.0)
    assert scale.fraction(records[1:]) == pytest.approx(0.5)


def test_growth_pays_for_failures_and_never_falls(scripted: str) -> None:
    with open_archive(scripted) as archive:
        records = archive.study.records
        scale = Scale(archive.within(()), archive.objectives)
        curves = {name: growth(archive, scale, name) for name in ("search", "baseline", "final")}
    assert curves["final"] == {"spent_s": [], "share": [], "end_s": 0.0}
    for curve in curves.values():
        assert curve["share"] == sorted(set(curve["share"]))
        assert curve["spent_s"] == sorted(curve["spent_s"])
    assert sum(c["end_s"] for c in curves.values()) == pytest.approx(sum(r.attrs.get("seconds", 0.0) for r in records))
