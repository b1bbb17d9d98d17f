"""Decisions as sequences of small whole numbers: what neural models of architectures read and write."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from nas.search.samplers.structure import trivial
from nas.space.decide import Decisions
from nas.space.search_space import SearchSpace, valid
from nas.space.spec import Choice, Hole, Scalar

BINS = 16
"""A continuous range, and one of more than twice as many values, is cut into so many parts."""


class Token(NamedTuple):
    """A label: the ``slot`` of its decision, and its ``place`` among that decision's ``size`` tokens."""

    slot: int
    place: int
    size: int


class Tokens:
    """The tokens of a space. Decisions with a single label are left out: they say nothing.

    ``slots`` numbers the decisions, ``counts`` says how many tokens each slot has, ``starts`` where a slot's tokens begin in
    a row of all ``total`` tokens.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        counts = {key: _count(hole) for key, hole in space.holes.items()}
        self.slots = {key: slot for slot, key in enumerate(key for key, count in counts.items() if count > 1)}
        self.counts = [counts[key] for key in self.slots]
        self._flat = not any(decision.below for decision in space.plan)
        *self.starts, self.total = accumulate(self.counts, initial=0)

    def sequence(self, decisions: Decisions, rng: random.Random) -> list[Token]:
        """The tokens of :meth:`whole`."""
        return [self.token(key, label) for key, label in self.whole(decisions, rng).items() if key in self.slots]

    def whole(self, decisions: Decisions, rng: random.Random) -> Decisions:
        """Active decisions in the order they are asked for; what is missing or has no such label is drawn."""
        holes = self.space.holes
        if self._flat and all(key in decisions and valid(hole, decisions[key]) for key, hole in holes.items()):
            return {key: decisions[key] for key in holes}  # as the space would: all are active; it takes five times as long
        return self.space.complete(decisions, rng).decisions

    def rows(self, architectures: Sequence[Decisions]) -> np.ndarray:
        """Each architecture's decisions as a row of zeros and, for its tokens, ones: architectures x total."""
        table = np.zeros((len(architectures), self.total), dtype=np.float32)
        for row, decisions in zip(table, architectures, strict=True):
            tokens = (self.token(key, label) for key, label in decisions.items() if key in self.slots)
            row[[self.starts[token.slot] + token.place for token in tokens]] = 1.0
        return table

    def token(self, key: str, label: Scalar) -> Token:
        """The token of a label."""
        hole, slot = self.space.holes[key], self.slots[key]
        count = self.counts[slot]
        if isinstance(hole, Choice):
            return Token(slot, hole.labels.index(label), count)
        return Token(slot, min(int(_share(hole, label) * count), count - 1), count)

    def label(self, key: str, index: int, rng: random.Random) -> Scalar:
        """The label of a token; of a part of a range, a value drawn from that part; a decision without tokens has one label."""
        if key not in self.slots:
            return trivial(self.space.holes[key])
        hole, count = self.space.holes[key], self.counts[self.slots[key]]
        if isinstance(hole, Choice):
            return hole.labels[index]
        if hole.count == count:
            return hole.value(index)
        share = (index + rng.random()) / count
        number = hole.low * (hole.high / hole.low) ** share if hole.log else hole.low + (hole.high - hole.low) * share
        if hole.count is None:
            return float(min(max(number, hole.low), hole.high))
        return hole.value(min(round((number - hole.low) / (hole.step or 1)), hole.count - 1))


def _count(hole: Hole) -> int:
    if isinstance(hole, Choice):
        return len(hole.labels)
    if hole.low == hole.high:
        return 1
    return hole.count if hole.count is not None and hole.count <= 2 * BINS else BINS


def _share(hole: Hole, label: Scalar) -> float:
    """Where in a range a value is, from 0 to 1; of few values, in the middle of its part."""
    assert not isinstance(hole, Choice)
    value = float(label or 0)
    if hole.count is not None and hole.count <= 2 * BINS:
        return (round((value - hole.low) / (hole.step or 1)) + 0.5) / hole.count
    if hole.log:
        return math.log(value / hole.low) / math.log(hole.high / hole.low)
    return (value - hole.low) / (hole.high - hole.low)
