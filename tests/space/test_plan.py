"""Counting and listing, held against an exhaustive replay of the traversal itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nas.errors import SpaceError
from nas.space import plan
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace
from nas.space.spec import Choice, Hole, Scalar
from tests.space.pages import pages

MODEST = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.filter_too_much], derandomize=True)


def make_space(*layers: Any, **words: Any) -> SearchSpace:
    return SearchSpace(parse_page({"name": "s", "network": list(layers), **words}))


def replay_all(space: SearchSpace) -> list[dict[str, Scalar]]:
    """Every set of decisions, found by asking ``decide`` again and again, each time with the next script of answers."""
    found, script = [], []
    while True:
        asked: list[tuple[int, int]] = []

        def choose(_: str, hole: Hole, asked: list[tuple[int, int]] = asked, script: list[int] = script) -> Scalar:
            labels = hole.labels if isinstance(hole, Choice) else hole.values()
            index = script[len(asked)] if len(asked) < len(script) else 0
            asked.append((index, len(labels)))
            return labels[index]

        found.append(dict(space.decide(choose).decisions))
        while asked and asked[-1][0] + 1 == asked[-1][1]:
            asked.pop()
        if not asked:
            return found
        script = [*(index for index, _ in asked[:-1]), asked[-1][0] + 1]


@MODEST
@given(pages())
def test_counting_and_listing_agree_with_exhaustive_replay(page: dict[str, Any]) -> None:
    space = SearchSpace(parse_page(page))
    size = space.size()
    assume(size <= 200)
    expected = {tuple(sorted(decisions.items())) for decisions in replay_all(space)}
    listed = [tuple(sorted(architecture.decisions.items())) for architecture in space.enumerate()]
    assert len(listed) == len(set(listed)) == size
    assert set(listed) == expected


def conv(kernel_size: Any = 3, **words: Any) -> dict[str, Any]:
    return {"op": "conv_bn", "kernel_size": kernel_size, **words}


def test_conditional_decisions_add_and_independent_ones_multiply() -> None:
    space = make_space({"choice": {"a": conv({"choice": [1, 3, 5]}), "b": "relu"}}, conv({"choice": [1, 3]}))
    assert space.size() == (3 + 1) * 2
    assert list(space.holes) == ["network.choice", "network.choice=a.kernel_size", "network.conv_bn.kernel_size"]


def test_a_shared_decision_counts_once() -> None:
    shared = {"choice": [1, 3, 5], "share": "k"}
    space = make_space(conv(shared), conv(shared), conv({"choice": [1, 3]}))
    assert space.size() == 6
    assert list(space.holes) == ["k", "network.conv_bn_3.kernel_size"]


def test_a_shared_decision_below_different_options_counts_once_where_it_is_active() -> None:
    shared = {"choice": [1, 3], "share": "k"}
    options = {"a": conv(shared), "b": "relu"}
    assert make_space({"choice": options}, {"choice": options}).size() == 1 + 3 * 2


def test_what_depends_on_a_shared_decision_is_counted_at_every_place() -> None:
    body = {"choice": {"plain": "relu", "conv": conv({"choice": [1, 3]})}, "share": "body"}
    assert make_space(body, body).size() == 1 + 2 * 2


def test_many_shared_names_are_counted_at_once() -> None:
    layers = [conv({"choice": [1, 3, 5, 7], "share": f"k{i % 40}"}) for i in range(80)]
    assert make_space(*layers).size() == 4**40


def test_a_space_larger_than_any_float_is_counted_exactly() -> None:
    layers = [{"repeat": 600, "each": conv({"choice": [1, 3, 5, 7]})}]
    assert make_space(*layers).size() == 4**600


def test_repeat_counts_each_or_one_body() -> None:
    hole = conv({"choice": [1, 3]})
    assert make_space({"repeat": {"choice": [0, 1, 3]}, "each": hole}).size() == 1 + 2 + 8
    assert make_space({"repeat": {"choice": [1, 3]}, **hole}).size() == 4


def test_a_continuous_range_makes_the_size_infinite_and_listing_impossible() -> None:
    space = make_space({"op": "dropout", "p": {"range": [0.0, 0.5]}})
    assert space.size() == math.inf
    with pytest.raises(SpaceError, match=r"network\.dropout\.p is continuous"):
        list(space.enumerate())


def test_a_huge_range_is_not_unfolded() -> None:
    space = make_space(conv(out_channels={"range": [1, 10**9]}))
    assert space.size() == 10**9
    assert [a.decisions["network.conv_bn.out_channels"] for a, _ in zip(space.enumerate(), range(2), strict=False)] == [1, 2]


def test_listing_does_not_recurse() -> None:
    space = make_space(*({"repeat": 600, "each": conv({"choice": [1, 3]})} for _ in range(2)))
    assert len(next(space.enumerate()).decisions) == 1200


@pytest.mark.parametrize(("layers", "said"), [
    ([conv({"choice": [1, 3], "share": "k"}), conv({"choice": [1, 5], "share": "k"})], "two different sets of options"),
    ([{"repeat": 20, "each": {"layers": [{"repeat": 20, "each": conv({"choice": [1, 3]})}]}}], "too many decisions"),
])  # fmt: skip
def test_impossible_spaces_are_refused(layers: list[Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MAX_DECISIONS", 399)
    with pytest.raises(SpaceError, match=said):
        make_space(*layers)


def test_two_decisions_of_one_key_are_refused() -> None:
    branches = [{"name": "a", "op": "conv_bn", "kernel_size": {"choice": [1, 3]}}]
    page = {"name": "s", "network": [{"name": "l", "choice": {"a": {"branches": branches, "combine": "add"}}}]}
    spec = parse_page(page)
    layer = spec.network.layers[0]
    twin = type(spec.network)(layers=(layer, parse_page(page).network.layers[0]))
    with pytest.raises(SpaceError, match="two decisions are called"):
        SearchSpace(type(spec)(name="s", network=twin))
