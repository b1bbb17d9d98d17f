"""Identity: spellings of one network get one name, different networks different ones."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from nas.net.graph import Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.ops import OPS
from nas.space.parse import parse_file, parse_page
from nas.space.search_space import Architecture, SearchSpace
from nas.space.unparse import to_page
from tests.net.nets import in_cell, lowered
from tests.space.pages import BUNDLED, pages

A = {"name": "a", "op": "conv_bn", "out_channels": 8}
B = {"name": "b", "op": "conv_bn", "kernel_size": 1, "out_channels": 8, "from": "x"}
TWIN = {"name": "b", "op": "conv_bn", "out_channels": 8, "from": "x"}
HEAD = ["global_avg_pool", "classifier"]


def join(op: str, *sources: str, name: str = "j") -> dict[str, Any]:
    return {"name": name, "op": op, "from": list(sources)}


def grouped(groups: int) -> dict[str, Any]:
    return {"op": "conv", "out_channels": 32, "groups": groups}


SAME: list[tuple[list[Any], list[Any]]] = [
    ([A, B, join("add", "a", "b")], [A, B, join("add", "b", "a")]),
    ([A, B, join("add", "a", "b")], [{**B, "name": "p"}, {**A, "name": "q", "from": "x"}, join("add", "q", "p", name="z")]),
    ([A, {**B, "name": "unread"}, {"op": "relu", "from": "a"}], [A, "relu"]),
    ([A, ["identity", "relu"]], [A, "relu"]),
    ([A, {"repeat": 2, "op": "relu"}], [A, "relu", "relu"]),
    ([A, B, join("add", "a", "b"), join("add", "j", "a", name="k")],
     [A, B, join("add", "a", "a"), join("add", "j", "b", name="k")]),
    # A weightless operation twice on one input is that operation once.
    ([A, "relu", {"op": "relu", "from": "a"}, join("add", "relu", "relu_2")], [A, "relu", join("add", "relu", "relu")]),
    # The classifier's weights can be relabelled.
    ([A, B, join("concat", "a", "b"), *HEAD], [A, B, join("concat", "b", "a"), *HEAD]),
    ([A, B, join("concat", "a", "b"), "relu", grouped(1)], [A, B, join("concat", "b", "a"), "relu", grouped(1)]),
]

DIFFERENT: list[tuple[list[Any], list[Any]]] = [
    ([A, join("add", "a", "a")], [A, TWIN, join("add", "a", "b")]),
    ([A, TWIN, join("add", "a", "b")], [A, B, join("add", "a", "b")]),
    ([A, "relu"], ["relu", A]),
    ([A], [A, "relu"]),
    ([A], [{**A, "out_channels": 4}]),
    ([A, {"op": "dropout", "p": 0.1}], [A, {"op": "dropout", "p": 0.2}]),
    ([A, "dropout", {"op": "dropout", "from": "a"}, join("add", "dropout", "dropout_2")],
     [A, "dropout", join("add", "dropout", "dropout")]),
    ([A, B, join("add", "a", "b"), "relu", join("add", "relu", "a", name="k")],
     [A, B, join("add", "a", "a"), "relu", join("add", "relu", "b", name="k")]),
    ([A, B, join("add", "a", "b"), join("add", "j", "j", name="k")],
     [A, B, join("add", "a", "b"), join("add", "j", "b", name="k")]),
    # The order of channels shows: in the result, in a sum, in groups.
    ([A, B, join("concat", "a", "b")], [A, B, join("concat", "b", "a")]),
    ([A, B, join("concat", "a", "b"), join("concat", "b", "b", name="k"), join("add", "j", "k", name="s"), *HEAD],
     [A, B, join("concat", "b", "a"), join("concat", "b", "b", name="k"), join("add", "j", "k", name="s"), *HEAD]),
    ([A, B, join("concat", "a", "b"), grouped(2)], [A, B, join("concat", "b", "a"), grouped(2)]),
    ([A, B, join("concat", "a", "b"), grouped(16), {**grouped(2), "out_channels": 8}],
     [A, B, join("concat", "b", "a"), grouped(16), {**grouped(2), "out_channels": 8}]),
    # Two weighted layers on one input, of which one or both are read twice.
    ([A, TWIN, {**A, "name": "c", "from": "a"}, {**A, "name": "d", "from": "a"}, join("concat", "c", "d", "b")],
     [A, TWIN, {**A, "name": "c", "from": "a"}, {**A, "name": "d", "from": "b"}, join("concat", "c", "d", "b")]),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME, ids=range(len(SAME)))
def test_spellings_of_one_network_are_equal(one: list[Any], other: list[Any]) -> None:
    assert identity(lowered(*one)) == identity(lowered(*other))


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_different_networks_differ(one: list[Any], other: list[Any]) -> None:
    assert identity(lowered(*one)) != identity(lowered(*other))


def test_where_layers_are_used_matters() -> None:
    """Two reads of one layer's future: the pairs differ although every layer has a twin of the same past."""
    stem = [A, TWIN, {**A, "name": "c", "from": "a"}, {"name": "p", "op": "conv_bn", "kernel_size": 1, "from": "a"}]
    straight = [*stem, join("add", "c", "p", name="s"), {"op": "add", "from": ["s", "b"]}]
    crossed = [*stem[:3], {**stem[3], "from": "b"}, join("add", "c", "p", name="s"), {"op": "add", "from": ["s", "b"]}]
    assert identity(lowered(*straight)) != identity(lowered(*crossed))


def test_cells_are_opened() -> None:
    cell = lowered({"cell": "c"}, cells={"c": {"layers": ["conv_bn", "relu"]}})
    assert identity(cell) == identity(lowered("conv_bn", "relu"))


def test_blocks_that_nothing_reads_do_not_count() -> None:
    block = {"name": "b0", "branches": ["conv_bn", "relu"], "combine": "add"}
    extra = {"name": "b1", "branches": ["conv_bn", "conv_bn"], "combine": "add"}
    assert identity(in_cell(block, output=["b0"])) == identity(in_cell(block, extra, output=["b0"]))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pages())
def test_parsing_again_does_not_change_identity(page: dict[str, Any]) -> None:
    sample = SearchSpace(parse_page(page)).sample(random.Random(0))
    again = Architecture(parse_page(to_page(sample.spec)))
    assert identity(lower(sample)) == identity(lower(again))


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_samples_differ_and_sizes_differ(path: Path) -> None:
    space = SearchSpace(parse_file(path))
    samples = [space.sample(random.Random(seed)) for seed in range(6)]
    small = Size(width=0.1, depth=0.2)
    assert len({identity(lower(sample, small)) for sample in samples}) > 1
    assert identity(lower(samples[0], small)) != identity(lower(samples[0], Size(width=0.1, depth=0.2, num_classes=3)))


def test_random_operations_are_known() -> None:
    from nas.net.identity import _RANDOM

    assert {"dropout"} <= _RANDOM & set(OPS)
