"""Mutation, crossover and neighbours over every bundled space, and over small ones where all is known."""

from __future__ import annotations

import itertools
import random
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas.errors import SpaceError, UsageError
from nas.net.graph import Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search import vary
from nas.search.vary import crossover, mutate, neighbors, others
from nas.space.parse import parse_text
from nas.space.search_space import Architecture, SearchSpace, valid
from nas.space.spec import Choice, Range
from tests.pages import SPACE_FILES
from tests.pages import space as bundled
from tests.search.spaces import CONDITIONAL

SMALL = Size(depth=0.01)
"""One cell a stack: the same decisions, lowered quickly."""


@cache
def conditional() -> SearchSpace:
    return SearchSpace(parse_text(CONDITIONAL))


SPACES = {**{file.stem: lambda stem=file.stem: bundled(stem) for file in SPACE_FILES}, "conditional": conditional}
everywhere = pytest.mark.parametrize("name", SPACES)
seeds = st.integers(0, 2**32)


def rng_of(seed: int) -> random.Random:
    return random.Random(seed)


def is_member(space: SearchSpace, architecture: Architecture) -> bool:
    return space.architecture(architecture.decisions) == architecture and identity(lower(architecture, SMALL)) != ""


@everywhere
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_a_mutant_is_valid_and_another_network(name: str, seed: int) -> None:
    space, rng = SPACES[name](), rng_of(seed)
    parent = space.sample(rng)
    for _ in range(3):
        child = mutate(space, parent, rng, SMALL)
        assert is_member(space, child)
        assert identity(lower(child, SMALL)) != identity(lower(parent, SMALL))
        parent = child


@everywhere
@settings(max_examples=8, deadline=None)
@given(seed=seeds)
def test_a_child_has_its_parents_decisions(name: str, seed: int) -> None:
    space, rng = SPACES[name](), rng_of(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = crossover(space, a, b, rng, SMALL)
    assert is_member(space, child)
    for key, label in child.decisions.items():
        inherited = [p.decisions[key] for p in (a, b) if key in p.decisions]
        assert not inherited or label in inherited
    assert crossover(space, a, a, rng, SMALL) == a


@everywhere
@settings(max_examples=3, deadline=None)
@given(seed=seeds)
def test_neighbors_differ_in_one_decision(name: str, seed: int) -> None:
    space = SPACES[name]()
    architecture = space.sample(rng_of(seed))
    own = architecture.decisions
    for neighbor in itertools.islice(neighbors(space, architecture, SMALL), 60):
        assert is_member(space, neighbor)
        common = own.keys() & neighbor.decisions.keys()
        assert sum(own[key] != neighbor.decisions[key] for key in common) == 1


def test_seeds_decide() -> None:
    space = conditional()
    a, b = (space.sample(rng_of(seed)) for seed in (1, 2))
    assert [mutate(space, a, rng_of(3)) for _ in range(2)] == [mutate(space, a, rng_of(3))] * 2
    assert crossover(space, a, b, rng_of(4)) == crossover(space, a, b, rng_of(4))
    assert list(neighbors(space, a)) == list(neighbors(space, a))


def test_crossover_mixes() -> None:
    space = bundled("nas_bench_201")
    a, b = (space.architecture(dict.fromkeys(space.holes, label)) for label in ("nor_conv_3x3", "avg_pool_3x3"))
    children = {tuple(crossover(space, a, b, rng_of(seed), SMALL).decisions.values()) for seed in range(40)}
    assert len(children) > 25


def test_neighbors_are_all_there_are() -> None:
    """Six edges of five operations: 24, in the order of edges and labels."""
    space = bundled("nas_bench_201")
    architecture = space.sample(rng_of(0))
    found = [n.decisions for n in neighbors(space, architecture, SMALL)]
    expected = [{**architecture.decisions, key: label} for key, hole in space.holes.items() if isinstance(hole, Choice)
                for label in hole.labels if label != architecture.decisions[key]]  # fmt: skip
    assert found == expected
    assert len(found) == 24


def test_what_becomes_active_has_its_first_label() -> None:
    space = conditional()
    start = {"network.stem.out_channels": 8, "network.body": "plain", "kernel": 1, "network.only.kernel_size": 3}
    found = [n.decisions for n in neighbors(space, space.architecture(start)) if n.decisions["network.body"] == "mobile"]
    assert [{k: v for k, v in d.items() if k not in start} for d in found] == [
        {"network.body=mobile.expansion": 1, "network.body=mobile.kernel_size": 3, "network.body=mobile.se_ratio": 0.0}
    ]


PICKY = """
name: picky
input: [3, 8, 8]
network:
  - choice:
      keep: []
      shrink: {op: avg_pool, kernel_size: {choice: [9, 3]}, stride: {range: [1, 2]}, padding: 0}
      never: {op: avg_pool, kernel_size: 9, padding: 0}
  - {op: conv_bn, out_channels: 4}
"""


def test_only_what_can_be_lowered_is_a_neighbor_or_a_mutant() -> None:
    space = SearchSpace(parse_text(PICKY))
    keep = space.architecture({"network.choice": "keep"})
    (only,) = neighbors(space, keep)
    assert only.decisions["network.choice=shrink.kernel_size"] == 3
    for seed in range(20):
        child = mutate(space, keep, rng_of(seed))
        assert child.decisions["network.choice=shrink.kernel_size"] == 3
        assert is_member(space, crossover(space, keep, child, rng_of(seed)))


def test_crossover_falls_back_on_a_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    space = conditional()
    a, b = (space.sample(rng_of(seed)) for seed in (1, 2))
    monkeypatch.setattr(vary, "name_of", lambda *known: None)
    assert crossover(space, a, b, rng_of(0)) is a


def test_a_plateau_is_left() -> None:
    """Either decision alone leaves the network as it is; both together make another one."""
    space = SearchSpace(parse_text("""
name: plateau
network:
  - {name: a, choice: [identity, conv_bn]}
  - {name: b, op: relu, from: {choice: [x, a]}}
"""))
    parent = space.architecture({"network.a": "identity", "network.b.from": "x"})
    assert {identity(lower(n)) for n in neighbors(space, parent)} == {identity(lower(parent))}
    assert mutate(space, parent, rng_of(0)).decisions == {"network.a": "conv_bn", "network.b.from": "a"}


@pytest.mark.parametrize("page", [
    "name: one\nnetwork: [{op: conv_bn, kernel_size: {choice: [3]}}]",
    "name: one\nnetwork: [{op: relu, from: {choice: [-1, x]}}]",
])  # fmt: skip
def test_a_space_of_one_network_has_no_mutant(page: str) -> None:
    space = SearchSpace(parse_text(page))
    with pytest.raises(SpaceError, match="no other network"):
        mutate(space, space.sample(rng_of(0)), rng_of(1))


def test_a_page_written_out_is_found_in_the_space_first() -> None:
    space = bundled("nas_bench_201")
    member = space.sample(rng_of(0))
    written = Architecture(member.spec)
    assert next(neighbors(space, written, SMALL)) == next(neighbors(space, member, SMALL))
    assert mutate(space, written, rng_of(0), SMALL) == mutate(space, member, rng_of(0), SMALL)
    with pytest.raises(SpaceError, match="no member"):
        mutate(space, Architecture(parse_text("name: x\nnetwork: [relu]")), rng_of(0))


@given(label=st.floats(0.1, 10.0), log=st.booleans())
def test_some_labels_of_a_continuous_range(label: float, log: bool) -> None:
    hole = Range(low=0.1, high=10.0, log=log)
    found = list(others(hole, label))
    assert label not in found
    assert 1 <= len(found) <= 4
    assert all(valid(hole, other) for other in found)


def test_labels_of_a_whole_range() -> None:
    assert list(others(Range(low=8, high=32, step=8), 16)) == [8, 24, 32]


LIMITED = """
name: limited
constraints: ["num_params<=1K", "macs>=20K", "latency<=1ms"]
input: [3, 8, 8]
network:
  - {repeat: {choice: [1, 2, 3]}, op: conv_bn, kernel_size: {choice: [1, 3, 5]}, out_channels: {range: [2, 16], step: 2}}
  - {op: conv_bn_1x1, out_channels: {range: [2, 16], step: 2}}
  - global_avg_pool
  - classifier
"""


@cache
def limited() -> SearchSpace:
    return SearchSpace(parse_text(LIMITED))


def keeps_limits(architecture: Architecture, size: Size = vary.AS_WRITTEN) -> bool:
    graph = lower(architecture, size)
    return graph.num_params <= 1000 and graph.macs >= 20_000


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_what_varies_keeps_the_limits_of_the_page(seed: int) -> None:
    space, rng = limited(), rng_of(seed)
    a, b = vary.sample(space, rng), vary.sample(space, rng)
    child = mutate(space, a, rng)
    assert all(map(keeps_limits, [a, b, child, mutate(space, child, rng), crossover(space, a, b, rng)]))
    assert all(map(keeps_limits, neighbors(space, a)))
    assert not all(keeps_limits(space.sample(rng)) for _ in range(100))


def test_limits_hold_at_the_size_that_is_asked_for() -> None:
    large, rng = Size(input=(3, 16, 16)), rng_of(0)
    found = [vary.sample(limited(), rng, large) for _ in range(20)]
    assert all(keeps_limits(architecture, large) for architecture in found)
    assert not all(keeps_limits(architecture) for architecture in found)


def test_limits_that_nothing_can_keep() -> None:
    space = SearchSpace(parse_text(LIMITED.replace("num_params<=1K", "num_params<=10")))
    with pytest.raises(SpaceError, match="keeps its limits"):
        vary.sample(space, rng_of(0))


def test_a_limit_that_is_none() -> None:
    space = SearchSpace(parse_text(LIMITED.replace("num_params<=1K", "few params")))
    with pytest.raises(UsageError, match="not a limit"):
        vary.sample(space, rng_of(0))
