"""What kinds of values an operation's words take, read from the annotations of its sketch.

Known annotations are int, float, bool, str, None, ``Literal``, tuples and unions of them; others take any value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from nas.errors import SpaceError
from nas.ops.catalogue import OpSpec, SketchFunction

_SAID = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", type(None): "null"}


def kinds(spec: OpSpec) -> Mapping[str, Any]:
    """The annotation of every word of an operation."""
    hints = _hints(spec.sketch)
    return {word: hints.get(word, Any) for word in (*spec.required, *spec.defaults)}


@cache
def _hints(sketch: SketchFunction) -> Mapping[str, Any]:
    return get_type_hints(sketch)


def check_words(spec: OpSpec, words: Mapping[str, Any]) -> None:
    """Raises SpaceError for a word that the operation does not have, or whose value is of another kind."""
    known = kinds(spec)
    for word, value in words.items():
        if word not in known:
            raise SpaceError(f"unknown word of {spec.name}", expected="one of " + ", ".join(known), got=word)
        if not fits(value, known[word]):
            raise SpaceError(f"{word} of {spec.name} has the wrong kind of value", expected=say(known[word]), got=value)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of that kind. A bool is no number, a whole number is also a number, numbers are finite."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if origin is tuple:
        return isinstance(value, tuple) and _fit_items(value, parts)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and math.isfinite(value)
    return not isinstance(kind, type) or isinstance(value, kind)


def _fit_items(values: tuple[Any, ...], parts: tuple[Any, ...]) -> bool:
    if len(parts) == 2 and parts[1] is ...:
        return all(fits(value, parts[0]) for value in values)
    return len(values) == len(parts) and all(fits(v, p) for v, p in zip(values, parts, strict=True))


def say(kind: Any) -> str:
    """The kind in the words of a message."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(say(part) for part in parts)
    if origin is Literal:
        return "one of " + ", ".join(map(str, parts))
    if origin is tuple:
        return "a list of numbers" if parts[-1:] == (...,) else f"a list of {len(parts)}"
    return _SAID.get(kind, "a value")
