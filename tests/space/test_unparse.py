"""Unparsing is parsing's inverse, for spaces and for architectures, through plain values and through YAML text."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from nas.space.parse import parse_file, parse_page, parse_text
from nas.space.search_space import SearchSpace
from nas.space.spec import Op, Spec, has_holes
from nas.space.unparse import to_page, to_yaml
from tests.space.pages import ALL_BUNDLED, pages

MODEST = settings(max_examples=30, deadline=None, derandomize=True)


def check_round_trip(spec: Spec) -> None:
    assert parse_page(to_page(spec)) == spec
    assert parse_text(to_yaml(spec)) == spec


@MODEST
@given(pages())
def test_random_pages_and_their_samples_survive(page: dict[str, Any]) -> None:
    space = SearchSpace(parse_page(page))
    check_round_trip(space.spec)
    for seed in range(3):
        check_round_trip(space.sample(random.Random(seed)).spec)


@pytest.mark.parametrize("path", ALL_BUNDLED, ids=lambda path: path.stem)
def test_bundled_pages_and_their_samples_survive(path: Path) -> None:
    spec = parse_file(path)
    check_round_trip(spec)
    if has_holes(spec):
        sample = SearchSpace(spec).sample(random.Random(0)).spec
        check_round_trip(sample)
        assert parse_page(json.loads(json.dumps(to_page(sample)))) == sample


EACH = {"op": "conv_bn", "kernel_size": {"choice": [1, 3]}}


EVERY_WORD: list[Any] = [
    {"repeat": 2, "each": {"layers": [EACH, "relu"]}},
    {"repeat": 2, "each": ["relu", EACH]},
    {"repeat": {"choice": [0, 1]}, "layers": ["relu"], "from": "x"},
    {"repeat": 2, "op": "conv_bn", "first": {"stride": 2, "from": ["x"]}},
    {"layers": [{"name": "a", "op": "relu"}, {"op": "add", "from": ["a", -1]}]},
    {"branches": [{"name": "left", "op": "relu"}, "identity"], "combine": "add", "match": {"op": "conv_bn", "kernel_size": 1}},
    {"op": "add", "from": {"choice": [["x", -1], ["x"]], "share": "s"}},
    {"op": "add", "from": {"choice": {"subset": 2, "of": ["x", "stem"]}, "share": "s"}},
    {"op": "add", "from": ["x", {"optional": ["stem"]}]},
    {"op": "conv_bn", "kernel_size": {"choice": [[1, 3], 3]}, "scale": False},
    {"op": "dropout", "p": {"range": [0.1, 0.5], "log": True, "share": "p"}},
    {"choice": {"yes": "relu", "on": "identity", "1e3": EACH}},
    {"op": {"choice": ["conv_bn", "identity"]}, "stride": 1},
]  # fmt: skip

CELL = {"inputs": {"a": {"project": "calibrate"}, "b": {"absent": "raw"}}, "layers": [{"op": "add", "from": ["a", "b"]}],
        "output": ["add", {"choice": ["a", "none"]}], "combine": {"choice": ["add", "concat"]}, "stride": 2,
        "match": None, "match_output": "conv_bn"}  # fmt: skip

WHOLE_PAGE = {
    "name": "s", "source": "us", "reference": "them", "input": [1, 8, 9], "num_classes": 3, "constraints": ["macs<=1M"],
    "scaling": {"phi": {"range": [0, 3]}, "alpha": 1.2, "resolution": {"choice": [8, 9]}, "divisor": 4},
    "cells": {"c": CELL}, "network": [{"cell": "c", "channels": {"choice": [4, 8]}, "stride": 1}],
}  # fmt: skip


@pytest.mark.parametrize("layer", EVERY_WORD, ids=range(len(EVERY_WORD)))
def test_every_word_survives(layer: Any) -> None:
    check_round_trip(parse_page({"name": "s", "network": [{"name": "stem", "op": "relu"}, layer]}))


def test_what_belongs_to_the_page_survives() -> None:
    check_round_trip(parse_page(WHOLE_PAGE))


def test_what_is_no_node_is_refused() -> None:
    spec = parse_page({"name": "s", "network": ["relu"]})
    layers = spec.network.layers
    object.__setattr__(layers[0], "body", 3)
    with pytest.raises(TypeError, match="not a node: 3"):
        to_page(spec)
    object.__setattr__(layers[0], "body", Op(name="relu"))
    assert to_page(spec)["network"] == [{"name": "relu", "op": "relu"}]
