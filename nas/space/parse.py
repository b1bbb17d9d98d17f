"""A page's plain values to typed nodes. docs/space-language.md describes every word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import SpaceError
from nas.space.cells import parse_cells
from nas.space.grammar import MAX_SCALE, PAGE_WORDS, SCALING_WORDS, check_words, integer, listed, mapping, text
from nas.space.holes import hole_or
from nas.space.layers import Scope, parse_layers, row_names
from nas.space.page import MAX_DEPTH, Page, read_file, read_page
from nas.space.spec import Layer, Op, Scaling, Sequential, Spec, has_holes

__all__ = ["parse_file", "parse_page", "parse_text", "row_names"]

MAX_SIDE = 100_000


def parse_file(path: Path) -> Spec:
    """The spec in a YAML file. Raises SpaceError with file, line and what to write instead."""
    return parse_page(read_file(path))


def parse_text(text: str, file: str = "<text>") -> Spec:
    """The spec in a YAML text."""
    return parse_page(read_page(text, file))


def parse_page(page: Mapping[str, Any]) -> Spec:
    """The spec of a page's values (a plain dict will do). Its ``variants`` are for :mod:`nas.space.family`."""
    try:
        return _spec(mapping(page, "a page", ""))
    except RecursionError:
        where = getattr(page, "where", None) or None
        raise SpaceError("the page is nested too deeply", where=where, expected=f"at most {MAX_DEPTH} levels") from None


def _spec(page: Page) -> Spec:
    check_words(page, PAGE_WORDS, "page")
    if "network" not in page:
        raise SpaceError("the page has no network", where=page.where or None, expected="network: a list of layers")
    cells = parse_cells(page)
    scope = Scope(cells, ["x"])
    layers = parse_layers(page["network"], scope, page.at("network"), named=True)
    return Spec(
        name=text(page, "name", required=True), network=Sequential(layers=layers), cells=cells, where=page.where,
        auxiliary=_auxiliary(page, scope),
        input=_input(page.get("input", (3, 32, 32)), page.at("input")),
        num_classes=integer(page.get("num_classes", 10), "num_classes", page.at("num_classes")),
        scaling=_scaling(mapping(page.get("scaling", {}), "scaling", page.at("scaling"))),
        constraints=_constraints(page.get("constraints", []), page.at("constraints")), limits_at=page.at("constraints"),
        source=text(page, "source"), reference=text(page, "reference"),
    )  # fmt: skip


def _auxiliary(page: Page, network: Scope) -> tuple[Layer, ...]:
    """Heads for training: what a layer may be, as far as it is one module on one layer of the network."""
    if "auxiliary" not in page:
        return ()
    sources = network.names[1:]
    heads = parse_layers(page["auxiliary"], network.inner(), page.at("auxiliary"), named=True)
    for head in heads:
        read = head.sources if isinstance(head.sources, tuple) else ()
        if len(read) != 1 or read[0] not in sources:
            raise SpaceError("an auxiliary head reads one layer of the network", where=head.where or None,
                             expected="from: one of " + ", ".join(sources),
                             got=str(read[0]) if len(read) == 1 else None)  # fmt: skip
        if not isinstance(head.body, Op | Sequential):
            raise SpaceError("an auxiliary head is an operation or a list of layers", where=head.where or None,
                             expected="op: ..., or layers: [...]")  # fmt: skip
        if has_holes(head):
            raise SpaceError("an auxiliary head has nothing to decide", where=head.where or None, expected="values alone")
    return heads


def _input(value: Any, where: str) -> tuple[int, int, int]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise SpaceError("input is the image's shape", where=where or None, got=str(value),
                         expected="[channels, height, width]")  # fmt: skip
    channels, height, width = (integer(side, "input", where, most=MAX_SIDE) for side in value)
    return channels, height, width


def _constraints(value: Any, where: str) -> tuple[str, ...]:
    for constraint in listed(value, "constraints", where):
        if not isinstance(constraint, str):
            raise SpaceError("a constraint is text", where=where or None, got=str(constraint),
                             expected='["num_params<=5M"]')  # fmt: skip
    return tuple(value)


def _scaling(words: Page) -> Scaling:
    check_words(words, SCALING_WORDS, "scaling")

    def check(word: str, value: Any) -> Any:
        where = words.at(word)
        if word in ("resolution", "divisor"):
            return integer(value, word, where, most=MAX_SIDE)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= MAX_SCALE or (value == 0 and word != "phi"):
            raise SpaceError(f"{word} is a number", where=where or None, got=str(value),
                             expected=f"{'0' if word == 'phi' else 'above 0'} to {MAX_SCALE}")  # fmt: skip
        return value

    def value(word: str) -> Any:
        if word == "divisor":
            return check(word, words[word])
        return hole_or(words[word], words.at(word), lambda number: check(word, number))

    return Scaling(**{word: value(word) for word in words})
