"""The rooms: imports point one way, and torch is imported only where tensors are. Read from the source by ast."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ["errors", "ops", "space", "net", "measure", "train", "search", "report", "export", "cli"]
FILES = sorted((ROOT / "nas").rglob("*.py"))
TORCH_FREE = ["nas.errors", "nas.ops", "nas.space.search_space", "nas.space.parse", "nas.net.lower", "nas.net.identity",
              "nas.ops.plugins", "nas.ops.testing", "nas.search.vary"]  # fmt: skip


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Everything imported anywhere in a file, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they point"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import: not what is inside functions or under TYPE_CHECKING."""

    class Strip(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
            return None

        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if "TYPE_CHECKING" in ast.unparse(node.test) else self.generic_visit(node)

    stripped: ast.Module = Strip().visit(tree)
    return stripped


def room(name: str) -> int | None:
    parts = name.split(".")
    return ROOMS.index(parts[1]) if parts[0] == "nas" and len(parts) > 1 and parts[1] in ROOMS else None


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_no_room_imports_a_higher_one(file: Path) -> None:
    own = room(module_name(file))
    if own is None:  # the package itself gathers from all rooms
        return
    higher = [name for name in imports(ast.parse(file.read_text())) if (room(name) or 0) > own]
    assert higher == []


@pytest.mark.parametrize("file", sorted((ROOT / "nas" / "ops" / "modules").glob("*.py")), ids=module_name)
def test_modules_import_torch_alone(file: Path) -> None:
    allowed = (*sys.stdlib_module_names, "torch", "nas.ops.modules")
    inside = tuple(f"{name}." for name in allowed)
    names = imports(ast.parse(file.read_text()))
    assert [name for name in names if name not in allowed and not name.startswith(inside)] == []


@pytest.mark.parametrize("file", sorted((ROOT / "nas" / "ops").glob("*.py")), ids=module_name)
def test_sketches_never_import_torch(file: Path) -> None:
    names = imports(top_level(ast.parse(file.read_text())))
    assert [name for name in names if name.split(".")[0] == "torch" or name.startswith("nas.ops.modules")] == []


def test_the_kernel_is_imported_without_torch() -> None:
    code = f"import sys, {', '.join(TORCH_FREE)}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_no_import_cycle() -> None:
    known = {module_name(file): file for file in FILES}
    graph = {name: {n for n in imports(top_level(ast.parse(file.read_text()))) if n in known and n != name}
             for name, file in known.items()}  # fmt: skip
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for lower in graph[name]:
                visit(lower, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())
