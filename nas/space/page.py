"""Reading a YAML page into plain values that remember their line. Safe: no tags, no code, no duplicate keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nas.errors import SpaceError

MAX_VALUES = 100_000
"""A page that expands to more values than this (through nested anchors) is refused."""

_WORDY_BOOLEANS = {"yes", "no", "on", "off", "y", "n"}


class Page(dict[str, Any]):
    """A mapping of a page; ``where`` is its file and line, ``lines`` the line of every key."""

    where: str = ""


class Row(list[Any]):
    """A list of a page with its ``where``."""

    where: str = ""


def read_page(text: str, file: str) -> Page:
    """The page's top mapping. Raises SpaceError with file and line for whatever is not plain, unambiguous YAML."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"{file}:{mark.line + 1}" if mark else file
        raise SpaceError(f"not valid YAML: {getattr(error, 'problem', None) or error}", where=line) from None
    if not isinstance(node, yaml.MappingNode):
        raise SpaceError("a page is a mapping", where=file, expected="keys such as name, network",
                         got="an empty page" if node is None else "a list or a scalar")  # fmt: skip
    page = _Reader(file).value(node)
    assert isinstance(page, Page)
    return page


def read_file(path: Path) -> Page:
    """The page in a file. Raises SpaceError when it cannot be read."""
    try:
        return read_page(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SpaceError(f"cannot read the page: {error}", where=str(path)) from None


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
        if any(node is parent for parent in self.open):
            raise SpaceError("an anchor contains itself", where=where)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, where)
        self.open.append(node)
        try:
            return self.row(node, where) if isinstance(node, yaml.SequenceNode) else self.mapping(node, where)
        finally:
            self.open.pop()

    def scalar(self, node: yaml.ScalarNode, where: str) -> Any:
        if node.tag == "tag:yaml.org,2002:bool" and node.value.lower() in _WORDY_BOOLEANS:
            raise SpaceError("ambiguous boolean", where=where, expected="true or false, or a quoted string", got=node.value)
        if node.tag.removeprefix("tag:yaml.org,2002:") not in {"str", "int", "float", "bool", "null"}:
            raise SpaceError("only plain values are allowed", where=where, expected="text, a number, true, false or null",
                             got=node.tag)  # fmt: skip
        return self.scalars.construct_object(node)

    def row(self, node: yaml.SequenceNode, where: str) -> Row:
        row = Row(self.value(item) for item in node.value)
        row.where = where
        return row

    def mapping(self, node: yaml.Node, where: str) -> Page:
        page = Page()
        page.where = where
        for key_node, value_node in node.value:
            line = f"{self.file}:{key_node.start_mark.line + 1}"
            key = self.value(key_node)
            if isinstance(key, bool | dict | list) or key is None:
                raise SpaceError("a key is text or a number", where=line, got=str(key))
            if key in page:
                raise SpaceError("duplicate key", where=line, got=str(key), hint="Keep one of them.")
            page[key] = self.value(value_node)
        return page
