"""Pages that differ from another only in some of their words: variants of a family, and changes from a command line.

A change is a path to a word of a page and its new value: ``network.stage1.repeat: 4``, ``scaling.width: 1.4``,
``input: [3, 224, 224]``. A path names the layers on the way as the keys of decisions do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import SpaceError, nearest
from nas.space.page import Page, Row
from nas.space.parse import row_names as names_of

_INNER = ("cells", "layers", "branches", "each")
"""Words that a path may leave out: what is inside them is found from outside."""


def variant(page: Page, name: str) -> Page:
    """The page of one variant: the family's, with the variant's changes over those of the variant it is ``like``.

    Figures are a network's own: ``reference`` is not taken over.
    """
    variants = _variants(page)
    chain, changes = [name], dict(_changes(variants, name))
    while "like" in changes:
        parent = str(changes.pop("like"))
        if parent in chain or parent not in variants:
            raise SpaceError(f"variant {name} is like " + ("itself" if parent in chain else "an unknown variant"),
                             where=variants[name].where, got=parent, hint=nearest(parent, variants))  # fmt: skip
        chain.append(parent)
        changes = {**_changes(variants, parent), "reference": None, **changes}
    return override(page, {"reference": None, "name": name, **changes})


def _variants(page: Page) -> Page:
    variants = page.get("variants", Page())
    if not isinstance(variants, Page):
        raise SpaceError("variants is a mapping", where=page.where, expected="name: changes", got=str(variants))
    return variants


def _changes(variants: Page, name: str) -> Page:
    changes = variants[name]
    if not isinstance(changes, Page):
        raise SpaceError(f"variant {name} is a mapping", where=variants.where, expected="path: value lines",
                         got=str(changes))  # fmt: skip
    return changes


def override(page: Page, changes: Mapping[str, Any]) -> Page:
    """A copy of a page's values with a new value at each path; null takes the layer or word away.

    The last word of a path may be one that was not written yet. Raises SpaceError when a path leads nowhere; whether
    the new page makes sense is for the parser to say.
    """
    for path, value in changes.items():
        words = str(path).split(".")
        if words[0] == "scaling" and "scaling" not in page:
            page = _with(page, "scaling", Page())
        try:
            page = _put(page, words, value, str(path))
        except SpaceError as error:
            raise error.at(page.where) from None
    return page


def _put(node: Any, words: list[str], value: Any, path: str) -> Any:
    """A copy of ``node`` with the value at the end of the path."""
    if isinstance(node, str):
        node = _with(Page(), "op", node)
    found = _find(node, words[0])
    if found is None and len(words) == 1 and isinstance(node, Page):
        found = list(words)
    if found is None:
        known = _known(node)
        raise SpaceError(f"the path {path} leads nowhere", where=getattr(node, "where", None) or None, got=words[0],
                         expected="one of " + ", ".join(known) if known else "a path that ends before",
                         hint=nearest(words[0], known))  # fmt: skip
    key, rest = found[0], [*found[1:], *words[1:]]
    return _with(node, key, _put(node[key], rest, value, path) if rest else value)


def _find(node: Any, word: Any) -> list[Any] | None:
    """How to get from a node to ``word``: its key or index, after the inner words that the path left out."""
    if isinstance(node, Row):
        names = names_of(node)
        if word in names:
            return [names.index(word)]
        return [int(word)] if str(word).isdigit() and int(word) < len(node) else None
    if not isinstance(node, Page):
        return None
    if word in node:
        return [word]
    return next(([inner, word] for inner in _INNER if inner in node and _find(node[inner], word) is not None), None)


def _known(node: Any) -> list[str]:
    if isinstance(node, Row):
        return names_of(node)
    if not isinstance(node, Page):
        return []
    return [*map(str, node), *(word for inner in _INNER for word in _known(node.get(inner)))]


def _with(node: Any, key: Any, value: Any) -> Any:
    """A copy with one value set, or taken away by None. A layer keeps its name."""
    copy: Any = Row(node) if isinstance(node, Row) else Page(node)
    copy.where = node.where
    if value is None:
        copy.pop(key, None) if isinstance(copy, Page) else copy.pop(key)
        return copy
    if isinstance(node, Row) and isinstance(node[key], Page) and "name" in node[key] and isinstance(value, str | Row):
        value = _with(Page({}, node.where), "op" if isinstance(value, str) else "layers", value)
    if isinstance(node, Row) and isinstance(value, Page) and "name" not in value:
        value = _with(value, "name", names_of(node)[key])
    copy[key] = value
    return copy
