"""Reading a YAML page into plain values that remember their line. Safe: no tags, no code, no duplicate keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nas.errors import SpaceError

MAX_VALUES = 100_000
"""A page that expands to more values than this (through nested anchors) is refused."""

MAX_DEPTH = 64
"""How deep lists and mappings may be nested."""

_TAG = "tag:yaml.org,2002:"
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)")
EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")
"""A number in JSON, which YAML 1.1 takes for text unless it has a point."""


class Page(dict[str, Any]):
    """A mapping of a page; ``where`` is its file and line, ``lines`` those of its keys."""

    def __init__(self, words: Mapping[str, Any] | None = None, where: str = "") -> None:
        super().__init__(words or {})
        self.where = where
        self.lines: dict[str, str] = dict(words.lines) if isinstance(words, Page) else {}

    def at(self, word: str) -> str:
        """File and line of a word, or of the mapping."""
        return self.lines.get(word) or self.where

    def without(self, *words: str) -> Page:
        """A copy that lacks some words."""
        page = Page(self, self.where)
        for word in words:
            page.pop(word, None)
        return page


class Row(list[Any]):
    """A list of a page; ``where`` is its file and line, ``lines`` those of its items."""

    where: str = ""
    lines: tuple[str, ...] = ()

    def at(self, index: int) -> str:
        """File and line of an item, or of the list."""
        return self.lines[index] if index < len(self.lines) else self.where


def read_page(text: str, file: str) -> Page:
    """The page's top mapping. Raises SpaceError with file and line for whatever is not plain, unambiguous YAML."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{file}:{mark.line + 1}" if mark else file
        raise SpaceError(f"not valid YAML: {getattr(error, 'problem', None) or error}", where=line, hint=_hint(error)) from None
    except RecursionError:
        raise SpaceError("the page is nested too deeply", where=file, expected=f"at most {MAX_DEPTH} levels") from None
    if not isinstance(node, yaml.MappingNode):
        raise SpaceError("a page is a mapping", where=file, expected="keys such as name, network",
                         got="an empty page" if node is None else "a list or a scalar")  # fmt: skip
    page = _Reader(file).value(node)
    assert isinstance(page, Page)
    return page


def _hint(error: yaml.YAMLError) -> str | None:
    """What to write instead, for the two mistakes that YAML's own words do not explain."""
    problem = str(getattr(error, "problem", ""))
    if "\\t" in problem:
        return "Indent with spaces: YAML allows no tabs."
    block = "expected <block end>" in problem or "mapping values are not allowed" in problem
    return "Check the indentation: items of one list, and words of one layer, begin in the same column." if block else None


def read_file(path: Path) -> Page:
    """The page in a file. Raises SpaceError when it cannot be read."""
    try:
        return read_page(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError("cannot read the page", where=str(path), expected="a YAML file in UTF-8",
                         got=(error.strerror if isinstance(error, OSError) else None) or str(error)) from None  # fmt: skip


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.values = 0
        self.open: list[yaml.Node] = []
        self.scalars = yaml.SafeLoader("")

    def value(self, node: yaml.Node) -> Any:
        self.values += 1
        where = f"{self.file}:{node.start_mark.line + 1}"
        if self.values > MAX_VALUES:
            raise SpaceError("the page expands to too many values", where=where, expected=f"at most {MAX_VALUES}")
        if len(self.open) > MAX_DEPTH:
            raise SpaceError("the page is nested too deeply", where=where, expected=f"at most {MAX_DEPTH} levels")
        if any(node is parent for parent in self.open):
            raise SpaceError("an anchor contains itself", where=where)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, where)
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            raise SpaceError("only plain lists and mappings are allowed", where=where, got=node.tag)
        self.open.append(node)
        try:
            return self.row(node, where) if isinstance(node, yaml.SequenceNode) else self.mapping(node, where)
        finally:
            self.open.pop()

    def scalar(self, node: yaml.ScalarNode, where: str) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if kind == "merge":
            raise SpaceError("merge keys are not allowed", where=where, got=text, hint="Write the words out.")
        if kind not in ("str", "int", "float", "bool", "null"):
            raise SpaceError("only plain values are allowed", where=where, got=node.tag,
                             expected="text, a number, true, false or null")  # fmt: skip
        if kind == "bool" and text.lower() not in ("true", "false"):
            raise SpaceError("ambiguous boolean", where=where, expected="true or false, or a quoted string", got=text)
        if kind == "int" and not _DECIMAL.fullmatch(text):
            raise SpaceError("whole numbers are written in decimal", where=where, expected="digits alone", got=text)
        if kind == "str" and node.style is None and EXPONENT.fullmatch(text):
            kind = "float"
        try:
            value = float(text) if kind == "float" else self.scalars.construct_object(node)
        except (ValueError, LookupError):
            value = math.nan
        if isinstance(value, float) and not math.isfinite(value):
            raise SpaceError("a number is finite and plainly written", where=where, got=text[:40])
        return value

    def row(self, node: yaml.SequenceNode, where: str) -> Row:
        row = Row(self.value(item) for item in node.value)
        row.where = where
        row.lines = tuple(f"{self.file}:{item.start_mark.line + 1}" for item in node.value)
        return row

    def mapping(self, node: yaml.Node, where: str) -> Page:
        page = Page(where=where)
        for key_node, value_node in node.value:
            line = f"{self.file}:{key_node.start_mark.line + 1}"
            key = self.value(key_node)
            if isinstance(key, bool | dict | list) or key is None:
                raise SpaceError("a key is text or a number", where=line, got=str(key))
            if key in page:
                raise SpaceError("duplicate key", where=line, got=str(key), hint="Keep one of them.")
            page.lines[key] = line
            page[key] = self.value(value_node)
        return page
