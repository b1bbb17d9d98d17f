"""The schema of pages: the committed file is the generated one, and it never contradicts the parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings

from nas.space.schema import make_schema, schema_text
from tests.space.pages import ALL_BUNDLED, ROOT, pages
from tests.space.test_parse import HEAD, MISTAKES
from tests.space.test_unparse import EVERY_WORD, WHOLE_PAGE

FILE = ROOT / "search_spaces" / "space.schema.json"
VALIDATOR = jsonschema.Draft7Validator(make_schema())

BEYOND = {
    "two layers of one name", "a layer's name is taken", "unknown source", "a subset larger than its set",
    "a branch's name is taken", "two options of one label", "this option needs a label", "a label is part of a path",
    "the range is upside down", "a step is above 0", "each: .* lists one body a repetition", "a repeat of a repeat",
    "first: changes words of an operation", "unknown word in the first repetition", "a cell's name is taken",
    "cell c has no layers", "cell c has blocks and layers", "blocks need operations", "too many", "inputs of different names",
    "cell c is like an unknown cell", "cell c is like itself", "cell a is like itself",
}  # fmt: skip
"""Mistakes that take more than a look at one place: the parser alone tells them."""

MIXED = {"unknown cell", "repeat is a whole number", "unknown source", "kernel_size has the wrong kind", "a step is above 0",
         "unknown word in the operation conv_bn", "unknown word in the operation relu", "stride has the wrong kind"}  # fmt: skip
"""Mistakes that the schema sees in a value, but not in a range, in ``first:`` or among names."""


def accepts(page: Any) -> bool:
    return bool(VALIDATOR.is_valid(json.loads(json.dumps(page))))


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(make_schema())


def test_the_committed_file_is_the_generated_one() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "python -m nas.space.schema > search_spaces/space.schema.json"


@pytest.mark.parametrize("path", ALL_BUNDLED, ids=lambda path: path.stem)
def test_bundled_pages_are_accepted(path: Path) -> None:
    errors = list(VALIDATOR.iter_errors(json.loads(json.dumps(yaml.safe_load(path.read_text())))))
    assert errors == []


@settings(max_examples=25, deadline=None, derandomize=True)
@given(pages())
def test_random_pages_are_accepted(page: dict[str, Any]) -> None:
    assert accepts(page)


@pytest.mark.parametrize("layer", EVERY_WORD, ids=range(len(EVERY_WORD)))
def test_every_word_is_accepted(layer: Any) -> None:
    assert accepts({"name": "s", "network": [{"name": "stem", "op": "relu"}, layer]})


def test_operations_of_plugins_are_accepted() -> None:
    layers = ["my_ops.py:MyOp", {"op": "lab:MyOp", "width": 3, "repeat": 2}, {"choice": ["my_ops.py:MyOp", "relu"]},
              {"branches": ["relu", "tanh"], "combine": "my_ops.py:MyOp", "match": "my_ops.py:MyOp"}]  # fmt: skip
    assert all(accepts({"name": "s", "network": [layer]}) for layer in layers)
    assert not accepts({"name": "s", "network": ["my_ops.py:"]})


def test_what_belongs_to_the_page_is_accepted() -> None:
    assert accepts(WHOLE_PAGE)


TOLD = [(text, said) for text, _, said, _ in MISTAKES if said not in MIXED]


@pytest.mark.parametrize(("text", "said"), TOLD, ids=range(len(TOLD)))
def test_mistakes_in_one_place_are_seen(text: str, said: str) -> None:
    assert accepts(yaml.safe_load(text)) == (said in BEYOND)


@pytest.mark.parametrize("layer", ["cnov", {"op": "conv_bn", "kernal_size": 3}, {"op": "conv_bn", "stride": "two"},
                                   {"op": "rleu"}, {"op": "conv_bn", "kernel_size": {"choice": [3, "x"]}}, {"branches": ["relu"]},
                                   3, {"repeat": 2, "each": "cnov"}, {"choice": ["cnov"]}, {"layers": ["cnov"]}])  # fmt: skip
def test_mistakes_in_a_layer_are_seen(layer: Any) -> None:
    assert accepts(yaml.safe_load(HEAD))
    assert not accepts({"name": "s", "network": ["relu", layer]})
