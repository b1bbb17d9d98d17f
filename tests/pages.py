"""The pages that the tests of spaces and architectures run over."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from nas.space.family import variant
from nas.space.page import read_file
from nas.space.parse import parse_file, parse_page
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Spec

PAGES = Path(__file__).parent.parent / "search_spaces"
SPACE_FILES = sorted(PAGES.glob("*.yaml"))
FAMILY_FILES = sorted((PAGES / "architectures").glob("*.yaml"))


def parse_family(path: Path) -> dict[str, Spec]:
    """Every spec in a file by name: the page itself, and its variants."""
    page = read_file(path)
    base = parse_page(page)
    return {base.name: base} | {name: parse_page(variant(page, name)) for name in page.get("variants", {})}


@cache
def architectures() -> dict[str, Architecture]:
    """Every published architecture by name."""
    return {name: Architecture(spec) for file in FAMILY_FILES for name, spec in parse_family(file).items()}


@cache
def space(name: str) -> SearchSpace:
    """The space of that file name."""
    return SearchSpace(parse_file(PAGES / f"{name}.yaml"))
