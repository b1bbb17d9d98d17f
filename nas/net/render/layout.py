"""Python source laid out as a formatter would: one line where it fits, else one bracket after the other opened."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nas.errors import ExportError

WIDTH, PROSE = 130, 110
"""Characters a line of exported source may have: this project's own line length."""


@dataclass(frozen=True, slots=True)
class Group:
    """A bracketed list: ``opener``, items with ``separator`` between them, ``closer``."""

    opener: str
    items: tuple[Doc, ...]
    closer: str = ")"
    separator: str = ","


Doc = str | Group


def call(function: str, arguments: Iterable[Doc]) -> Group:
    """A call of ``function``."""
    return Group(f"{function}(", tuple(arguments))


def bracket(items: Iterable[Doc]) -> Group:
    """A list."""
    return Group("[", tuple(items), "]")


def flat(doc: Doc) -> str:
    """The document on one line."""
    if isinstance(doc, str):
        return doc
    return doc.opener + f"{doc.separator} ".join(map(flat, doc.items)) + doc.closer


def lay_out(doc: Doc, indent: int, before: str = "", after: str = "") -> list[str]:
    """The lines of ``before``, the document and ``after``, indented by ``indent`` spaces."""
    space = " " * indent
    line = f"{space}{before}{flat(doc)}{after}"
    if len(line) <= WIDTH or isinstance(doc, str) or not doc.items:
        return [line]
    body = [f"{space}    " + f"{doc.separator} ".join(map(flat, doc.items))]
    if len(body[0]) > WIDTH:
        comma = doc.separator if len(doc.items) > 1 else ""
        body = [line for item in doc.items for line in lay_out(item, indent + 4, after=comma)]
    return [f"{space}{before}{doc.opener}", *body, f"{space}{doc.closer}{after}"]


def literal(value: Any) -> str:
    """A plain value as Python source. Raises ExportError for anything else: data never becomes code."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple | list):
        inner = ", ".join(map(literal, value))
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise ExportError("a value that cannot be written as source", got=repr(value), expected="numbers, text, true, false, lists")


def prose(text: str) -> list[str]:
    """Text from elsewhere, safe inside a docstring: one paragraph, printable characters only, no closer, no escape."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    plain = plain.replace("\\", "\\\\").replace('"""', "'''")
    return textwrap.wrap(" ".join(plain.split()), PROSE, break_long_words=True, break_on_hyphens=False)
