"""What a search is for: objectives, hard limits, and the front of what is not dominated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nas.errors import MeasureError, NasError, UsageError
from nas.search.forms import Factor, parse_product
from nas.search.metrics import METRICS, Direction, Metric, Metrics, metric
from nas.space.spec import Spec

__all__ = [
    "ALWAYS", "METRICS", "Constraint", "Direction", "Metric", "Metrics", "Objective", "below", "dominates", "front", "further",
    "judged_by", "metric", "nondominated", "parse_constraint", "parse_objective", "parse_objectives",
]  # fmt: skip

Op = Literal["<=", ">="]

ALWAYS = ("accuracy", "latency", "num_params", "macs")
"""Metrics that every table of candidates has a column for."""

_CONSTRAINT = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|<|>|==?|!=)\s*(.+?)\s*")
_PART = re.compile(r"(?:[^,(]|\([^)]*\)?)+")
"""An objective of a list: up to a comma that is not inside brackets."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Something to make as good as can be: a metric by its ``name``, or a product of ``factors``, whose text is its name."""

    name: str
    factors: tuple[Factor, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that it is made of."""
        return tuple(dict.fromkeys(factor.metric for factor in self.factors)) or (self.name,)

    @property
    def direction(self) -> Direction:
        """Whether it is to be large or small; a product is to be large."""
        return "maximize" if self.factors else METRICS[self.name].direction

    def value(self, metrics: Metrics) -> float:
        """Its value; NaN where a metric is missing. A product that stands among the metrics by its name is taken from there."""
        if self.name in metrics or not self.factors:
            return metrics.get(self.name, math.nan)
        return math.prod(factor.value(metrics) for factor in self.factors)

    def loss(self, metrics: Metrics) -> float:
        """Its value as a number to minimise; NaN where a metric is missing."""
        value = self.value(metrics)
        return -value if self.direction == "maximize" else value

    def __str__(self) -> str:
        return self.name


def parse_objectives(text: str) -> tuple[Objective, ...]:
    """The objectives of ``"accuracy,latency"``, or ``"accuracy*(latency/3ms)^-0.07"``, in that order. Raises UsageError."""
    parts = [part.strip() for part in _PART.findall(text) if part.strip()]
    if not parts:
        raise UsageError("no objective given", expected="metrics such as accuracy,latency", got=text)
    objectives = tuple(parse_objective(part) for part in parts)
    if len({objective.name for objective in objectives}) < len(objectives):
        raise UsageError("an objective is named twice", got=text)
    return objectives


def parse_objective(text: str) -> Objective:
    """A metric, or a product (see :mod:`.forms`). Raises UsageError."""
    if text.isidentifier():
        return Objective(metric(text).name)
    factors = parse_product(text)
    return Objective("*".join(map(str, factors)), factors)


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


def broken(limits: Iterable[Constraint], metrics: Metrics) -> str:
    """The first limit that the metrics known so far break, as a sentence; empty where there is none."""
    for limit in limits:
        if limit.metric in metrics and limit.violation(metrics) > 0:
            return f"{limit.metric} {metrics[limit.metric]:,.6g} breaks {limit}"
    return ""


def page_limits(spec: Spec) -> tuple[Constraint, ...]:
    """The limits that a page sets. Raises UsageError with their place."""
    try:
        return tuple(map(parse_constraint, spec.constraints))
    except NasError as error:
        raise error.at(spec.limits_at).along("constraints") from None


def judged_by(objectives: Iterable[Objective], constraints: Iterable[Constraint]) -> set[str]:
    """Names of the metrics that candidates are judged by."""
    return {name for o in objectives for name in o.metrics} | {c.metric for c in constraints}


def further(objectives: Iterable[Objective], constraints: Iterable[Constraint]) -> tuple[str, ...]:
    """What candidates are judged by beyond :data:`ALWAYS`, in the order said: metrics, and products by their text."""
    said = [name for o in objectives for name in (o.name, *o.metrics)] + [c.metric for c in constraints]
    return tuple(name for name in dict.fromkeys(said) if name not in ALWAYS)


def dominates(a: Metrics, b: Metrics, objectives: Sequence[Objective]) -> bool:
    """Whether ``a`` is at least as good as ``b`` in every objective and better in one."""
    return below([objective.loss(a) for objective in objectives], [objective.loss(b) for objective in objectives])


def below(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether no number of ``a`` is above its counterpart in ``b``, and one is below it."""
    pairs = list(zip(a, b, strict=True))
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
