"""Latency predicted from few measurements, with an interval that says how far to trust it.

A Gaussian process over any numeric features (nothing here knows a search space): a linear part, which is what an
additive cost model amounts to, and a smooth part for what it misses (Rasmussen and Williams 2006, Gaussian Processes for
Machine Learning, chapters 2 and 5). How much of each, the length scale, the noise, and whether latencies are taken as
logarithms, square roots or as they are (Box and Cox 1964), maximise the marginal likelihood. Measurements far off
their neighbours are pulled in, so that a disturbed one bends nothing. Intervals are calibrated on the measurements
themselves: each is predicted from all others (in closed form), and the quantile of those errors, in predicted standard
deviations, scales every interval (normalised conformal prediction, leave-one-out).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.errors import MeasureError

Floats = NDArray[np.float64]

LEAST = 10
"""Fewer measurements than this teach nothing that could be stated with an interval."""

POWERS = (0.0, 0.5, 1.0)
SMOOTH_SHARES, LENGTHS = (0.03, 0.1, 0.3, 1.0), (0.5, 1.0, 2.0, 4.0)
NOISES = np.logspace(-4, 1, 21)

ENOUGH = 400
"""Measurements that the kernel is chosen on; all are learnt from."""

_LEAST_VARIANCE = 1e-18

_ROUNDS, _OUTLYING = 2, 2.5
"""How often far-off measurements are pulled in, and to how many robust standard deviations of the leave-one-out error."""


class Prediction(NamedTuple):
    """Milliseconds per network: the median, and bounds that hold a new measurement with the confidence asked for."""

    median_ms: Floats
    low_ms: Floats
    high_ms: Floats


class _Kernel(NamedTuple):
    """``(1 - smooth) a.b + smooth exp(-|a - b|^2 / 2 length^2)``; ``noise`` is in the same unit."""

    smooth: float
    length: float
    noise: float = 0.0

    def between(self, a: Floats, b: Floats) -> Floats:
        products = a @ b.T
        distances = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * products, 0)
        out: Floats = (1 - self.smooth) * products + self.smooth * np.exp(-distances / (2 * self.length**2))
        return out

    def with_itself(self, a: Floats) -> Floats:
        out: Floats = (1 - self.smooth) * (a * a).sum(1) + self.smooth
        return out


class _Scale(NamedTuple):
    """Features to zero mean and unit variance each, over the square root of their number; constant ones to 0."""

    mean: Floats
    width: Floats

    @classmethod
    def of(cls, features: Floats) -> _Scale:
        deviation = features.std(0)
        varies = deviation > 1e-9 * np.maximum(1, np.abs(features).max(0))
        return cls(features.mean(0), np.where(varies, deviation, np.inf) * math.sqrt(max(1, int(varies.sum()))))

    def __call__(self, features: Floats) -> Floats:
        out: Floats = (features - self.mean) / self.width
        return out


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
    _scale: _Scale
    _kernel: _Kernel
    _points: Floats
    _mean: float
    _weights: Floats
    _inverse: Floats
    _variance: float
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
        scale, unit = _Scale.of(x), float(np.exp(np.log(y).mean()))
        points, relative = scale(x), y / unit
        likelihood, believed = _Likelihood.of(points), relative
        for _ in range(_ROUNDS):
            power, kernel = likelihood.best(believed)
            believed = _pulled_in(points, relative, believed, power, kernel)
        power, kernel = likelihood.best(believed)
        values, inverse = _forward(believed, power), _inverse(points, kernel)
        mean = float(values.mean())
        weights, precision = inverse @ (values - mean), np.diag(inverse)
        variance = max(float((values - mean) @ weights) / len(x), _LEAST_VARIANCE)
        error = _forward(relative, power) - (values - weights / precision)
        return cls(
            n=len(x), power=power, noise_share=min(1.0, variance * kernel.noise / max(float(values.var()), _LEAST_VARIANCE)),
            _unit=unit, _scale=scale, _kernel=kernel, _points=points, _mean=mean, _weights=weights, _inverse=inverse,
            _variance=variance, _scores=np.sort(np.abs(error) / np.sqrt(variance / precision)),
        )  # fmt: skip

    def predict(self, features: ArrayLike, confidence: float = 0.9) -> Prediction:
        """Medians and intervals for ``features`` (m, d).

        The highest confidence that n measurements can back is n / (n + 1); beyond it the largest error seen is used.
        Raises MeasureError for another number of features than learnt, or a confidence outside (0, 1).
        """
        x = _checked(features)
        if x.shape[1] != len(self._scale.mean):
            raise MeasureError("the predictor learnt from other features", got=x.shape[1],
                               expected=f"{len(self._scale.mean)} per network")  # fmt: skip
        if not 0 < confidence < 1:
            raise MeasureError("impossible confidence", expected="0 < confidence < 1", got=confidence)
        points = self._scale(x)
        towards = self._kernel.between(points, self._points)
        known = ((towards @ self._inverse) * towards).sum(1)
        deviation = np.sqrt((np.maximum(self._kernel.with_itself(points) - known, 0) + self._kernel.noise) * self._variance)
        score = self._scores[min(self.n, math.ceil((self.n + 1) * confidence)) - 1]
        centre = towards @ self._weights + self._mean
        bounds = (centre, centre - score * deviation, centre + score * deviation)
        return Prediction(*(self._unit * _backward(value, self.power) for value in bounds))


def _checked(features: ArrayLike) -> Floats:
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape or not np.isfinite(x).all():
        raise MeasureError("features are a table of finite numbers", expected="(networks, features)", got=f"shape {x.shape}")
    return x


def _forward(y: Floats, power: float) -> Floats:
    out: Floats = np.log(y) if power == 0 else (y**power - 1) / power
    return out


def _backward(t: Floats, power: float) -> Floats:
    out: Floats = np.exp(t) if power == 0 else np.maximum(1 + power * t, 1e-6) ** (1 / power)
    return out


def _inverse(points: Floats, kernel: _Kernel) -> Floats:
    return np.asarray(np.linalg.inv(kernel.between(points, points) + kernel.noise * np.eye(len(points))), dtype=np.float64)


def _pulled_in(points: Floats, relative: Floats, believed: Floats, power: float, kernel: _Kernel) -> Floats:
    """The measurements, those far from what the others say moved towards it."""
    inverse, values = _inverse(points, kernel), _forward(believed, power)
    expected = values - inverse @ (values - values.mean()) / np.diag(inverse)
    error = _forward(relative, power) - expected
    far = _OUTLYING * 1.4826 * float(np.median(np.abs(error)))
    return _backward(expected + np.clip(error, -far, far), power)


class _Likelihood(NamedTuple):
    """Spectra of the kernels to choose from over the networks ``chosen`` (no more than ``ENOUGH``, drawn with a fixed seed)."""

    chosen: NDArray[np.intp]
    spectra: tuple[tuple[float, float, Floats, Floats], ...]

    @classmethod
    def of(cls, points: Floats) -> _Likelihood:
        chosen = np.random.default_rng(0).permutation(len(points))[:ENOUGH]
        few = points[chosen]
        return cls(chosen, tuple((smooth, length, *np.linalg.eigh(_Kernel(smooth, length).between(few, few)))
                                 for smooth, length in product(SMOOTH_SHARES, LENGTHS)))  # fmt: skip

    def best(self, relative: Floats) -> tuple[float, _Kernel]:
        """The power and the kernel of the highest marginal likelihood; the overall variance is maximised in closed form."""
        few = relative[self.chosen]
        top = (-math.inf, 0.0, _Kernel(1.0, 1.0))
        targets = [(power, _forward(few, power), (power - 1) * float(np.log(few).sum())) for power in POWERS]
        for smooth, length, values, vectors in self.spectra:
            spectrum = np.maximum(values, 0) + NOISES[:, None]
            for power, target, jacobian in targets:
                parts = (vectors.T @ (target - target.mean())) ** 2
                variance = np.maximum((parts / spectrum).mean(1), _LEAST_VARIANCE)
                likelihoods = jacobian - 0.5 * (len(few) * np.log(variance) + np.log(spectrum).sum(1))
                index = int(likelihoods.argmax())
                if likelihoods[index] > top[0]:
                    top = (float(likelihoods[index]), power, _Kernel(smooth, length, float(NOISES[index])))
        return top[1], top[2]
