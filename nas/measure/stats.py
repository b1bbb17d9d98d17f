"""Statistics of timings that assume no distribution: order statistics, and a test for the end of the warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray


@lru_cache(maxsize=4096)
def median_rank(n: int, confidence: float) -> int:
    """The largest rank k (1-based) such that [x_(k), x_(n+1-k)] of n values holds the median with that confidence.

    The number of values below the median is binomial(n, 1/2) whatever the (continuous) distribution, so the interval
    misses with probability ``2 P(B < k)`` (David and Nagaraja 2003, Order Statistics, section 7.1). 0: n is too small.
    """
    allowed = (1 - confidence) / 2
    below, log_half = 0.0, n * math.log(0.5)
    for k in range(n // 2 + 1):
        log_choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
        below += math.exp(log_choose + log_half)
        if below > allowed:
            return k
    return n // 2


def median_interval(values: Sequence[float] | NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free confidence interval of the median of independent ``values``; infinite when they are too few."""
    rank = median_rank(len(values), confidence)
    if rank == 0:
        return -math.inf, math.inf
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[len(values) - rank])


def settled(values: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether a warm-up has ended: the median of the last ``window`` values is not more than ``tolerance`` (relative)
    below the median of the window before. Warming up only ever makes runs faster; slower ones are another matter.
    """
    if len(values) < 2 * window:
        return False
    before, last = np.median(values[-2 * window : -window]), np.median(values[-window:])
    return bool(last >= before * (1 - tolerance))


def quieter_half(first: ArrayLike, second: ArrayLike) -> NDArray[np.intp]:
    """Indices of the half of the pairs whose two timings, each relative to its median, are smallest together.

    Both sides weigh alike, so that choosing does not favour one of them; foreign load makes either of them slow.
    """
    a, b = np.asarray(first), np.asarray(second)
    score = a / np.median(a) + b / np.median(b)
    return np.sort(np.argsort(score, kind="stable")[: (len(score) + 1) // 2])
