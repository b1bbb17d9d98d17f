"""Statistics of timings that assume no distribution: order statistics, and a test for the end of the warm-up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


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


def effective_size(values: NDArray[np.float64]) -> float:
    """As many independent values would tell the median as well as these do, which follow each other in time.

    What counts is whether each is above the median; its autocorrelations are summed up to the first two neighbouring ones that
    are not positive together (initial positive sequence: Geyer 1992, Practical Markov Chain Monte Carlo, section 3.3).
    """
    n, above = len(values), (values > np.median(values)).astype(np.float64)
    above -= above.mean()
    power = np.abs(np.fft.rfft(above, 2 * n)) ** 2
    covariance = np.fft.irfft(power)[:n]
    if covariance[0] <= 0:
        return float(n)
    pairs = covariance[1 : 1 + (n - 1) // 2 * 2].reshape(-1, 2).sum(axis=1) / covariance[0]
    ends = np.flatnonzero(pairs <= 0)
    return float(n / (1 + 2 * pairs[: ends[0] if len(ends) else len(pairs)].sum()))


def median_interval(values: Sequence[float] | NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """Distribution-free confidence interval of the median of ``values`` in the order of time; infinite when they are too few.

    The ranks are those of their :func:`effective_size`: foreign load comes in phases, and neighbours tell the same.
    """
    series = np.asarray(values, dtype=np.float64)
    size = int(effective_size(series)) if len(series) > 1 else len(series)
    rank = median_rank(size, confidence)
    if rank == 0:
        return -math.inf, math.inf
    tail = (rank - 1) / (size - 1)
    low, high = np.quantile(series, [tail, 1 - tail])
    return float(low), float(high)


def settled(values: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether a warm-up has ended: the median of the last ``window`` values is not more than ``tolerance`` (relative)
    below the median of the window before. Warming up only ever makes runs faster; slower ones are another matter.
    """
    if len(values) < 2 * window:
        return False
    before, last = np.median(values[-2 * window : -window]), np.median(values[-window:])
    return bool(last >= before * (1 - tolerance))
