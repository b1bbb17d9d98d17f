"""Layers of a page: operations, uses of cells, lists, branches, repeats, and choices between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.ops import OPS, find
from nas.ops.catalogue import plain_name
from nas.space.grammar import (
    BRANCHES_WORDS,
    CELL_USE_WORDS,
    CHOICE_WORDS,
    LAYER_WORDS,
    MAX_REPEAT,
    NODE_WORDS,
    REPEAT_WORDS,
    check_name,
    check_words,
    integer,
    is_name,
    listed,
    mapping,
    no_hole,
    place,
    switch,
)
from nas.space.holes import hole_or, parse_choice
from nas.space.operations import check_kwargs, parse_combine, parse_match, parse_op, plain
from nas.space.page import Page, Row
from nas.space.sources import parse_sources
from nas.space.spec import Cell, CellRef, Choice, Kwargs, Layer, Node, Op, Parallel, Repeat, Sequential


class Scope:
    """What a layer may refer to: the cells, and the names of layers and inputs before it.

    ``path`` leads to the list, ``here`` to the layer of it that is being read: messages tell it.
    """

    def __init__(self, cells: Mapping[str, Cell] | None = None, names: Iterable[str] = (), path: str = "network") -> None:
        self.cells = cells or {}
        self.names = list(names)
        self.path = self.here = path

    def inner(self) -> Scope:
        """The scope of a list inside: it sees what is before it, and keeps its own names to itself."""
        return Scope(self.cells, self.names, self.here)


def parse_layers(value: Any, scope: Scope, where: str, *, named: bool = False) -> tuple[Layer, ...]:
    """A list of layers. ``named`` (a network or a cell): each gets a name; in other lists they are numbered."""
    rows = listed(value, "a list of layers", where)
    if named and not rows:
        raise SpaceError("no layers", where=place(rows, where) or None, expected="at least one layer")
    layers: list[Layer] = []
    for index, row in enumerate(rows):
        where_row = place(row, rows.at(index) if isinstance(rows, Row) else where)
        words = mapping(row, "a layer", where_row) if isinstance(row, Mapping) else Page({}, where_row)
        name = str(index)
        if "name" in words:
            name = check_name(words["name"], "a layer's name", words.at("name"))
            if name in scope.names:
                raise SpaceError("two layers of one name", where=words.at("name") or None, got=name,
                                 hint="Names are given once in a list.")  # fmt: skip
        elif named:
            name = free_name(natural_name(row), scope.names)
        scope.here = f"{scope.path}.{name}"
        try:
            layers.append(_layer(row, words, name, scope))
        except SpaceError as error:
            raise error.along(scope.here) from None
        if named or "name" in words:
            scope.names.append(name)
    return tuple(layers)


def _layer(value: Any, words: Page, name: str, scope: Scope) -> Layer:
    where = words.where
    scale = switch(words.get("scale", True), "scale", words.at("scale"))
    sources: Any = parse_sources(words["from"], scope.names, words.at("from")) if "from" in words else ()
    body = parse_node(words.without(*LAYER_WORDS) if words else value, scope, where)
    return Layer(name=name, body=body, sources=sources, scale=scale, where=where)


def row_names(rows: Iterable[Any]) -> list[str]:
    """The names that the layers of a network or cell get, from the values they are written with."""
    names: list[str] = []
    for row in rows:
        own = row.get("name") if isinstance(row, Mapping) else None
        names.append(own if isinstance(own, str) else free_name(natural_name(row), names))
    return names


def natural_name(value: Any) -> str:
    """What a layer without a name is called: its operation, its cell, or its kind."""
    if isinstance(value, str):
        return plain_name(value)
    if isinstance(value, Mapping):
        for word in ("op", "cell"):
            if isinstance(value.get(word), str):
                return plain_name(value[word])
        for word in ("repeat", "branches", "layers", "choice"):
            if word in value:
                return word
    return "layers"


def free_name(name: str, taken: Iterable[str]) -> str:
    """The name, or the first of name_2, name_3, ... that is free."""
    used = set(taken)
    candidates = (name, *(f"{name}_{i}" for i in range(2, len(used) + 4)))
    return next((n for n in candidates if n not in used and is_name(n)), f"layer_{len(used)}")


def parse_node(value: Any, scope: Scope, where: str) -> Any:
    """The node, or choice of nodes, that a word, a list or a mapping says."""
    if isinstance(value, str):
        return parse_op(value, Page({}, where), where)
    if isinstance(value, list | tuple):
        return Sequential(layers=parse_layers(value, scope.inner(), where))
    if not isinstance(value, Mapping):
        raise SpaceError("not a layer", where=where or None, expected="an operation's name, a list, or a mapping",
                         got=str(value))  # fmt: skip
    words = mapping(value, "a layer", where)
    where = place(words, where)
    if "repeat" in words:
        return _repeat(words, scope, where)
    kind = _kind(words, where)
    rest, what = words.without(kind), words[kind]
    match kind:
        case "op" if isinstance(what, Mapping):
            return _choice_of_nodes(mapping(what, "op", where), scope, where, rest)
        case "op":
            return parse_op(what, rest, where)
        case "cell":
            return _cell_use(what, rest, scope, words.at("cell"))
        case "choice":
            check_words(words, CHOICE_WORDS, "choice")
            return _choice_of_nodes(words, scope, where, Page())
        case "layers":
            check_words(rest, (), "list of layers")
            return Sequential(layers=parse_layers(what, scope.inner(), where))
        case _:
            return _parallel(words, scope, where)


def _kind(words: Page, where: str) -> str:
    kinds_found = [word for word in NODE_WORDS if word in words]
    if len(kinds_found) == 1:
        return kinds_found[0]
    known = (*NODE_WORDS, *REPEAT_WORDS, *LAYER_WORDS)
    odd = next((str(w) for w in words if w not in known), None)
    raise SpaceError("a layer is exactly one thing", where=(words.at(odd) if odd else where) or None,
                     expected="one of " + ", ".join((*NODE_WORDS, "repeat")),
                     got=", ".join(kinds_found) or ", ".join(map(str, words)) or "nothing",
                     hint=nearest(odd, known) if odd and not kinds_found else None)  # fmt: skip


def _choice_of_nodes(words: Page, scope: Scope, where: str, common: Page) -> Choice:
    """A choice of nodes; ``common`` words go to every option."""

    def option(item: Any) -> Any:
        if not common:
            return parse_node(item, scope, place(item, where))
        own = Page({"op": item}, where) if isinstance(item, str) else mapping(item, "an option", where)
        merged = Page(common, own.where)
        merged.update(own)
        merged.lines |= own.lines
        return parse_node(merged, scope, own.where)

    choice = parse_choice(words, where, option)
    for label in choice.labels:
        if any(mark in str(label) for mark in ".="):
            raise SpaceError("a label is part of a path", where=choice.where or None, got=str(label),
                             expected="no . or = in it")  # fmt: skip
    return choice


def _parallel(words: Page, scope: Scope, where: str) -> Parallel:
    check_words(words, BRANCHES_WORDS, "layer with branches")
    branches = parse_layers(words["branches"], scope.inner(), words.at("branches"))
    if not branches:
        raise SpaceError("no branches", where=words.at("branches") or None, expected="at least one branch")
    if "combine" not in words:
        raise SpaceError("branches are joined by an operation", where=where or None, expected="combine: add, or concat")
    for branch in branches:
        if branch.name in OPS and OPS[branch.name].inputs is None:
            raise SpaceError("a branch's name is taken", where=branch.where or None, got=branch.name)
    match = parse_match(words["match"], words.at("match")) if "match" in words else None
    return Parallel(branches=branches, combine=parse_combine(words["combine"], words.at("combine")), match=match)


def _repeat(words: Page, scope: Scope, where: str) -> Repeat:
    at = words.at("repeat")
    times = hole_or(words["repeat"], at, lambda n: integer(n, "repeat", at, least=0, most=MAX_REPEAT))
    rest = words.without(*REPEAT_WORDS)
    each = "each" in words
    if each and rest:
        raise SpaceError("a repeat has one body", where=where or None, got=", ".join(rest),
                         expected="its words under each:, or beside repeat:")  # fmt: skip
    body = words["each"] if each else rest
    decided = each and isinstance(body, list | tuple)
    bodies = tuple(parse_node(b, scope, place(b, where)) for b in (body if decided else [body]))
    if decided and (not isinstance(times, int) or len(bodies) != times):
        raise SpaceError("each: [...] lists one body a repetition", where=words.at("each") or None,
                         expected=f"{words['repeat']} bodies", got=len(bodies),
                         hint="For one body of several layers write each: {layers: [...]}.")  # fmt: skip
    leaves = list(_leaves(bodies))
    if any(isinstance(leaf, Repeat) for leaf in leaves):
        raise SpaceError("a repeat of a repeat", where=where or None, hint="Put the inner one in layers: [...].")
    first = _first(mapping(words["first"], "first", where), leaves, scope) if "first" in words else ()
    return Repeat(bodies=bodies, times=times, first=first, each=each and not decided)


def _first(words: Page, leaves: list[Node], scope: Scope) -> Kwargs:
    """The words that the first repetition has instead, and what it reads; every body must know the words."""
    sources = {"from": parse_sources(words["from"], scope.names, words.at("from"))} if "from" in words else {}
    words = words.without("from")
    for leaf in leaves:
        if isinstance(leaf, Op):
            check_kwargs(find(leaf.name), words)
        elif isinstance(leaf, CellRef):
            _numbers(words, "first repetition")
        else:
            raise SpaceError("first: changes words of an operation or a cell", where=words.where or None,
                             hint="Make the list a cell: its uses take channels and stride.")  # fmt: skip
    return (*sources.items(), *((word, hole_or(value, words.at(word), plain)) for word, value in words.items()))


def _leaves(bodies: Iterable[Any]) -> Iterator[Node]:
    for body in bodies:
        if isinstance(body, Choice):
            yield from _leaves(body.options)
        else:
            yield body


def _cell_use(name: Any, rest: Page, scope: Scope, where: str) -> CellRef:
    if not isinstance(name, str) or name not in scope.cells:
        hint = "Write choice: [{cell: a}, {cell: b}]." if no_hole(name) else nearest(str(name), scope.cells)
        raise SpaceError("unknown cell", where=where or None, expected="one of " + (", ".join(scope.cells) or "(none)"),
                         got=str(name), hint=hint)  # fmt: skip
    numbers = _numbers(rest, f"use of cell {name}")
    return CellRef(cell=name, channels=numbers.get("channels"), stride=numbers.get("stride"))


def _numbers(words: Page, what: str) -> dict[str, Any]:
    check_words(words, CELL_USE_WORDS, what)

    def number(word: str) -> Any:
        return hole_or(words[word], words.at(word), lambda value: integer(value, word, words.at(word)))

    return {word: number(word) for word in words}
