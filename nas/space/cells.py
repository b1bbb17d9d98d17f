"""Cells of a page: written out layer by layer, as blocks that pick from earlier states, or like another cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space.grammar import (
    ABSENT,
    BLOCK_WORDS,
    CELL_WORDS,
    INPUT_WORDS,
    MAX_BLOCKS,
    PROJECT,
    check_name,
    check_one_of,
    check_words,
    integer,
    listed,
    mapping,
    switch,
)
from nas.space.holes import hole_or, make_subsets
from nas.space.layers import Scope, parse_layers, parse_node
from nas.space.operations import parse_combine, parse_match
from nas.space.page import Page
from nas.space.sources import check_source
from nas.space.spec import Cell, CellInput, Choice, Layer, Parallel, Sequential

_ROOTS = ("network", "scaling")
"""Where the keys of decisions begin, besides the cells' names."""


def parse_cells(page: Page) -> dict[str, Cell]:
    """The cells by name."""
    pages = mapping(page.get("cells", {}), "cells", page.at("cells"))
    cells: dict[str, Cell] = {}
    for name in pages:
        check_name(name, "a cell's name", pages.at(name))
        if name in _ROOTS:
            raise SpaceError("a cell's name is taken", where=pages.at(name) or None, got=name)
        cells[name] = _cell(name, _inherit(name, pages), cells)
    return cells


def _inherit(name: str, pages: Page) -> Page:
    """A cell's words, over those of the cell it is ``like``. Layers of its own replace the other's blocks."""
    merged = Page(mapping(pages[name], f"cell {name}", pages.at(name)), pages.at(name))
    merged.where = getattr(pages[name], "where", "") or pages.at(name)
    seen = [name]
    while "like" in merged:
        where, parent = merged.at("like"), merged.pop("like")
        if parent not in pages or parent in seen:
            problem = "itself" if parent in seen else "an unknown cell"
            raise SpaceError(f"cell {name} is like {problem}", where=where or None, got=str(parent),
                             hint=nearest(str(parent), set(map(str, pages)) - {name}))  # fmt: skip
        seen.append(parent)
        under = mapping(pages[parent], f"cell {parent}", pages.at(parent))
        if "layers" in merged:
            under = under.without(*BLOCK_WORDS, *(("combine",) if "blocks" in under else ()))
        elif "blocks" in merged:
            under = under.without("layers")
        merged.lines |= {word: under.at(word) for word in under if word not in merged}
        merged.update({word: value for word, value in under.items() if word not in merged})
    return merged


def _cell(name: str, words: Page, cells: Mapping[str, Cell]) -> Cell:
    """A cell; its layers may use the cells that are written before it."""
    check_words(words, CELL_WORDS, f"cell {name}")
    inputs = _inputs(words)
    names = [known.name for known in inputs]
    layers = Sequential(layers=_body(name, words, Scope(dict(cells), names, name)))
    given: dict[str, Any] = {}
    if "match" in words:
        given["match"] = None if words["match"] is None else parse_match(words["match"], words.at("match"))
    if "match_output" in words:
        given["match_output"] = parse_match(words["match_output"], words.at("match_output"))
    if "combine" in words and "blocks" not in words:
        given["combine"] = parse_combine(words["combine"], words.at("combine"))
    if words.get("output", "unused") != "unused":
        given["output"] = _output(words, [*names, *(layer.name for layer in layers.layers)])
    if "stride" in words:
        given["stride"] = integer(words["stride"], "stride", words.at("stride"))
    return Cell(name=name, inputs=inputs, layers=layers, **given)


def _body(name: str, words: Page, scope: Scope) -> tuple[Layer, ...]:
    if "blocks" in words and "layers" not in words:
        return _blocks(words, scope)
    stray = next((word for word in BLOCK_WORDS if word in words), None)
    if "layers" not in words or stray is not None:
        raise SpaceError(f"cell {name} has {'blocks and ' if stray else 'no '}layers", got=stray,
                         where=(words.at(stray) if stray else words.where) or None,
                         expected="layers: [...], or blocks: with pick: and ops:")  # fmt: skip
    return parse_layers(words["layers"], scope, words.at("layers"), named=True)


def _inputs(words: Page) -> tuple[CellInput, ...]:
    value, where = words.get("inputs", ["x"]), words.at("inputs")
    pages = value if isinstance(value, Mapping) else dict.fromkeys(listed(value, "inputs", where))
    if len(pages) != len(value) or not pages:
        raise SpaceError("a cell has inputs of different names", where=where or None, expected="at least one")
    inputs = []
    for name, own in pages.items():
        check_name(name, "an input's name", where, also="x")
        policy = mapping(own or {}, f"input {name}", where)
        check_words(policy, INPUT_WORDS, f"input {name}")
        project = check_one_of(policy.get("project", "never"), PROJECT, "project", policy.at("project"))
        absent = check_one_of(policy.get("absent", "project"), ABSENT, "absent", policy.at("absent"))
        inputs.append(CellInput(name=name, project=project, absent=absent))
    return tuple(inputs)


def _output(words: Page, known: list[str]) -> tuple[Any, ...]:
    where = words.at("output")

    def state(item: Any) -> Any:
        if isinstance(item, int):
            raise SpaceError("an output is named", where=where or None, expected="a layer's name", got=item)
        return check_source(item, known, where)

    items = [words["output"]] if isinstance(words["output"], str) else listed(words["output"], "output", where)
    if not items:
        raise SpaceError("an empty output", where=where or None, expected="names of layers, or unused")
    return tuple(hole_or(item, where, lambda o: o if o == "none" else state(o)) for item in items)


def _blocks(words: Page, scope: Scope) -> tuple[Layer, ...]:
    """``blocks: B, pick: k``: B blocks b0, b1, ..., each k operations on earlier states, combined."""
    blocks = integer(words["blocks"], "blocks", words.at("blocks"), most=MAX_BLOCKS)
    pick = integer(words.get("pick", 2), "pick", words.at("pick"), most=MAX_BLOCKS)
    distinct = switch(words.get("distinct", False), "distinct", words.at("distinct"))
    if "ops" not in words:
        raise SpaceError("blocks need operations", where=words.at("blocks") or None, expected="ops: {choice: [...]}")
    ops = parse_node(words["ops"], scope.inner(), words.at("ops"))
    combine = parse_combine(words.get("combine", "add"), words.at("combine"))
    where = words.at("blocks")
    layers = []
    for block in range(blocks):
        states = [*scope.names, *(f"b{i}" for i in range(block))]
        sources: Any = ()
        if distinct:
            count = min(pick, len(states))
            branches = tuple(Layer(name=str(i), body=ops, where=where) for i in range(count))
            sources = make_subsets(states, count, where)
        else:
            source = Choice(options=tuple(states), labels=tuple(states), where=where)
            branches = tuple(Layer(name=str(i), body=ops, sources=(source,), where=where) for i in range(pick))
        body = Parallel(branches=branches, combine=combine)
        layers.append(Layer(name=f"b{block}", body=body, sources=sources, where=where))
    return tuple(layers)
