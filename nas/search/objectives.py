"""What a search is for: metrics with their units, objectives, hard limits, and the front of what is not dominated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Literal

import numpy as np

from nas.errors import MeasureError, UsageError, nearest

Direction = Literal["maximize", "minimize"]
Op = Literal["<=", ">="]
Metrics = Mapping[str, float]

_TIMES = {"ms": Fraction(1), "us": Fraction(1, 1000), "s": Fraction(1000)}
_COUNTS = {"": Fraction(1), "K": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9)}
_BYTES = {word + unit: Fraction(base**power) for base, unit in ((1000, "B"), (1024, "iB"))
          for power, word in enumerate(("", "K", "M", "G")) if power or unit == "B"}  # fmt: skip
_FRACTIONS = {"": Fraction(1), "%": Fraction(1, 100)}

_NUMBER = re.compile(r"(\d+(?:\.\d*)?(?:[eE][+-]?\d{1,3})?|\.\d+)\s*([A-Za-zµ%]*)")
_CONSTRAINT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>|==?|!=)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a candidate is judged by. Values are stored in ``unit``; ``units`` are factors to it."""

    name: str
    direction: Direction
    unit: str
    units: Mapping[str, Fraction]
    example: str

    def parse(self, text: str) -> float:
        """The value of a text such as "3ms", "1.5M" or "90%"; a bare number is in ``unit``. Raises UsageError."""
        match = _NUMBER.fullmatch(text.strip())
        factor = self.units.get(_spelt(match[2], self.units) if match[2] else self.unit) if match else None
        value = _scaled(match[1], factor) if match and factor else math.inf
        if value == math.inf:
            known = ", ".join(filter(None, self.units))
            raise UsageError(f"not a value of {self.name}", got=text,
                             expected=f"a number such as {self.example} (units: {known})")  # fmt: skip
        if self.units is _FRACTIONS and value > 1:
            raise UsageError(f"{self.name} is a fraction of 1", got=text, expected=self.example)
        return value

    def format(self, value: float) -> str:
        """``value`` in the largest unit that says it exactly; ``parse`` gives the same number back."""
        for word, factor in sorted(self.units.items(), key=lambda item: -item[1]):
            number = f"{value / float(factor):.6g}"
            if value >= factor and "e" not in number and _scaled(number, factor) == value:
                return number + word
        return f"{value!r}{self.unit}"


def _scaled(number: str, factor: Fraction) -> float:
    """The float nearest to the number times the factor: rounded once (92.1 % is 0.921). Infinite if too large."""
    try:
        return float(Fraction(Decimal(number)) * factor)
    except OverflowError:
        return math.inf


def _spelt(word: str, units: Mapping[str, Fraction]) -> str:
    """The unit meant by a word in other letters (k, mb, µs), if there is exactly one."""
    same = [unit for unit in units if unit.lower() == word.lower().replace("µ", "u")]
    return same[0] if len(same) == 1 else word


METRICS: Mapping[str, Metric] = MappingProxyType({
    metric.name: metric
    for metric in (
        Metric("accuracy", "maximize", "", _FRACTIONS, "0.9 or 90%"),
        Metric("latency", "minimize", "ms", _TIMES, "3ms"),
        Metric("num_params", "minimize", "", _COUNTS, "1M"),
        Metric("macs", "minimize", "", _COUNTS, "300M"),
        Metric("memory", "minimize", "B", _BYTES, "200MB"),
    )
})  # fmt: skip
"""Every metric by name: accuracy is a fraction, latency in ms, parameters and multiply-adds counts, memory in bytes."""


def metric(name: str) -> Metric:
    """The metric of that name. Raises UsageError with the nearest one."""
    if (found := METRICS.get(name)) is None:
        expected = "one of " + ", ".join(METRICS)
        raise UsageError("unknown metric", got=name, expected=expected, hint=nearest(name, METRICS))
    return found


@dataclass(frozen=True, slots=True)
class Objective:
    """A metric to make as good as can be."""

    metric: str

    @property
    def direction(self) -> Direction:
        """Whether the metric is to be large or small."""
        return METRICS[self.metric].direction

    def loss(self, metrics: Metrics) -> float:
        """The metric as a number to minimise; NaN where it is missing."""
        value = metrics.get(self.metric, math.nan)
        return -value if self.direction == "maximize" else value

    def __str__(self) -> str:
        return self.metric


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of ``"accuracy,latency"``, in that order. Raises UsageError."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("no objective given", expected="metrics such as accuracy,latency", got=text)
    if len(set(names)) < len(names):
        raise UsageError("an objective is named twice", got=text)
    return tuple(Objective(metric(name).name) for name in names)


@dataclass(frozen=True, slots=True)
class Constraint:
    """A limit that a metric has to keep. ``limit`` is in the metric's unit."""

    metric: str
    op: Op
    limit: float

    def violation(self, metrics: Metrics) -> float:
        """By how much the limit is broken, relative to the limit; 0 or less is feasible, NaN counts as infinitely bad.

        Raises MeasureError where the metric was not measured.
        """
        if self.metric not in metrics:
            raise MeasureError(f"{self} cannot be judged: {self.metric} was not measured",
                               got=", ".join(metrics) or "no metric")  # fmt: skip
        over = metrics[self.metric] - self.limit
        if math.isnan(over):
            return math.inf
        return (over if self.op == "<=" else -over) / (abs(self.limit) or 1.0)

    def __str__(self) -> str:
        return f"{self.metric}{self.op}{METRICS[self.metric].format(self.limit)}"


def parse_constraint(text: str) -> Constraint:
    """The limit that ``"latency<=3ms"`` or ``"accuracy>=90%"`` says. Raises UsageError."""
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise UsageError("not a limit", got=text, expected="a metric, <= or >=, and a value, such as latency<=3ms")
    name, op, value = match.groups()
    known = metric(name)
    if op not in ("<=", ">="):
        hint = f"Write {name}<={known.example}."
        raise UsageError(f"a limit is written with <= or >=, not {op}", got=text, hint=hint)
    return Constraint(known.name, "<=" if op == "<=" else ">=", known.parse(value))


def judged_by(objectives: Iterable[Objective], constraints: Iterable[Constraint]) -> set[str]:
    """Names of the metrics that candidates are judged by."""
    return {o.metric for o in objectives} | {c.metric for c in constraints}


def dominates(a: Metrics, b: Metrics, objectives: Sequence[Objective]) -> bool:
    """Whether ``a`` is at least as good as ``b`` in every objective and better in one."""
    pairs = [(objective.loss(a), objective.loss(b)) for objective in objectives]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def front(records: Iterable[Metrics], objectives: Sequence[Objective]) -> list[int]:
    """Indices of the metrics that no others dominate, in their order; equal ones are all in.

    Metrics that lack an objective, or have NaN or an infinity there, are left out.
    """
    table = [[objective.loss(metrics) for objective in objectives] for metrics in records]
    losses = np.array(table, dtype=float).reshape(len(table), len(objectives))
    known = np.flatnonzero(np.isfinite(losses).all(axis=1))
    return [int(i) for i in known[nondominated(losses[known])]]


def nondominated(losses: np.ndarray) -> np.ndarray:
    """Mask over the rows of ``losses`` (points x objectives, all to be minimised) that no other row dominates."""
    keep = np.zeros(len(losses), dtype=bool)
    rest = np.lexsort(losses.T[::-1])
    # In lexicographic order nothing later dominates the first point: it is in the front, and its dominated ones go.
    while rest.size:
        point = losses[rest[0]]
        equal = (losses[rest] == point).all(axis=1)
        keep[rest[equal]] = True
        rest = rest[(losses[rest] < point).any(axis=1)]
    return keep
