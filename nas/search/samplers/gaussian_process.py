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
    """Architectures as the process sees them: the squared distances of all pairs, views x architectures x architectures,
    and the number along which the trend runs, of deviation 1. The distances are made once: they are most of the work.
    """

    squares: Array
    trend: Array

    def take(self, places: Array) -> Inputs:
        """These architectures, in this order."""
        return Inputs(self.squares[:, places[:, None], places], self.trend[places])


def inputs(views: Views, trend: Array, train: int) -> Inputs:
    """Distances are in units of the mean of each view's over the first ``train``; 1 where all of them are alike."""
    found = []
    for view in views:
        squares = _squared(view)
        mean = float(squares[:train, :train].sum()) / max(train * (train - 1), 1)
        found.append(squares / (mean if mean > 1e-9 else 1.0))
    return Inputs(np.stack(found), trend)


def default(views: int) -> Array:
    """The priors' means: hyperparameters for so many views."""
    return np.array([LENGTH[0]] * views + [AMPLITUDE[0], NOISE[0]])


def fit(known: Inputs, targets: Array, slope: float) -> Array:
    """The most probable logarithms of: a length for each view, the amplitude, the noise. ``slope``: its prior's mean.

    ``targets`` are of the first ones of ``known``.
    """
    count = len(targets)
    squares, trend = known.squares[:, :count, :count], known.trend[:count]
    line, rest = SLOPE**2 * np.outer(trend, trend), targets - slope * trend
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
    """The process with these hyperparameters (:func:`fit`) and prior mean of the slope, given ``targets`` of the first of
    ``known``; the others it can :meth:`predict`.
    """

    def __init__(self, known: Inputs, targets: Array, theta: Array, slope: float) -> None:
        self._inputs, self._theta, self._slope, self._count = known, theta, slope, len(targets)
        kernel = self._kernel(0, self._count)
        kernel[np.diag_indices_from(kernel)] += np.exp(theta[-1]) + JITTER
        self._factor = cholesky(kernel, lower=True, check_finite=False)
        rest = targets - slope * known.trend[: self._count]
        self._weights = cho_solve((self._factor, True), rest, check_finite=False)

    def _kernel(self, start: int, stop: int) -> Array:
        squares, trend = self._inputs.squares[:, : self._count, start:stop], self._inputs.trend
        root = np.sqrt(5 * np.tensordot(np.exp(-2 * self._theta[:-2]), squares, 1))
        kernel: Array = np.exp(self._theta[-2] - root) * (1 + root + root**2 / 3)
        return kernel + SLOPE**2 * np.outer(trend[: self._count], trend[start:stop])

    def predict(self, start: int, stop: int) -> tuple[Array, Array]:
        """Mean and standard deviation of the true values from ``start`` to ``stop``, without the noise of an observation."""
        cross, trend = self._kernel(start, stop), self._inputs.trend[start:stop]
        inner = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = np.exp(self._theta[-2]) + (SLOPE * trend) ** 2 - (inner * inner).sum(axis=0)
        return self._slope * trend + cross.T @ self._weights, np.sqrt(np.maximum(variance, JITTER))


def _squared(view: Array) -> Array:
    lengths = (view * view).sum(axis=1)
    squares: Array = np.maximum(lengths[:, None] + lengths[None] - 2 * view @ view.T, 0.0)
    return squares
