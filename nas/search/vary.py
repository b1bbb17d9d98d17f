"""Architectures from architectures: mutation, crossover, neighbours; and valid samples.

All that comes out is valid: it can be lowered at the size given, and keeps there the limits on parameters and multiply-adds
that the page names under ``constraints``. Limits on what has to be measured are for a search.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from nas.errors import NasError, SpaceError
from nas.net.graph import Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.space.decide import Decisions
from nas.space.search_space import Architecture, SearchSpace, draw, valid
from nas.space.spec import Choice, Hole, Scalar

if TYPE_CHECKING:
    from nas.search.objectives import Constraint

AS_WRITTEN = Size()
"""The size that the page states."""

SINGLE, WALK = 100, 100
"""Mutations of the parent itself that are tried, and steps away from it after that."""

CROSSINGS = 50
"""Mixtures that are tried before one of the parents is taken."""

SAMPLES = 2_000
"""Samples that are drawn before the page's limits are taken for impossible."""

FILLINGS = 10
"""Ways to fill newly active decisions that are tried for a neighbour: the first labels, then drawn ones."""


def sample(space: SearchSpace, rng: random.Random, size: Size = AS_WRITTEN) -> Architecture:
    """A valid architecture, drawn evenly from those of the space. Raises SpaceError when none is found."""
    limits = static_limits(space)
    for _ in range(SAMPLES):
        architecture = space.sample(rng)
        if name_of(architecture, size, limits) is not None:
            return architecture
    raise SpaceError(f"no sample of {space.name} keeps its limits", where=space.spec.where or None,
                     got=", ".join(space.spec.constraints) or None)  # fmt: skip


def mutate(space: SearchSpace, architecture: Architecture, rng: random.Random,
           size: Size = AS_WRITTEN) -> Architecture:  # fmt: skip
    """Another network of the space: valid, and different in :func:`nas.net.identity.identity` at ``size``.

    One active decision is drawn again. Where that leads to no other network however often it is tried (a plateau of
    spellings of one), a random walk goes on from there. Raises SpaceError when nothing else is found: the space is of one
    network, as far as can be seen.
    """
    parent, limits = name_of(architecture, size), static_limits(space)
    own = decisions = decisions_of(space, architecture)
    for attempt in range(SINGLE + WALK):
        decisions = redraw(space, own if attempt < SINGLE else decisions, rng)
        child = space.architecture(decisions)
        name = name_of(child, size, limits)
        if name is not None and name != parent:
            return child
    raise SpaceError(f"no other network of {space.name} was found near this one", where=space.spec.where or None)


def crossover(space: SearchSpace, a: Architecture, b: Architecture, rng: random.Random,
              size: Size = AS_WRITTEN) -> Architecture:  # fmt: skip
    """A valid network of which every decision that a parent made is one parent's, chosen evenly, the others are drawn.

    Where no mixture is valid, ``a`` itself.
    """
    limits = static_limits(space)
    parents = [decisions_of(space, parent) for parent in (a, b)]
    for _ in range(CROSSINGS):
        mixed = {key: rng.choice([own[key] for own in parents if key in own]) for key in {**parents[0], **parents[1]}}
        child = space.complete(mixed, rng)
        if name_of(child, size, limits) is not None:
            return child
    return a


def neighbors(space: SearchSpace, architecture: Architecture, size: Size = AS_WRITTEN) -> Iterator[Architecture]:
    """All valid architectures that differ in the label of one active decision, in the order of decisions and labels.

    Decisions that become active by it get their first label; where that is not valid, drawn ones. Of a continuous
    range: its ends, and the middles between them and the label. Two neighbours may still be one network.
    """
    own, limits = decisions_of(space, architecture), static_limits(space)
    for key, label in own.items():
        for other in others(space.holes[key], label):
            neighbor = _filled(space, {**own, key: other}, size, limits)
            if neighbor is not None:
                yield neighbor


def others(hole: Hole, label: Scalar) -> Iterator[Scalar]:
    """Every label of a hole but this one; of a continuous range, some."""
    if isinstance(hole, Choice):
        labels: tuple[Scalar, ...] = hole.labels
    elif hole.count is not None:
        labels = hole.values()
    else:
        value, low, high = float(label or 0), float(hole.low), float(hole.high)
        labels = tuple(dict.fromkeys((low, _middle(low, value, hole.log), _middle(value, high, hole.log), high)))
    return (other for other in labels if other != label)


def redraw(space: SearchSpace, decisions: Decisions, rng: random.Random) -> Decisions:
    """Other decisions: one active decision of these re-draws its label, newly active ones are drawn, the rest stays.

    Only a space of a single architecture gives the same ones back.
    """
    parent = space.complete(decisions, rng).decisions
    free = [key for key in parent if alternatives(space.holes[key])]
    return redraw_at(space, parent, rng.choice(free), rng) if free else parent


def redraw_at(space: SearchSpace, decisions: Decisions, key: str, rng: random.Random) -> Decisions:
    """These decisions with another label of ``key``, which has to have one; newly active decisions are drawn."""
    label = decisions[key]
    while label == decisions[key]:
        label = draw(space.holes[key], rng)
    return space.complete({**decisions, key: label}, rng).decisions


def decisions_of(space: SearchSpace, architecture: Architecture) -> Decisions:
    """The decisions that make an architecture; looked for where it is a page written out. Raises SpaceError for none."""
    found = architecture if architecture.decisions else space.find(architecture)
    if found is None:
        raise SpaceError(f"{architecture.name} is no member of {space.name}", where=architecture.spec.where or None)
    return found.decisions


def static_limits(space: SearchSpace) -> list[Constraint]:
    """The page's limits that lowering can judge. Raises UsageError for one that is not written as a limit."""
    if not space.spec.constraints:
        return []
    from nas.search.objectives import page_limits  # late: it imports numpy

    return [limit for limit in page_limits(space.spec) if limit.metric in ("num_params", "macs")]


def name_of(architecture: Architecture, size: Size, limits: Sequence[Constraint] = ()) -> str | None:
    """The canonical identity at a size; None for what cannot be lowered or breaks a limit there."""
    try:
        graph = lower(architecture, size)
    except NasError:
        return None
    if limits and any(limit.violation({"num_params": graph.num_params, "macs": graph.macs}) > 0 for limit in limits):
        return None
    return identity(graph)


def alternatives(hole: Hole) -> bool:
    """Whether the hole has more than one label."""
    return len(hole.labels) > 1 if isinstance(hole, Choice) else hole.count != 1 and hole.low < hole.high


def _middle(low: float, high: float, log: bool) -> float:
    return math.sqrt(low * high) if log else (low + high) / 2


def _filled(space: SearchSpace, decisions: Decisions, size: Size, limits: Sequence[Constraint]) -> Architecture | None:
    rng = random.Random(0)
    for attempt in range(FILLINGS):

        def choose(key: str, hole: Hole, first: bool = attempt == 0) -> Scalar:
            if key in decisions and valid(hole, decisions[key]):
                return decisions[key]
            return _first(hole) if first else draw(hole, rng)

        architecture = space.decide(choose)
        if name_of(architecture, size, limits) is not None:
            return architecture
        if architecture.decisions.keys() <= decisions.keys():
            return None  # nothing was filled in: another attempt would be the same
    return None


def _first(hole: Hole) -> Scalar:
    if isinstance(hole, Choice):
        return hole.labels[0]
    return hole.value(0) if hole.count is not None else float(hole.low)
