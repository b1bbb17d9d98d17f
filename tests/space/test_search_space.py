"""Sampling, replaying and completing architectures."""

from __future__ import annotations

import copy
import json
import pickle
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from nas.errors import SpaceError
from nas.space.parse import parse_file, parse_page
from nas.space.search_space import Architecture, SearchSpace, draw, valid
from nas.space.spec import Choice, Hole, Range
from tests.space.pages import BUNDLED, pages

MODEST = settings(max_examples=30, deadline=None, derandomize=True)


def make_space(*layers: Any) -> SearchSpace:
    return SearchSpace(parse_page({"name": "s", "network": list(layers)}))


CONV = {"op": "conv_bn", "kernel_size": {"choice": [1, 3]}}
SMALL = make_space({"name": "a", "choice": {"conv": CONV, "skip": "identity"}}, {"op": "dropout", "p": {"range": [0.0, 0.5]}})


@MODEST
@given(pages())
def test_decisions_and_architectures_are_inverses(page: dict[str, Any]) -> None:
    space = SearchSpace(parse_page(page))
    for seed in range(3):
        sample = space.sample(random.Random(seed))
        assert set(sample.decisions) <= set(space.holes)
        assert space.architecture(sample.decisions) == sample
        stored = json.loads(json.dumps(dict(sample.decisions)))
        assert space.architecture(stored) == sample
        Architecture(sample.spec)


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_bundled_spaces(path: Path) -> None:
    space = SearchSpace(parse_file(path))
    assert space.size() > 1
    sample = space.sample(random.Random(1))
    assert space.architecture(sample.decisions) == sample == space.sample(random.Random(1))
    assert all(valid(space.holes[key], label) for key, label in sample.decisions.items())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda space: pickle.loads(pickle.dumps(space))])
def test_a_copied_space_has_the_same_holes(copied: Any) -> None:
    twin = copied(SMALL)
    assert list(twin.holes) == list(SMALL.holes)
    assert twin.sample(random.Random(3)) == SMALL.sample(random.Random(3))
    assert twin.sample(random.Random(3)).decisions
    assert copied(SMALL.sample(random.Random(3))) == SMALL.sample(random.Random(3))


@pytest.mark.parametrize(("decisions", "said"), [
    ({"network.a": "conv", "network.dropout.p": 0.1}, "the decision network.a=conv.kernel_size is missing"),
    ({"network.a": "skip", "network.a=conv.kernel_size": 3, "network.dropout.p": 0.1}, "is not active here"),
    ({"network.a": "skip", "network.dropuot.p": 0.1, "network.dropout.p": 0.1}, "unknown. Did you mean 'network.dropout.p'"),
    ({"network.a": "pool", "network.dropout.p": 0.1}, "no such option for network.a; expected one of 'conv', 'skip'; got 'pool'"),
    ({"network.a": "skip", "network.dropout.p": 0.6}, "out of range for network.dropout.p; expected 0.0 to 0.5; got 0.6"),
])  # fmt: skip
def test_decisions_that_do_not_fit_are_told(decisions: dict[str, Any], said: str) -> None:
    with pytest.raises(SpaceError) as caught:
        SMALL.architecture(decisions)
    assert said in str(caught.value)


def test_completing_keeps_what_fits_and_draws_the_rest() -> None:
    given_ = {"network.a": "conv", "network.a=conv.kernel_size": 7, "network.dropout.p": 0.25, "unknown": 1}
    made = {SMALL.complete(given_, random.Random(seed)).decisions["network.a=conv.kernel_size"] for seed in range(20)}
    assert made == {1, 3}
    assert SMALL.complete(given_, random.Random(0)).decisions["network.dropout.p"] == 0.25


def test_a_space_is_no_architecture() -> None:
    with pytest.raises(SpaceError, match="still has decisions to make"):
        Architecture(SMALL.spec)
    assert SMALL.sample(random.Random(0)).name == SMALL.name == "s"


@pytest.mark.parametrize("hole", [
    Choice(options=(1, 2, 3), labels=(1, 2, 3)), Range(low=1, high=4), Range(low=1, high=7, step=3),
    Range(low=0.0, high=1.0, step=0.5),
    Range(low=-1.0, high=1.0), Range(low=1e-4, high=1e-1, log=True), Range(low=1, high=1000, log=True),
    Range(low=8, high=64, step=8, log=True), Range(low=2, high=2), Range(low=1, high=10**12),
])  # fmt: skip
def test_what_is_drawn_is_a_label(hole: Hole) -> None:
    rng = random.Random(0)
    drawn = [draw(hole, rng) for _ in range(200)]
    assert all(valid(hole, label) for label in drawn)
    if isinstance(hole, Choice) or hole.count is not None:
        assert {type(label) for label in drawn} <= {int} if isinstance(hole, Choice) or hole.whole else {float}


def test_draws_are_even() -> None:
    rng = random.Random(0)
    counts = Counter(draw(Range(low=1, high=4), rng) for _ in range(4000))
    assert all(900 < counts[value] < 1100 for value in (1, 2, 3, 4))
    logs = [draw(Range(low=1.0, high=100.0, log=True), rng) for _ in range(2000)]
    assert 900 < sum(isinstance(v, float) and v < 10 for v in logs) < 1100
