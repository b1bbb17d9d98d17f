"""Latency predicted from few measurements, with an interval that says how far to trust it.

A Gaussian process (:mod:`nas.measure.gaussian`) over any numeric features; nothing here knows a search space. Its linear
part is what an additive cost model amounts to, its smooth part what that misses. How much of each, which features matter,
the noise, and whether latencies are taken as logarithms, square roots or as they are, is whatever makes the measurements
most likely. Measurements far off their neighbours are pulled in, so that a disturbed one bends nothing. Intervals are
calibrated on the measurements themselves: each is predicted from nine tenths of the others, and the quantile of those
errors, in predicted standard deviations, scales every interval (normalised conformal prediction, cross-validated: Vovk 2015).
Bounds on one side are scaled by the errors on that side alone: where few lie far above, that says nothing of those below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nas.errors import MeasureError
from nas.measure.gaussian import LEAST_VARIANCE, Choice, Floats, Process, backward, choose, forward

LEAST = 10
"""Fewer measurements than this teach nothing that could be stated with an interval."""

CHOOSE, CALIBRATE, FOLDS = 200, 400, 10
"""Measurements that the model is chosen on, and calibrated on in so many parts; all are learnt from."""


class Prediction(NamedTuple):
    """Milliseconds per network: the median, and bounds of a new measurement with the confidence asked for."""

    median_ms: Floats
    low_ms: Floats
    high_ms: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPredictor:
    """A fitted predictor; make one with :meth:`fit`. ``n`` measurements were learnt from.

    ``noise_share`` is the share of the measurements' variance (on the scale ``power``: 0 logarithm, 1 as it is) that no
    feature explains.
    """

    n: int
    power: float
    noise_share: float
    _unit: float
    _process: Process
    _scores: Floats

    @classmethod
    def fit(cls, features: ArrayLike, latency_ms: ArrayLike) -> LatencyPredictor:
        """Learn from measured networks: ``features`` (n, d), ``latency_ms`` (n,).

        Raises MeasureError for fewer than ``LEAST`` networks, for shapes that do not fit, and for values that are not
        finite or latencies that are not positive.
        """
        x, y = _checked(features), np.asarray(latency_ms, dtype=np.float64)
        if y.shape != (len(x),) or len(x) < LEAST:
            raise MeasureError("a predictor learns from networks with a latency each", expected=f"at least {LEAST} of both",
                               got=f"{len(x)} networks and latencies of shape {y.shape}")  # fmt: skip
        if not np.all(np.isfinite(y) & (y > 0)):
            raise MeasureError("latencies are positive numbers of milliseconds", got=float(y[~(np.isfinite(y) & (y > 0))][0]))
        unit = float(np.exp(np.log(y).mean()))
        few, relative = np.random.default_rng(0).permutation(len(x))[:CALIBRATE], y / unit
        choice = choose(x[few[:CHOOSE]], relative[few[:CHOOSE]])
        process = Process.of(x, relative, choice)
        spread = max(float(forward(relative, choice.power).var()), LEAST_VARIANCE)
        return cls(n=len(x), power=choice.power, noise_share=min(1.0, process.variance * process.kernel.noise / spread),
                   _unit=unit, _process=process, _scores=_scores(x[few], relative[few], choice))  # fmt: skip

    def predict(self, features: ArrayLike, confidence: float = 0.9) -> Prediction:
        """Medians and intervals for ``features`` (m, d).

        The highest confidence that n measurements can back is n / (n + 1), at most that of ``CALIBRATE``; beyond it the largest
        error seen is used. Raises MeasureError for another number of features than learnt, or a confidence outside (0, 1).
        """
        errors = np.abs(self._scores)
        return self._predict(features, confidence, below=errors, above=errors)

    def bounds(self, features: ArrayLike, confidence: float = 0.9) -> Prediction:
        """As :meth:`predict`, but that each bound is kept with that confidence for itself: both together with less."""
        return self._predict(features, confidence, below=-self._scores, above=self._scores)

    def _predict(self, features: ArrayLike, confidence: float, *, below: Floats, above: Floats) -> Prediction:
        x = _checked(features)
        if x.shape[1] != len(self._process.scale.mean):
            raise MeasureError("the predictor learnt from other features", got=x.shape[1],
                               expected=f"{len(self._process.scale.mean)} per network")  # fmt: skip
        if not 0 < confidence < 1:
            raise MeasureError("impossible confidence", expected="0 < confidence < 1", got=confidence)
        centre, deviation = self._process.at(x)
        rank = min(len(below), math.ceil((len(below) + 1) * confidence)) - 1
        low, high = (max(0.0, float(np.sort(errors)[rank])) for errors in (below, above))
        told = (centre, centre - low * deviation, centre + high * deviation)
        return Prediction(*(self._unit * backward(value, self.power) for value in told))


def _checked(features: ArrayLike) -> Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
        raise MeasureError("features are a table of finite numbers", expected="(networks, features)", got=f"shape {x.shape}")
    return x


def _scores(x: Floats, y: Floats, choice: Choice) -> Floats:
    """By how many predicted standard deviations every measurement is above what those of the other folds foretell."""
    scores = np.empty(len(y))
    for fold in range(min(FOLDS, len(y))):
        out = np.arange(len(y)) % FOLDS == fold
        centre, deviation = Process.of(x[~out], y[~out], choice).at(x[out])
        scores[out] = (forward(y[out], choice.power) - centre) / deviation
    return scores
