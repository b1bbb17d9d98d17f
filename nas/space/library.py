"""The pages that come with the package, and finding a page by name or path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nas
from nas.errors import SpaceError, nearest
from nas.space.family import override, variant
from nas.space.page import Page, read_file
from nas.space.parse import parse_page
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import has_holes


def pages_folder() -> Path:
    """Where the bundled pages lie: inside an installed package, beside it in a checkout."""
    package = Path(nas.__file__).parent
    inside = package / "search_spaces"
    return inside if inside.is_dir() else package.parent / "search_spaces"


def bundled_spaces() -> dict[str, Path]:
    """Every bundled search space: name -> page."""
    return {path.stem: path for path in sorted(pages_folder().glob("*.yaml"))}


def bundled_architectures() -> dict[str, Page]:
    """Every bundled published network by name, the variants of families included: name -> page."""
    pages: dict[str, Page] = {}
    for path in sorted((pages_folder() / "architectures").glob("*.yaml")):
        page = read_file(path)
        pages[page["name"]] = page
        pages |= {name: variant(page, name) for name in page.get("variants", {})}
    return pages


def find_page(word: str) -> Page:
    """The page of a bundled name, or at a path. Raises SpaceError naming the nearest bundled one."""
    spaces = bundled_spaces()
    if word in spaces:
        return read_file(spaces[word])
    path = Path(word).expanduser()
    if path.suffix in {".yaml", ".yml", ".json"} or "/" in word:
        if path.is_file():
            return read_file(path)
        raise SpaceError("no such page", got=word, expected="a YAML file, or a name that `nas spaces` lists",
                         hint=nearest(str(path), map(str, path.parent.glob("*.*ml"))) or nearest(path.stem, spaces))  # fmt: skip
    architectures = bundled_architectures()
    if word in architectures:
        return architectures[word]
    raise SpaceError("no space or architecture of that name", got=word, expected="a name that `nas spaces` lists, or a YAML file",
                     hint=nearest(word, [*spaces, *architectures]))  # fmt: skip


def load_page(word: str, changes: Mapping[str, Any] | None = None) -> SearchSpace | Architecture:
    """The search space or architecture of a bundled name or a YAML file, with changes such as ``network.stem.stride: 2``."""
    page = find_page(word)
    spec = parse_page(override(page, changes) if changes else page)
    return SearchSpace(spec) if has_holes(spec) else Architecture(spec)


def load_space(word: str) -> SearchSpace:
    """The search space of a bundled name or a YAML file. Raises SpaceError when it has nothing to decide."""
    page = load_page(word)
    if isinstance(page, Architecture):
        raise SpaceError("that is an architecture: there is nothing to search", got=word,
                         expected="a page with a choice or range", hint="`nas spaces` lists the spaces.")  # fmt: skip
    return page


def load_architecture(word: str) -> Architecture:
    """The architecture of a bundled name or a YAML file. Raises SpaceError when it has decisions left."""
    page = load_page(word)
    if isinstance(page, SearchSpace):
        raise SpaceError("that is a search space: it has decisions left", got=word, expected="a page without choice or range")
    return page
