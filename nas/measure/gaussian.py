"""A Gaussian process over any numeric features: what :mod:`nas.measure.predictor` is made of.

A linear part and a smooth part (Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, chapters 2 and 5)
over features that are scaled by their relevance: the variances of a linear model's coefficients that make the measurements
most likely (automatic relevance determination: MacKay 1994, Tipping 2001), after few rounds of expectation maximisation.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Floats = NDArray[np.float64]

POWERS = (0.0, 0.5, 1.0)
SMOOTH_SHARES, LENGTHS = (0.03, 0.1, 0.3, 1.0), (0.5, 1.0, 2.0, 4.0)
NOISES = np.logspace(-4, 1, 21)

ROUNDS = (0, 2, 4)
"""Of expectation maximisation; after none all features weigh alike. More make few features out of many too soon."""

LEAST_VARIANCE = 1e-18

_PULLS, _OUTLYING = 2, 2.5
"""How often far-off measurements are pulled in, and to how many robust standard deviations of the leave-one-out error."""


def forward(y: Floats, power: float) -> Floats:
    """On the scale ``power`` (Box and Cox 1964): 0 logarithm, 1 as it is."""
    out: Floats = np.log(y) if power == 0 else (y**power - 1) / power
    return out


def backward(t: Floats, power: float) -> Floats:
    """The inverse of :func:`forward`, kept positive."""
    out: Floats = np.exp(t) if power == 0 else np.maximum(1 + power * t, 1e-6) ** (1 / power)
    return out


class Kernel(NamedTuple):
    """``(1 - smooth) a.b + smooth exp(-|a - b|^2 / 2 length^2)``; ``noise`` is in the same unit."""

    smooth: float
    length: float
    noise: float = 0.0

    def between(self, a: Floats, b: Floats) -> Floats:
        """Covariances (n, m) of n points with m."""
        products = a @ b.T
        distances = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * products, 0)
        out: Floats = (1 - self.smooth) * products + self.smooth * np.exp(-distances / (2 * self.length**2))
        return out

    def with_itself(self, a: Floats) -> Floats:
        """Variances (n,) of n points."""
        out: Floats = (1 - self.smooth) * (a * a).sum(1) + self.smooth
        return out

    def inverse(self, points: Floats) -> Floats:
        """Of the covariances of points with each other, noise included."""
        return np.asarray(np.linalg.inv(self.between(points, points) + self.noise * np.eye(len(points))), dtype=np.float64)


class Scale(NamedTuple):
    """Features to zero mean and variances that add up to 1, each the feature's relevance; constant ones to 0."""

    mean: Floats
    width: Floats

    @classmethod
    def of(cls, features: Floats, y: Floats, rounds: int) -> Scale:
        """Learnt from features (n, d) of measurements (n,), whose ranks alone matter."""
        mean, deviation = features.mean(0), features.std(0)
        varies = deviation > 1e-9 * np.maximum(1, np.abs(features).max(0))
        deviation = np.where(varies, deviation, np.inf)
        relevance = _relevance((features - mean) / deviation, rankdata(y), rounds) * varies
        share = np.sqrt(relevance / max(float(relevance.sum()), 1e-300))
        return cls(mean, deviation / np.where(varies, share, 1.0))

    def __call__(self, features: Floats) -> Floats:
        out: Floats = (features - self.mean) / self.width
        return out


def _relevance(x: Floats, ranks: Floats, rounds: int) -> Floats:
    """Variances of the coefficients of a linear model of the ranks, standardised ``x`` (n, d)."""
    n, d = x.shape
    target = (ranks - ranks.mean()) / max(float(ranks.std()), 1e-9)
    variances, noise = np.full(d, 1 / d), 0.1
    for _ in range(rounds):
        inverse = np.linalg.inv((x * variances) @ x.T + noise * np.eye(n))
        means = variances * (x.T @ (inverse @ target))
        known = variances * ((inverse @ x) * x).sum(0)  # the share of each variance that the measurements took away
        noise = max(float(((target - x @ means) ** 2).sum() + noise * known.sum()) / n, 1e-4)
        variances = np.maximum(means**2 + variances * (1 - known), 1e-12)
    return variances


class Choice(NamedTuple):
    """What was found most likely: rounds of relevance, the scale of the latencies, and the kernel."""

    likelihood: float
    rounds: int
    power: float
    kernel: Kernel


class Process(NamedTuple):
    """A Gaussian process that has seen measurements."""

    scale: Scale
    kernel: Kernel
    points: Floats
    mean: float
    weights: Floats
    inverse: Floats
    variance: float

    @classmethod
    def of(cls, features: Floats, y: Floats, choice: Choice) -> Process:
        """From features (n, d) and positive measurements (n,); those far from what the others say are pulled towards it."""
        scale = Scale.of(features, y, choice.rounds)
        points = scale(features)
        inverse, values = choice.kernel.inverse(points), forward(y, choice.power)
        for _ in range(_PULLS):
            values = _pulled_in(forward(y, choice.power), values, inverse)
        mean = float(values.mean())
        weights = inverse @ (values - mean)
        variance = max(float((values - mean) @ weights) / len(y), LEAST_VARIANCE)
        return cls(scale, choice.kernel, points, mean, weights, inverse, variance)

    def at(self, features: Floats) -> tuple[Floats, Floats]:
        """Means and standard deviations (m,) of new measurements at features (m, d)."""
        points = self.scale(features)
        towards = self.kernel.between(points, self.points)
        known = ((towards @ self.inverse) * towards).sum(1)
        unknown = np.maximum(self.kernel.with_itself(points) - known, 0) + self.kernel.noise
        return towards @ self.weights + self.mean, np.sqrt(unknown * self.variance)


def _pulled_in(said: Floats, believed: Floats, inverse: Floats) -> Floats:
    """The measurements, those far from what the others (as ``believed``) say of them moved towards it."""
    expected = believed - inverse @ (believed - believed.mean()) / np.diag(inverse)
    error = said - expected
    far = _OUTLYING * 1.4826 * float(np.median(np.abs(error)))
    out: Floats = expected + np.clip(error, -far, far)
    return out


def choose(features: Floats, y: Floats) -> Choice:
    """The choice of the highest marginal likelihood, disturbed measurements pulled in; ``y`` positive and around 1."""
    return max((_chosen(features, y, rounds) for rounds in ROUNDS), key=lambda choice: choice.likelihood)


def _chosen(features: Floats, y: Floats, rounds: int) -> Choice:
    points, believed = Scale.of(features, y, rounds)(features), y
    spectra = [(smooth, length, *np.linalg.eigh(Kernel(smooth, length).between(points, points)))
               for smooth, length in product(SMOOTH_SHARES, LENGTHS)]  # fmt: skip
    for _ in range(_PULLS):
        _, power, kernel = _most_likely(spectra, believed)
        values = _pulled_in(forward(y, power), forward(believed, power), kernel.inverse(points))
        believed = backward(values, power)
    likelihood, power, kernel = _most_likely(spectra, believed)
    return Choice(likelihood, rounds, power, kernel)


def _most_likely(spectra: list[tuple[float, float, Floats, Floats]], y: Floats) -> tuple[float, float, Kernel]:
    """The power and the kernel of the highest marginal likelihood; the overall variance is maximised in closed form."""
    top = (-math.inf, 0.0, Kernel(1.0, 1.0))
    targets = [(power, forward(y, power), (power - 1) * float(np.log(y).sum())) for power in POWERS]
    for smooth, length, values, vectors in spectra:
        spectrum = np.maximum(values, 0) + NOISES[:, None]
        for power, target, jacobian in targets:
            parts = (vectors.T @ (target - target.mean())) ** 2
            variance = np.maximum((parts / spectrum).mean(1), LEAST_VARIANCE)
            likelihoods = jacobian - 0.5 * (len(y) * np.log(variance) + np.log(spectrum).sum(1))
            index = int(likelihoods.argmax())
            if likelihoods[index] > top[0]:
                top = (float(likelihoods[index]), power, Kernel(smooth, length, float(NOISES[index])))
    return top
