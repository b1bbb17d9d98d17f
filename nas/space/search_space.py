"""Search spaces and architectures: a page with holes, and a page without."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space import plan as plans
from nas.space.decide import Choose, Decisions, decide, open_nodes
from nas.space.match import find_decisions
from nas.space.spec import Choice, Hole, Scalar, Spec, has_holes
from nas.space.suggest import Trial, suggester


@dataclass(frozen=True, slots=True)
class Architecture:
    """A page with no hole left, and the decisions that made it from its space (none for a page written out)."""

    spec: Spec
    decisions: Mapping[str, Scalar] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if has_holes(self.spec):
            raise SpaceError(f"{self.spec.name} still has decisions to make", where=self.spec.where or None,
                             hint="It is a search space: sample it, or give its decisions.")  # fmt: skip

    @property
    def name(self) -> str:
        """The page's name."""
        return self.spec.name


class SearchSpace:
    """All the architectures that a page with holes describes.

    ``holes`` lists every decision that can ever be asked for, by key; an architecture has only the active ones.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._open = open_nodes(spec)
        self.plan = plans.make_plan(spec, self._open)
        self.holes: dict[str, Hole] = plans.all_holes(self.plan)

    def __reduce__(self) -> tuple[type[SearchSpace], tuple[Spec]]:
        return SearchSpace, (self.spec,)  # the open nodes are known by identity, which no copy keeps

    @property
    def name(self) -> str:
        """The page's name."""
        return self.spec.name

    def size(self) -> int | float:
        """Exact number of distinct sets of decisions (``inf`` where a range is continuous)."""
        return plans.size(self.plan)

    def decide(self, choose: Choose) -> Architecture:
        """The architecture whose active holes have the labels that ``choose(key, hole)`` returns."""
        spec, decisions = decide(self.spec, self._open, choose)
        return _trusted(spec, decisions)

    def sample(self, rng: random.Random) -> Architecture:
        """An architecture whose every active decision is drawn uniformly (the logarithm's, in a log range)."""
        return self.decide(lambda _, hole: draw(hole, rng))

    def suggest(self, trial: Trial) -> Architecture:
        """The architecture whose active decisions an ``optuna.Trial`` suggests, each under its own name."""
        return self.decide(suggester(trial))

    def architecture(self, decisions: Decisions) -> Architecture:
        """The architecture of these decisions: the inverse of ``architecture.decisions``.

        Raises SpaceError for a decision that is missing, unknown, not active, or has no such option.
        """

        def choose(key: str, _: Hole) -> Scalar:
            if key not in decisions:
                raise SpaceError(f"the decision {key} is missing", expected="a value for every active decision")
            return decisions[key]

        architecture = self.decide(choose)
        for key in decisions:
            if key not in architecture.decisions:
                known = "is not active here" if key in self.holes else "is unknown"
                raise SpaceError(f"the decision {key} {known}", hint=nearest(key, architecture.decisions))
        return architecture

    def find(self, architecture: Architecture, *, outputs: bool = True) -> Architecture | None:
        """The member of this space with the cells of ``architecture`` (or its network, where that is open), or None.

        ``outputs=False`` takes a cell that puts out other states for the same: the released cells of NASNet-A and
        AmoebaNet put out some states that they also read, which the rule of their papers does not say.
        """
        decisions = find_decisions(self.spec, architecture.spec, outputs=outputs)
        return None if decisions is None else self.architecture(decisions)

    def contains(self, architecture: Architecture) -> bool:
        """Whether :meth:`find` finds it, outputs included."""
        return self.find(architecture) is not None

    def complete(self, decisions: Decisions, rng: random.Random) -> Architecture:
        """The architecture that keeps those of ``decisions`` that are active and valid and draws the others."""

        def choose(key: str, hole: Hole) -> Scalar:
            if key in decisions and valid(hole, decisions[key]):
                return decisions[key]
            return draw(hole, rng)

        return self.decide(choose)

    def enumerate(self) -> Iterator[Architecture]:
        """Every architecture, by its decisions, in the order of the options."""
        return (self.architecture(decisions) for decisions in plans.enumerate_decisions(self.plan))


def draw(hole: Hole, rng: random.Random) -> Scalar:
    """A label drawn uniformly; of a log range, the value nearest to a number whose logarithm is."""
    if isinstance(hole, Choice):
        return hole.labels[int(rng.random() * len(hole.labels))]
    share = rng.random()
    if hole.count is not None and not hole.log:
        return hole.value(int(share * hole.count))
    number = hole.low * (hole.high / hole.low) ** share if hole.log else hole.low + (hole.high - hole.low) * share
    if hole.count is None:
        return float(min(max(number, hole.low), hole.high))
    return hole.value(min(round((number - hole.low) / (hole.step or 1)), hole.count - 1))


def valid(hole: Hole, label: Any) -> bool:
    """Whether the hole has that label."""
    if isinstance(hole, Choice):
        return any(known == label and type(known) is type(label) for known in hole.labels)
    return hole.contains(label)


def _trusted(spec: Spec, decisions: dict[str, Scalar]) -> Architecture:
    """An architecture whose spec the walk has just filled: checking it again would cost more than making it."""
    architecture = object.__new__(Architecture)
    object.__setattr__(architecture, "spec", spec)
    object.__setattr__(architecture, "decisions", decisions)
    return architecture
