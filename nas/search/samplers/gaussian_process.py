"""A Gaussian process over architectures: Matern 5/2 on a distance with one length scale for each view of the encoding.

Length scales, amplitude and noise are the most probable ones under wide log-normal priors (L-BFGS on the analytic
gradient), so that a view that says nothing is switched off. Targets are to be of mean 0 and variance 1.
A linear trend with a normal prior on its slope is part of the process: what is believed before anything was seen.
Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, chapters 2 (2.7: the trend) and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

LENGTH, AMPLITUDE, NOISE = (0.5, 1.0), (0.0, 2.0), (-3.0, 1.5)
"""Mean and standard deviation of the logarithms' priors (a length is in units of the views' mean distance)."""

SLOPE = 0.3
"""Standard deviation of the slope's prior."""

JITTER = 1e-6
ITERATIONS = 25

Array = np.ndarray
Views = Sequence[Array]
"""For each view a matrix, architectures x features."""


class Inputs(NamedTuple):
    """Architectures as the process sees them: the views, and the number along which the trend runs, of deviation 1."""

    views: Views
    trend: Array

    def rows(self, start: int, stop: int) -> Inputs:
        """Some of the architectures."""
        return Inputs([view[start:stop] for view in self.views], self.trend[start:stop])


def scales(views: Views) -> list[float]:
    """The mean squared distance in each view; 1 in a view in which all are alike."""
    found = []
    for view in views:
        count = len(view)
        mean = float(_squared(view, view).sum()) / max(count * (count - 1), 1)
        found.append(mean if mean > 1e-9 else 1.0)
    return found


def default(views: int) -> Array:
    """The priors' means: hyperparameters for so many views."""
    return np.array([LENGTH[0]] * views + [AMPLITUDE[0], NOISE[0]])


def fit(inputs: Inputs, targets: Array, slope: float) -> Array:
    """The most probable logarithms of: a length for each view, the amplitude, the noise. ``slope``: its prior's mean."""
    squares = _distances(inputs.views, inputs.views, scales(inputs.views))
    line, rest = SLOPE**2 * np.outer(inputs.trend, inputs.trend), targets - slope * inputs.trend
    means = default(len(squares))
    spreads = np.array([LENGTH[1]] * len(squares) + [AMPLITUDE[1], NOISE[1]])
    low, high = means - 3.5 * spreads, means + 3.5 * spreads

    def loss(theta: Array) -> tuple[float, Array]:
        return _loss(theta, squares, line, rest, means, spreads)

    bounds = list(zip(low, high, strict=True))
    found = minimize(loss, means, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": ITERATIONS})
    best: Array = found.x
    return best


def _loss(theta: Array, squares: Array, line: Array, targets: Array, means: Array, spreads: Array) -> tuple[float, Array]:
    """Minus the logarithm of the posterior density, and its gradient."""
    lengths, amplitude, noise = np.exp(-2 * theta[:-2]), np.exp(theta[-2]), np.exp(theta[-1])
    root = np.sqrt(5 * np.tensordot(lengths, squares, 1))
    decay = amplitude * np.exp(-root)
    kernel = decay * (1 + root + root**2 / 3)
    count = len(targets)
    whole = kernel + line + (noise + JITTER) * np.eye(count)
    factor = cholesky(whole, lower=True, check_finite=False)
    weights = cho_solve((factor, True), targets, check_finite=False)
    away = (theta - means) / spreads
    value = 0.5 * targets @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    # d loss / d kernel; d kernel / d squared distance is -5/6 (1 + root) decay.
    pull = 0.5 * (cho_solve((factor, True), np.eye(count), check_finite=False) - np.outer(weights, weights))
    along = pull * decay * (1 + root) * (5 / 3)
    gradient = np.array(
        [*(float((along * square).sum()) * length for square, length in zip(squares, lengths, strict=True)),
         float((pull * kernel).sum()), float(np.trace(pull)) * noise]
    )  # fmt: skip
    return float(value), gradient + away / spreads


class GaussianProcess:
    """The process with these hyperparameters (:func:`fit`) and prior mean of the slope, given ``targets`` at ``inputs``."""

    def __init__(self, inputs: Inputs, targets: Array, theta: Array, slope: float) -> None:
        self._inputs, self._scales, self._theta, self._slope = inputs, scales(inputs.views), theta, slope
        kernel = self._kernel(inputs, inputs)
        kernel[np.diag_indices_from(kernel)] += np.exp(theta[-1]) + JITTER
        self._factor = cholesky(kernel, lower=True, check_finite=False)
        self._weights = cho_solve((self._factor, True), targets - slope * inputs.trend, check_finite=False)

    def _kernel(self, left: Inputs, right: Inputs) -> Array:
        squares = _distances(left.views, right.views, self._scales)
        root = np.sqrt(5 * np.tensordot(np.exp(-2 * self._theta[:-2]), squares, 1))
        kernel: Array = np.exp(self._theta[-2] - root) * (1 + root + root**2 / 3)
        return kernel + SLOPE**2 * np.outer(left.trend, right.trend)

    def predict(self, inputs: Inputs) -> tuple[Array, Array]:
        """Mean and standard deviation of the true value, without the noise of an observation."""
        cross = self._kernel(self._inputs, inputs)
        inner = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = np.exp(self._theta[-2]) + (SLOPE * inputs.trend) ** 2 - (inner * inner).sum(axis=0)
        return self._slope * inputs.trend + cross.T @ self._weights, np.sqrt(np.maximum(variance, JITTER))


def _distances(left: Views, right: Views, scale: Sequence[float]) -> Array:
    """Squared distances, views x left x right, in units of ``scale``."""
    return np.stack([_squared(a, b) / unit for a, b, unit in zip(left, right, scale, strict=True)])


def _squared(left: Array, right: Array) -> Array:
    squares: Array = np.maximum((left * left).sum(1)[:, None] + (right * right).sum(1)[None] - 2 * left @ right.T, 0.0)
    return squares
