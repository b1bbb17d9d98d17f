"""The pages that come with the package, and finding a page by name or path."""

from __future__ import annotations

from pathlib import Path

import nas
from nas.errors import SpaceError, nearest
from nas.space.parse import parse_file
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


def bundled_architectures() -> dict[str, Path]:
    """Every bundled published network: name -> page."""
    return {path.stem: path for path in sorted((pages_folder() / "architectures").glob("*.yaml"))}


def find_page(word: str) -> Path:
    """The page of a bundled name, or at a path. Raises SpaceError naming the nearest bundled one."""
    known = bundled_architectures() | bundled_spaces()
    if word in known:
        return known[word]
    path = Path(word).expanduser()
    if path.suffix in {".yaml", ".yml", ".json"} or "/" in word:
        if path.is_file():
            return path
        raise SpaceError("no such page", got=word, expected="a YAML file, or a name that `nas spaces` lists",
                         hint=nearest(path.stem, known))  # fmt: skip
    raise SpaceError("no space or architecture of that name", got=word, expected="a name that `nas spaces` lists, or a YAML file",
                     hint=nearest(word, known))  # fmt: skip


def load_page(word: str) -> SearchSpace | Architecture:
    """The search space or architecture of a bundled name or a YAML file."""
    spec = parse_file(find_page(word))
    return SearchSpace(spec) if has_holes(spec) else Architecture(spec)


def load_space(word: str) -> SearchSpace:
    """The search space of a bundled name or a YAML file. Raises SpaceError when it has nothing to decide."""
    page = load_page(word)
    if isinstance(page, Architecture):
        raise SpaceError("that is an architecture: there is nothing to search", got=word, expected="a page with a choice or range",
                         hint="`nas show` prints it; `nas spaces` lists spaces.")  # fmt: skip
    return page


def load_architecture(word: str) -> Architecture:
    """The architecture of a bundled name or a YAML file. Raises SpaceError when it has decisions left."""
    page = load_page(word)
    if isinstance(page, SearchSpace):
        raise SpaceError("that is a search space: it has decisions left", got=word, expected="a page without choice or range")
    return page
