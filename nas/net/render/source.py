"""The source of operations: their classes with every helper they need, cut out of the modules that define them."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from nas.errors import ExportError

_OURS = "nas.ops.modules"
_ENTRY = re.compile(r' +"(\w+)": nn\.\w+,')


@dataclass(frozen=True, slots=True)
class Imported:
    """``import module`` (``name`` None) or ``from module import name``, bound to ``alias``."""

    module: str
    name: str | None
    alias: str

    @property
    def line(self) -> str:
        """The import as it is written."""
        bound = self.name or self.module
        what = bound if bound == self.alias else f"{bound} as {self.alias}"
        return f"from {self.module} import {what}" if self.name else f"import {what}"


@dataclass(frozen=True, slots=True)
class _Module:
    definitions: dict[str, str] = field(default_factory=dict)
    needs: dict[str, frozenset[str]] = field(default_factory=dict)
    imports: dict[str, Imported] = field(default_factory=dict)


class Sources:
    """Definitions collected so far, in an order in which each stands after what it needs."""

    def __init__(self) -> None:
        self.definitions: dict[str, str] = {}
        self.imports: dict[str, Imported] = {}
        self._home: dict[str, str] = {}

    def add(self, module: str, name: str) -> None:
        """Take in a class or function with what it needs. Raises ExportError naming what cannot be taken along."""
        if name in self._home:
            if self._home[name] != module:
                raise ExportError(f"two operations define {name}", got=f"{self._home[name]} and {module}", hint="Rename one.")
            return
        self._home[name] = module
        parsed = _parse(module)
        if name not in parsed.definitions:
            raise ExportError(f"{module} does not define {name} itself", hint="Define it at the top level of that module.")
        for needed in sorted(parsed.needs[name]):
            if needed in parsed.definitions:
                self.add(module, needed)
            elif needed in parsed.imports:
                self._import(parsed.imports[needed], name, module)
        self.definitions[name] = parsed.definitions[name]

    def drop_unused_activations(self, others: Sequence[str]) -> None:
        """Of the table of activations keep what is named by a literal of another definition or of ``others``: all names are."""
        if self._home.get("make_activation") != f"{_OURS}.activation":
            return
        table = self.definitions.pop("make_activation")
        texts = "\n".join([*self.definitions.values(), *others])
        named = {node.value for node in ast.walk(ast.parse(texts)) if isinstance(node, ast.Constant)}
        kept = [line for line in table.split("\n") if (entry := _ENTRY.match(line)) is None or entry[1] in named]
        self.definitions = {"make_activation": "\n".join(kept), **self.definitions}

    def _import(self, imported: Imported, needed_by: str, module: str) -> None:
        root = imported.module.partition(".")[0]
        if root == "torch" or root in sys.stdlib_module_names:
            known = self.imports.setdefault(imported.alias, imported)
            if known != imported:
                raise ExportError(f"{imported.alias} is imported in two ways", got=f"{known.line} and {imported.line}")
        elif imported.name == imported.alias and (imported.module.startswith(_OURS) or root == module.partition(".")[0] != "nas"):
            self.add(imported.module, imported.name)
        else:
            raise ExportError(f"{needed_by} needs more than torch", got=imported.line,
                              hint="An exported operation may import torch and Python's own modules.")  # fmt: skip


@cache
def _parse(module: str) -> _Module:
    try:
        text = inspect.getsource(importlib.import_module(module))
    except (OSError, TypeError) as error:
        raise ExportError(f"the source of {module} cannot be read", got=str(error)) from None
    parsed, lines, end = _Module(), text.splitlines(), 0
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for item in node.names:
                alias = item.asname or item.name
                if isinstance(node, ast.Import):
                    parsed.imports[alias] = Imported(item.name, None, alias)
                else:
                    parsed.imports[alias] = Imported(node.module or "", item.name, alias)
        else:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                node.decorator_list = [d for d in node.decorator_list if not _is_ours(d, parsed.imports)]
            for name in _defined(node):
                first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
                while first - 1 > end and lines[first - 2].startswith("#"):
                    first -= 1
                parsed.definitions[name] = "\n".join(lines[first - 1 : node.end_lineno])
                parsed.needs[name] = names_in(node) - {name}
        end = node.end_lineno or end
    return parsed


def _is_ours(decorator: ast.expr, imports: dict[str, Imported]) -> bool:
    """Whether a decorator enters an operation into our tables: it stays behind."""
    root: ast.AST = decorator
    while not isinstance(root, ast.Name):
        children = list(ast.iter_child_nodes(root))
        if not children:
            return False
        root = children[0]
    found = imports.get(root.id)
    return found is not None and found.module.partition(".")[0] == "nas"


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef():
            return [node.name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case _:
            return []


def names_in(node: ast.AST) -> frozenset[str]:
    """Every name that the source reads, the words of its annotations included."""
    return frozenset(n.id for n in ast.walk(node) if isinstance(n, ast.Name))
