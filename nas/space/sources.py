"""What a layer reads: ``from:``, and choices in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space.grammar import OPTIONAL_WORDS, SUBSET_WORDS, check_words, integer, listed, mapping
from nas.space.holes import hole_or, parse_choice, parse_subsets


def parse_sources(value: Any, known: list[str], where: str) -> Any:
    """``from:``: one source or several, each perhaps a choice; or a choice between whole lists of them."""
    if isinstance(value, Mapping) and "choice" in value:
        words = mapping(value, "from", where)
        options = words["choice"]
        if isinstance(options, Mapping) and set(options) == set(SUBSET_WORDS):
            states = [check_source(s, known, where) for s in listed(options["of"], "of", where)]
            return parse_subsets(words, states, integer(options["subset"], "subset", where))
        if any(isinstance(o, list | tuple) for o in (options.values() if isinstance(options, Mapping) else options or ())):
            return parse_choice(words, where, lambda option: parse_sources(option, known, where))
    items = [part for item in (value if isinstance(value, list | tuple) else [value]) for part in _optional(item, where)]
    if not items:
        raise SpaceError("no sources", where=where or None, expected="at least one")
    return tuple(hole_or(item, where, lambda source: check_source(source, [*known, "none"], where)) for item in items)


def _optional(item: Any, where: str) -> list[Any]:
    """``{optional: [a, b]}`` is a choice for each: it, or none."""
    if not isinstance(item, Mapping) or "optional" not in item:
        return [item]
    words = mapping(item, "from", where)
    check_words(words, OPTIONAL_WORDS, "optional sources")
    return [{"choice": [name, "none"]} for name in listed(words["optional"], "optional", where)]


def check_source(value: Any, known: list[str], where: str) -> Any:
    """A name that is known, or -k."""
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return value
    if value not in known:
        raise SpaceError("unknown source", where=where or None, got=str(value), hint=nearest(str(value), known),
                         expected="an earlier layer, an input, or -k for k layers back")  # fmt: skip
    return value
