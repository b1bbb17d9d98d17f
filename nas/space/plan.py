"""A space's decisions as data: which there are, under which labels they become active. Counting and listing read it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from nas.errors import SpaceError
from nas.space.decide import walk
from nas.space.grammar import MAX_REPEAT
from nas.space.spec import Choice, Hole, Range, Scalar, Spec


@dataclass(frozen=True, slots=True)
class Decision:
    """A hole with its key, and the decisions that each of its labels makes active."""

    key: str
    hole: Hole
    below: dict[Scalar, Plan]


Plan = tuple[Decision, ...]

MAX_DECISIONS = 100_000
"""A space with more than this, over all options, is taken for a mistake."""


def make_plan(spec: Spec, is_open: frozenset[int]) -> Plan:
    """Every decision of ``spec``.

    Raises SpaceError where one shared name has two different sets of options, or there are too many decisions.
    """
    known: dict[str, Hole] = {}
    stack: list[list[Decision]] = [[]]
    visits = 0

    def on_hole(path: str, hole: Hole, go_on: Callable[[Scalar, Any], Any]) -> Any:
        nonlocal visits
        visits += 1
        if visits > MAX_DECISIONS:
            raise SpaceError("the space has too many decisions", where=spec.where or None, hint="Repeat less often.",
                             expected=f"at most {MAX_DECISIONS} in all options together")  # fmt: skip
        _check_key(hole.share or path, hole, known)
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


def _check_key(key: str, hole: Hole, known: dict[str, Hole]) -> None:
    """A key is one decision's, wherever it is met."""
    first = known.setdefault(key, hole)
    if first is hole or (hole.share and first == hole):
        return
    if hole.share:
        raise SpaceError(f"the shared decision {key!r} has two different sets of options", where=hole.where or None,
                         expected=f"the same as at {first.where}", hint="Give them different names.")  # fmt: skip
    raise SpaceError(f"two decisions are called {key}", where=hole.where or None, hint="Rename a layer.")


def _options(hole: Hole) -> Iterator[tuple[Scalar, Any]]:
    """Each label with its option; of a long or continuous range one value, for no repeat is that long."""
    if isinstance(hole, Choice):
        yield from zip(hole.labels, hole.options, strict=True)
    elif hole.count is not None and hole.count <= MAX_REPEAT + 1:
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
    decisions = list(_flat(plan))
    if any(isinstance(d.hole, Range) and d.hole.count is None for d in decisions):
        return math.inf
    shared = {d.key: False for d in decisions if d.hole.share}
    shared |= {d.key: True for d in decisions if d.hole.share and d.below}
    return sum(_ways(plan, shared, Counter({frozenset(): 1})).values())


def _flat(plan: Plan) -> Iterator[Decision]:
    for decision in plan:
        yield decision
        for below in decision.below.values():
            yield from _flat(below)


Known = frozenset[tuple[str, Scalar]]


def _ways(plan: Plan, shared: dict[str, bool], ways: Counter[Known]) -> Counter[Known]:
    """How many sets of decisions there are, by what the shared names have been decided to so far.

    ``shared`` says for each shared name whether anything depends on its label; if not, only that it is decided counts.
    """
    for decision in plan:
        after: Counter[Known] = Counter()
        for known, count in ways.items():
            for label, times in _branches(decision, shared.get(decision.key), dict(known)):
                now = known if decision.key not in shared else known | {(decision.key, label)}
                after.update(_ways(decision.below.get(label, ()), shared, Counter({now: count * times})))
        ways = after
    return ways


def _branches(decision: Decision, matters: bool | None, known: dict[str, Scalar]) -> Iterator[tuple[Scalar, int]]:
    """Labels that lead on differently, each with how many labels it stands for."""
    count = len(decision.hole.labels) if isinstance(decision.hole, Choice) else decision.hole.count or 0
    if decision.key in known:
        yield known[decision.key], 1
    elif matters:
        yield from ((label, 1) for label, _ in _options(decision.hole))
    elif matters is not None:
        yield None, count
    else:
        yield from ((label, 1) for label in decision.below)
        if rest := count - len(decision.below):
            yield _OTHERS, rest


_OTHERS: Any = object()
"""Stands for all labels under which nothing more is decided."""


def enumerate_decisions(plan: Plan) -> Iterator[dict[str, Scalar]]:
    """Every set of decisions once, in the order of the options. Raises SpaceError for a continuous range."""
    stack: list[Iterator[tuple[Plan, dict[str, Scalar]]]] = [iter([(plan, {})])]
    while stack:
        state = next(stack[-1], None)
        if state is None:
            stack.pop()
        elif not state[0]:
            yield state[1]
        else:
            stack.append(_next_states(*state))


def _next_states(plan: Plan, decided: dict[str, Scalar]) -> Iterator[tuple[Plan, dict[str, Scalar]]]:
    decision, rest = plan[0], plan[1:]
    for label in [decided[decision.key]] if decision.key in decided else _labels(decision):
        yield decision.below.get(label, ()) + rest, {**decided, decision.key: label}


def _labels(decision: Decision) -> Iterator[Scalar]:
    hole = decision.hole
    if isinstance(hole, Choice):
        return iter(hole.labels)
    if hole.count is None:
        raise SpaceError(f"{decision.key} is continuous and cannot be enumerated", where=hole.where or None)
    return map(hole.value, range(hole.count))
