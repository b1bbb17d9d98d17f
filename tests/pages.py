"""The pages that the tests of spaces and architectures run over."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nas.space.family import parse_family
from nas.space.parse import parse_file
from nas.space.search_space import Architecture, SearchSpace

PAGES = Path(__file__).parent.parent / "search_spaces"
SPACE_FILES = sorted(PAGES.glob("*.yaml"))
FAMILY_FILES = sorted((PAGES / "architectures").glob("*.yaml"))


@cache
def architectures() -> dict[str, Architecture]:
    """Every published architecture by name."""
    return {name: Architecture(spec) for file in FAMILY_FILES for name, spec in parse_family(file).items()}


@cache
def space(name: str) -> SearchSpace:
    """The space of that file name."""
    return SearchSpace(parse_file(PAGES / f"{name}.yaml"))
