"""Compound scaling (Tan & Le 2019, EfficientNet, section 3.3): depth times alpha, width times beta, resolution times gamma."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from nas.errors import NasError, UsageError
from nas.net.graph import Graph, Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.space.search_space import Architecture

DOUBLE, TOLERANCE = 2.0, 0.1
"""What a step of the family shall cost relative to the one before, and how far from it (relative) it may be."""

FURTHEST = 0.4
"""How far it may be where nothing is nearer: 1.2 to 2.8 times the cost."""

NARROW_WINDOW = (DOUBLE * (1 - TOLERANCE), DOUBLE * (1 + TOLERANCE))
"""alpha*beta^2*gamma^2 of candidates that double the multiply-adds."""

WIDE_WINDOW = (1.3, 3.0)
"""The same of candidates that may double latency, and of those whose multiply-adds double only by rounding."""

MOST_DEPTH, MOST_WIDTH, MOST_RESOLUTION = 2.0, 1.4, 1.4
SIDE_STEP = 4
"""Resolutions are multiples of this, so that two halvings leave whole pixels."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """alpha, beta and gamma of one step; ``phi`` steps multiply by their powers."""

    alpha: float
    beta: float
    gamma: float

    @property
    def product(self) -> float:
        """alpha * beta^2 * gamma^2: about what a step multiplies multiply-adds by."""
        return self.alpha * self.beta**2 * self.gamma**2

    @property
    def triple(self) -> tuple[float, float, float]:
        """alpha, beta, gamma."""
        return self.alpha, self.beta, self.gamma

    def size(self, base: Size, phi: float) -> Size:
        """``base`` (whose input is known) after ``phi`` steps."""
        if base.input is None:
            raise ValueError("the input of the network to scale is not known")
        channels, height, width = base.input
        return replace(base, depth=base.depth * self.alpha**phi, width=base.width * self.beta**phi,
                       input=(channels, self._side(height, phi), self._side(width, phi)))  # fmt: skip

    def _side(self, side: int, phi: float) -> int:
        return side if phi == 0 else max(side, round(side * self.gamma**phi / SIDE_STEP) * SIDE_STEP)

    def __str__(self) -> str:
        return f"alpha {self.alpha:g}, beta {self.beta:g}, gamma {self.gamma:g}"


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """Coefficients, and the network that one step of them makes, of ``cost`` times the multiply-adds."""

    coefficients: Coefficients
    size: Size
    graph: Graph
    cost: float


def parse_coefficients(text: str) -> Coefficients:
    """The coefficients of ``1.2,1.1,1.15``. Raises UsageError."""
    try:
        alpha, beta, gamma = (float(part) for part in text.split(","))
        if not all(1.0 <= value <= 4.0 for value in (alpha, beta, gamma)):
            raise ValueError
    except ValueError:
        raise UsageError("coefficients are alpha (depth), beta (width), gamma (resolution)", got=text,
                         expected="three numbers of 1 to 4, such as 1.2,1.1,1.15") from None  # fmt: skip
    return Coefficients(alpha, beta, gamma)


def grid(window: tuple[float, float], step: float = 0.05) -> list[Coefficients]:
    """All coefficients in steps from 1 whose product lies in the window; those nearest to doubling come first."""
    def values(most: float) -> list[float]:
        return [round(1 + i * step, 6) for i in range(round((most - 1) / step) + 1)]

    every = itertools.starmap(Coefficients, itertools.product(*map(values, (MOST_DEPTH, MOST_WIDTH, MOST_RESOLUTION))))
    inside = [c for c in every if window[0] <= c.product <= window[1]]
    return sorted(inside, key=lambda c: (round(abs(c.product - DOUBLE), 9), c.alpha, c.beta))


def candidates(architecture: Architecture, base: Size, known: Sequence[Coefficients]) -> Iterator[Candidate]:
    """Each network that these coefficients make, once: of those that round to the same network the first stands.

    Coefficients that make no network (a resolution that the wiring does not take) are left out.
    """
    macs = lower(architecture, base).macs
    seen: set[str] = set()
    for coefficients in known:
        size = coefficients.size(base, 1)
        try:
            graph = lower(architecture, size)
        except NasError:
            continue
        if (name := identity(graph)) not in seen:
            seen.add(name)
            yield Candidate(coefficients, size, graph, graph.macs / max(macs, 1))


def about(cost: float, wanted: float) -> bool:
    """Whether a cost is within :data:`TOLERANCE` of another."""
    return abs(cost / wanted - 1.0) <= TOLERANCE


def step_cost(costs: Sequence[float]) -> float | None:
    """What a step shall cost, relative to the base: double, where any candidate is about that.

    The repeats and channels of a small network may all round past it: the nearest that there is then, so that what is
    compared still costs the same. None where that is further off than :data:`FURTHEST`.
    """
    nearest = min(costs, key=lambda cost: abs(cost / DOUBLE - 1.0), default=0.0)
    if about(nearest, DOUBLE):
        return DOUBLE
    return nearest if abs(nearest / DOUBLE - 1.0) <= FURTHEST else None


T = TypeVar("T")


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of the items, evenly spread over them, the first among them."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]
