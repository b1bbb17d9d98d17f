"""Operations of a page: their words and keyword arguments, checked against the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import SpaceError
from nas.ops import OPS, OpSpec, find, resolve
from nas.ops.catalogue import FROM_CONTEXT
from nas.ops.kinds import fits, kinds, say
from nas.space.grammar import check_one_of, check_words, mapping, no_hole
from nas.space.holes import hole_or
from nas.space.page import Page
from nas.space.spec import Op, has_holes


def parse_op(word: Any, kwargs: Page, where: str) -> Op:
    """An operation by its word and keyword arguments. Raises SpaceError for what it does not know or lacks."""
    if not isinstance(word, str):
        raise SpaceError("not an operation", where=where or None, expected="its name", got=str(word))
    name, implied = _resolve(word, where)
    spec = find(name)
    checked = {**implied, **check_kwargs(spec, kwargs)}
    missing = [w for w in spec.required if w not in checked and w not in FROM_CONTEXT]
    if missing:
        raise SpaceError(f"operation {name} needs {' and '.join(missing)}", where=where or None)
    return Op(name=name, kwargs=tuple(checked.items()))


def _resolve(word: str, where: str) -> tuple[str, dict[str, Any]]:
    try:
        return resolve(word)
    except SpaceError as error:
        raise (error.at(where) if where else error) from None


def check_kwargs(spec: OpSpec, words: Page) -> dict[str, Any]:
    """Keyword arguments of an operation, each of the kind that its sketch is annotated with."""
    known = kinds(spec)
    check_words(words, known, f"operation {spec.name}")

    def value(word: str) -> Any:
        def check(item: Any) -> Any:
            item = plain(item)
            if not fits(item, known[word]):
                raise SpaceError(f"{word} has the wrong kind of value", where=words.at(word) or None,
                                 expected=say(known[word]), got=item)  # fmt: skip
            return item

        return hole_or(words[word], words.at(word), check)

    return {word: value(word) for word in words}


def plain(value: Any) -> Any:
    """Lists as tuples, so that values can be keys."""
    return tuple(plain(item) for item in value) if isinstance(value, list | tuple) else value


def parse_combine(value: Any, where: str) -> Any:
    """The name of an operation that joins branches, or a choice of them."""
    known = [name for name, spec in OPS.items() if spec.inputs is None]

    def check(name: Any) -> Any:
        name = _resolve(name, where)[0] if isinstance(name, str) and ":" in name else name
        return check_one_of(name, known, "operation that joins branches", where)

    return hole_or(value, where, check)


def parse_match(value: Any, where: str) -> Op:
    """An operation that brings a tensor to other channels and another size."""
    words = mapping(value, "match", where) if isinstance(value, Mapping) else Page({"op": value}, where)
    if hint := no_hole(words):
        raise SpaceError("a match is one operation", where=where or None, expected="conv_bn, say", got=str(value), hint=hint)
    node = parse_op(words.get("op"), words.without("op"), where)
    if has_holes(node) or not {"out_channels", "stride"} <= set(kinds(find(node.name))):
        raise SpaceError("a match is one operation with out_channels and stride", where=where or None, got=str(value),
                         expected="conv_bn, say")  # fmt: skip
    return node
