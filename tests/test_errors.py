"""Errors: what a user reads, how a place is added, that they travel between processes."""

from __future__ import annotations

import pickle

import pytest

from nas import errors
from nas.errors import NasError, ShapeError, SpaceError, nearest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, NasError)]


@pytest.mark.parametrize(("words", "text"), [
    ({}, "bad"),
    ({"where": "p.yaml:3"}, "p.yaml:3: bad"),
    ({"expected": "a word"}, "bad; expected a word"),
    ({"got": "x"}, "bad; got 'x'"),
    ({"got": 3}, "bad; got 3"),
    ({"got": 0}, "bad; got 0"),
    ({"hint": "Write y."}, "bad. Write y."),
    ({"where": "p", "expected": "e", "got": "g", "hint": "H."}, "p: bad; expected e; got 'g'. H."),
    ({"where": "p:1", "path": "network.a"}, "p:1: network.a: bad"),
    ({"path": "network.a"}, "network.a: bad"),
])  # fmt: skip
def test_the_text_says_where_what_and_what_to_write(words: dict[str, str], text: str) -> None:
    assert str(NasError("bad", **words)) == text


def test_the_first_place_is_the_exact_one() -> None:
    error = NasError("bad")
    assert error.at("p:1") is error
    assert error.at("p:2").where == "p:1"


def test_the_first_path_is_the_longest_one() -> None:
    error = NasError("bad", where="p:1")
    assert error.along("network.a.b") is error
    assert str(error.along("network.a")) == "p:1: network.a.b: bad"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_survives_pickling(kind: type[NasError]) -> None:
    error = kind("bad", where="p:1", expected="e", got=[1], hint="H.").at("p:2").along("network.a")
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is kind
    assert str(twin) == str(error)
    assert twin.got == [1]


def test_a_wrong_shape_is_a_wrong_page() -> None:
    assert issubclass(ShapeError, SpaceError)


@pytest.mark.parametrize(("word", "hint"), [
    ("cnov", "Did you mean 'conv'?"), ("se", "Did you mean 'sep_conv'?"), ("xyz", None), ("", "Did you mean 'conv'?"),
])  # fmt: skip
def test_nearest(word: str, hint: str | None) -> None:
    assert nearest(word, iter(["conv", "sep_conv", "pool"])) == hint
