"""A space's decisions as data: which there are, under which labels they become active. Counting and listing read it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nas.errors import SpaceError
from nas.space.decide import Decisions, option_of, walk
from nas.space.spec import Choice, Hole, Range, Scalar, Spec


@dataclass(frozen=True, slots=True)
class Decision:
    """A hole with its key, and the decisions that each of its labels makes active."""

    key: str
    hole: Hole
    below: dict[Scalar, Plan]


Plan = tuple[Decision, ...]


def make_plan(spec: Spec, is_open: frozenset[int]) -> Plan:
    """Every decision of ``spec``. Raises SpaceError where one shared name has two different sets of options."""
    shared: dict[str, Hole] = {}
    stack: list[list[Decision]] = [[]]

    def on_hole(path: str, hole: Hole, go_on: Callable[[Scalar, Any], Any]) -> Any:
        if hole.share:
            known = shared.setdefault(hole.share, hole)
            if known != hole:
                raise SpaceError(f"the shared decision {hole.share!r} has two different sets of options", where=hole.where,
                                 expected=f"the same as at {known.where}", hint="Give them different names.")  # fmt: skip
        below: dict[Scalar, Plan] = {}
        result: Any = None
        for label, option in _options(hole):
            stack.append([])
            result = go_on(label, option)
            below[label] = tuple(stack.pop())
        stack[-1].append(Decision(hole.share or path, hole, {k: v for k, v in below.items() if v}))
        return result

    walk(spec, is_open, on_hole)
    return tuple(stack[0])


def _options(hole: Hole) -> Iterator[tuple[Scalar, Any]]:
    """Each label with its option; of a long or continuous range one value, since nothing can depend on it."""
    if isinstance(hole, Choice):
        yield from zip(hole.labels, hole.options, strict=True)
    elif hole.count is not None and hole.count <= 1000:
        yield from ((value, value) for value in hole.values())
    else:
        yield hole.low, hole.low


def all_holes(plan: Plan) -> dict[str, Hole]:
    """Every hole that can ever become active, by key, in the order of the page."""
    found: dict[str, Hole] = {}
    for decision in plan:
        found[decision.key] = decision.hole
        for below in decision.below.values():
            found |= all_holes(below)
    return found


def size(plan: Plan) -> int | float:
    """The exact number of distinct sets of decisions; infinite where a range is continuous.

    Shared decisions count once: the count runs over the assignments of the shared names that are in play.
    """
    total = sum(_ways(plan, {d.key for d in _flat(plan) if d.hole.share}, Counter({frozenset(): 1})).values())
    return total if math.isfinite(total) else math.inf


def _flat(plan: Plan) -> Iterator[Decision]:
    for decision in plan:
        yield decision
        for below in decision.below.values():
            yield from _flat(below)


Known = frozenset[tuple[str, Scalar]]


def _ways(plan: Plan, shared: set[str], ways: Counter[Known]) -> Counter[Known]:
    """How many sets of decisions there are, by what the shared names have been decided to so far."""
    for decision in plan:
        labels = _label_count(decision.hole)
        after: Counter[Known] = Counter()
        for known, count in ways.items():
            fixed = dict(known).get(decision.key, _UNDECIDED) if decision.key in shared else _UNDECIDED
            if fixed is not _UNDECIDED:
                after.update(_ways(decision.below.get(fixed, ()), shared, Counter({known: count})))
                continue
            names_itself = decision.key in shared
            branching = _all_labels(decision.hole) if names_itself else tuple(decision.below)
            for label in branching:
                now = known | {(decision.key, label)} if names_itself else known
                for end, more in _ways(decision.below.get(label, ()), shared, Counter({now: count})).items():
                    after[end] += more
            if rest := labels - len(branching):
                after[known] += count * rest
        ways = after
    return ways


_UNDECIDED: Any = object()


def _all_labels(hole: Hole) -> tuple[Scalar, ...]:
    if isinstance(hole, Choice):
        return hole.labels
    return () if hole.count is None else hole.values()


def _label_count(hole: Hole) -> Any:
    if isinstance(hole, Range):
        return math.inf if hole.count is None else hole.count
    return len(hole.labels)


def enumerate_decisions(plan: Plan, decided: Decisions | None = None) -> Iterator[dict[str, Scalar]]:
    """Every set of decisions once, in the order of the options. Raises SpaceError for a continuous range."""
    decided = dict(decided or {})
    if not plan:
        yield decided
        return
    decision, rest = plan[0], plan[1:]
    hole = decision.hole
    if isinstance(hole, Range) and hole.count is None:
        raise SpaceError(f"{decision.key} is continuous and cannot be enumerated", where=hole.where or None)
    values = hole.labels if isinstance(hole, Choice) else hole.values()
    for label in (decided[decision.key],) if decision.key in decided else values:
        option_of(decision.key, hole, label)
        yield from enumerate_decisions(decision.below.get(label, ()) + rest, {**decided, decision.key: label})
