"""How well two orders of the same networks agree, and how much that says: Kendall's tau with its own doubt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 3
"""Fewer networks have no order worth a figure."""
LEAST_INTERVAL = 10
"""Networks from which on the interval of Fieller, Hartley & Pearson (1957) holds."""
VARIANCE = 0.437
"""Of atanh(tau), times the number of networks less 4, in that paper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Kendall's tau-b of ``n`` pairs; ``chance``: how often orders drawn at random agree as well or better; ``interval``:
    95 %, None for fewer than :data:`LEAST_INTERVAL` pairs."""

    tau: float
    n: int
    chance: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        """As it is told to a person."""
        doubt = f"95 % from {self.interval[0]:.2f} to {self.interval[1]:.2f}" if self.interval else (
            f"n is small: orders drawn at random agree so well in {100 * self.chance:.2g} % of cases")
        return f"{self.tau:.2f} (n={self.n}; {doubt})"


def agreement(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    """Of pairs such as (proxy, final); None for fewer than :data:`LEAST`, or where one side is all equal."""
    n = len(pairs)
    if n < LEAST or any(len({pair[side] for pair in pairs}) < 2 for side in (0, 1)):
        return None
    from scipy.stats import kendalltau  # a second to import

    found = kendalltau([a for a, _ in pairs], [b for _, b in pairs], alternative="greater")
    tau = max(-1.0, min(1.0, float(found.statistic)))
    return Agreement(tau=tau, n=n, chance=float(found.pvalue), interval=_interval(tau, n) if n >= LEAST_INTERVAL else None)


def _interval(tau: float, n: int) -> tuple[float, float]:
    middle, half = math.atanh(max(-0.9999, min(0.9999, tau))), 1.96 * math.sqrt(VARIANCE / (n - 4))
    return math.tanh(middle - half), math.tanh(middle + half)
