"""Recipes as pages of YAML: the bundled ones by name, and a user's own files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nas.errors import TrainError, nearest
from nas.space.page import Page, read_file
from nas.train.recipe import Recipe

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipePage:
    """A recipe with its name and where it comes from."""

    name: str
    source: str
    recipe: Recipe


@cache
def bundled_recipes() -> dict[str, RecipePage]:
    """Every bundled recipe by name: ``quick`` compares candidates, the others train a found network to the end."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.yaml"))}


def load_recipe(word: str) -> RecipePage:
    """The recipe of a bundled name or a YAML file, whose keys are the fields of :class:`Recipe`, ``source`` and ``like``.

    ``like`` names the bundled recipe that the file's keys change. Raises TrainError, or SpaceError for what is no YAML.
    """
    known = bundled_recipes()
    if word in known:
        return known[word]
    path = Path(word).expanduser()
    if path.suffix in {".yaml", ".yml", ".json"} or "/" in word:
        if path.is_file():
            return _read(path)
        raise TrainError("no such recipe", got=word, expected="a YAML file, or " + " or ".join(known))
    raise TrainError("unknown recipe", expected=" or ".join(known) + ", or a YAML file", got=word, hint=nearest(word, known))


def find_recipe(word: str) -> Recipe:
    """:func:`load_recipe` without the page."""
    return load_recipe(word).recipe


def _read(path: Path) -> RecipePage:
    page = read_file(path)
    base = find_recipe(_base(page)) if "like" in page else None
    words = page.without("source", "like")
    try:
        recipe = Recipe.from_mapping(words, base=base)
    except TrainError as error:
        key = (error.where or "").removeprefix("recipe.")
        line = page.at(key if key in page else str(error.got))
        raise TrainError(error.message, where=f"{line}: {error.where}", expected=error.expected, got=error.got,
                         hint=error.hint) from None  # fmt: skip
    return RecipePage(name=path.stem, source=str(page.get("source", path.name)), recipe=recipe)


def _base(page: Page) -> str:
    base = str(page["like"])
    if base not in (known := bundled_recipes()):
        raise TrainError("a recipe is like a bundled one", where=page.at("like"), got=base, expected=" or ".join(known),
                         hint=nearest(base, known))
    return base
