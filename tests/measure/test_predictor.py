"""On made-up machines whose true latency is known, and on measured tables where they are at hand."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from nas.errors import MeasureError
from nas.measure.predictor import LEAST, LatencyPredictor


def machine(n: int, seed: int, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Networks of twelve layers of four kinds: their counts, and latencies that add up and saturate."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(12, [0.4, 0.3, 0.2, 0.1], size=n).astype(float)
    latency = 1 + counts @ [0.1, 0.4, 0.9, 2.0] + 0.05 * counts[:, 3] ** 2
    return counts, latency * np.exp(noise * rng.standard_normal(n))


def error(predictor, features, latency):
    return float(np.mean(np.abs(predictor.predict(features).median_ms / latency - 1)))


def test_thirty_measurements_tell_an_almost_additive_machine():
    predictor = LatencyPredictor.fit(*machine(30, seed=0))
    assert error(predictor, *machine(500, seed=1)) < 0.01
    assert predictor.n == 30
    assert predictor.noise_share < 0.01


def test_what_matters_is_found_among_much_that_does_not():
    """Forty features without any meaning beside the four that tell everything."""
    def beside(table, seed):
        return np.column_stack([table, np.random.default_rng(seed).integers(0, 8, (len(table), 40))])

    (features, latency), (asked, truth) = machine(60, 0, noise=0.01), machine(300, 1)
    predictor = LatencyPredictor.fit(beside(features, 2), latency)
    assert error(predictor, beside(asked, 3), truth) < 0.015
    shares = 1 / predictor._process.scale.width**2
    assert shares[:4].sum() > shares[4:].sum()


def test_noise_is_told_from_what_features_explain():
    features, latency = machine(200, seed=0, noise=0.05)
    predictor = LatencyPredictor.fit(features, latency)
    share = (0.05 / np.log(latency).std()) ** 2
    assert predictor.noise_share == pytest.approx(share, rel=0.5)
    assert error(predictor, *machine(500, seed=1)) < 0.025


@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_intervals_cover_what_they_promise(confidence, noise):
    inside = []
    for seed in range(6):
        predictor = LatencyPredictor.fit(*machine(60, seed, noise))
        features, latency = machine(300, 1000 + seed, noise)
        _, low, high = predictor.predict(features, confidence)
        inside.append(np.mean((low <= latency) & (latency <= high)))
    assert np.mean(inside) == pytest.approx(confidence, abs=0.06)


def test_intervals_widen_away_from_what_was_measured():
    predictor = LatencyPredictor.fit(*machine(60, 0, noise=0.02))
    near, far = predictor.predict([[5, 4, 2, 1], [0, 0, 0, 40]])[1:]
    assert far[1] - far[0] > 0
    low, high = predictor.predict([[5, 4, 2, 1], [0, 0, 0, 40]])[1:]
    assert (high - low)[1] > 2 * (high - low)[0]
    assert near.shape == (2,)


def test_a_disturbed_measurement_bends_nothing():
    features, latency = machine(60, 0, noise=0.01)
    clean = LatencyPredictor.fit(features, latency)
    latency[::12] *= 3
    asked = machine(300, 1)
    assert error(LatencyPredictor.fit(features, latency), *asked) < max(0.03, 3 * error(clean, *asked))


@settings(max_examples=10, deadline=None)
@given(unit=st.floats(1e-4, 1e4), stretch=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_units_do_not_matter(unit, stretch, shift):
    features, latency = machine(25, 0, noise=0.02)
    first = LatencyPredictor.fit(features, latency).predict(features)
    second = LatencyPredictor.fit(features * stretch + shift, latency * unit).predict(features * stretch + shift)
    for a, b in zip(first, second, strict=True):
        assert_allclose(a * unit, b, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(LEAST, 40), d=st.integers(1, 60), spread=st.floats(0, 3))
def test_any_table_gives_ordered_positive_figures(seed, n, d, spread):
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 3, size=(n, d)).astype(float)
    latency = np.exp(spread * rng.standard_normal(n))
    median, low, high = LatencyPredictor.fit(features, latency).predict(rng.normal(size=(5, d)))
    assert np.all((low > 0) & (low <= median) & (median <= high) & np.isfinite(high))


def test_equal_features_and_equal_latencies_are_no_trouble():
    median, low, high = LatencyPredictor.fit(np.ones((LEAST, 2)), np.full(LEAST, 5.0)).predict([[1, 1], [2, 1]])
    for value in (median, low, high):
        assert_allclose(value, 5, rtol=1e-6)


def test_more_confidence_is_a_wider_interval():
    predictor = LatencyPredictor.fit(*machine(40, 0, noise=0.05))
    widths = [float(np.ptp(predictor.predict([[6, 3, 2, 1]], c)[1:], axis=0)[0]) for c in (0.5, 0.8, 0.95)]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]


@pytest.mark.parametrize(("features", "latency", "message"), [
    (np.zeros((LEAST - 1, 2)), np.ones(LEAST - 1), f"at least {LEAST}"),
    (np.zeros((LEAST, 2)), np.ones(LEAST + 1), "a latency each"),
    (np.zeros((LEAST, 2)), np.zeros(LEAST), "positive"),
    (np.zeros((LEAST, 2)), np.full(LEAST, np.inf), "positive"),
    (np.full((LEAST, 2), np.nan), np.ones(LEAST), "finite"),
    (np.zeros(LEAST), np.ones(LEAST), "table"),
])  # fmt: skip
def test_what_cannot_be_learnt_from_is_told(features, latency, message):
    with pytest.raises(MeasureError, match=message):
        LatencyPredictor.fit(features, latency)


@pytest.mark.parametrize(("features", "confidence", "message"), [
    (np.zeros((1, 3)), 0.9, "4 per network"), (np.zeros((1, 4)), 1.0, "confidence"), (np.zeros(4), 0.9, "table"),
])  # fmt: skip
def test_what_cannot_be_predicted_is_told(features, confidence, message):
    with pytest.raises(MeasureError, match=message):
        LatencyPredictor.fit(*machine(20, 0)).predict(features, confidence)


@pytest.mark.skipif("NAS_DATA" not in os.environ, reason="NAS_DATA is not set: no measured tables here")
@pytest.mark.parametrize(("setting", "spearman", "mape"), [("v100_64", 0.99, 1.5), ("titan_xp_32", 0.98, 4.5)])
def test_a_hundred_measurements_of_a_real_table(setting, spearman, mape, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "predictor", raising=False)
    import predictor as benchmark

    _, _, features, latency = next(row for row in benchmark.settings(Path(os.environ["NAS_DATA"])) if row[1] == setting)
    figures = benchmark.judge(features, latency, 100, repeats=2)
    assert figures["spearman"] >= spearman
    assert figures["mape_percent"] <= mape
    assert 80 <= figures["coverage_percent"] <= 97
