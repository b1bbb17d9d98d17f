"""What a layer reads: ``from:``, and choices in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space.grammar import SUBSET_WORDS, check_words, integer, listed, mapping
from nas.space.holes import hole_or, parse_hole, parse_subsets
from nas.space.page import Page
from nas.space.spec import Choice


def parse_sources(value: Any, known: list[str], where: str) -> Any:
    """``from:``: one source or several, each perhaps a choice; or a choice between whole lists of them."""

    def source(item: Any) -> Any:
        return check_source(item, [*known, "none"], where)

    def option(item: Any) -> Any:
        return tuple(map(source, item)) if isinstance(item, list | tuple) else source(item)

    if not isinstance(value, Mapping):
        items = value if isinstance(value, list | tuple) else [value]
        if not items:
            raise SpaceError("no sources", where=where or None, expected="at least one")
        return tuple(hole_or(item, where, source) for item in _spread(items, where))
    words = mapping(value, "from", where)
    options = words.get("choice")
    if isinstance(options, Mapping) and set(options) == set(SUBSET_WORDS):
        states = [str(check_source(s, known, where)) for s in listed(options["of"], "of", where)]
        return parse_subsets(words, states, integer(options["subset"], "subset", where))
    choice = parse_hole(words, where, option)
    if isinstance(choice, Choice) and any(isinstance(o, tuple) for o in choice.options):
        whole = tuple(o if isinstance(o, tuple) else (o,) for o in choice.options)
        return Choice(options=whole, labels=choice.labels, share=choice.share, where=choice.where)
    return (choice,)


def _spread(items: Iterable[Any], where: str) -> Iterator[Any]:
    """The sources, with every name of ``{optional: [a, b]}`` as a choice between it and ``none``."""
    for item in items:
        if isinstance(item, Mapping) and "optional" in item:
            words = mapping(item, "optional sources", where)
            check_words(words, ("optional",), "optional sources")
            yield from (Page({"choice": [name, "none"]}, where) for name in listed(words["optional"], "optional", where))
        else:
            yield item


def check_source(value: Any, known: list[str], where: str) -> Any:
    """A name that is known, or -k."""
    if isinstance(value, int) and not isinstance(value, bool) and value < 0:
        return value
    if value not in known:
        raise SpaceError("unknown source", where=where or None, got=str(value), hint=nearest(str(value), known),
                         expected="an earlier layer, an input, or -k for k layers back")  # fmt: skip
    return value
