"""docs/training.md: its table has every word of a recipe, its commands and example are understood."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from nas.cli import VERBS
from nas.cli.arguments import parse_arguments
from nas.train import Recipe, bundled_recipes, find_recipe, load_recipe

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
COMMANDS = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines()]


def table(heading: str) -> list[list[str]]:
    rows = TEXT.split(f"| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def test_every_word_is_told() -> None:
    told = [word for row in table("word") for word in re.findall(r"`(\w+)`", row[0])]
    assert told == sorted(told, key=told.index)
    assert set(told) == {field.name for field in fields(Recipe)}


def test_every_bundled_recipe_is_told() -> None:
    assert {row[0].strip("`") for row in table("recipe")} == set(bundled_recipes())


def test_the_example_is_a_recipe(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "mine.yaml").write_text(example)
    page = load_recipe(str(tmp_path / "mine.yaml"))
    assert (page.source, page.recipe.epochs, page.recipe.mixup) == ("my own", 100, 0.2)
    assert page.recipe.cutout == find_recipe("cifar").cutout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str) -> None:
    words = shlex.split(command)
    words = words[words.index("nas") + 1 :]
    assert parse_arguments(VERBS[words[0]], words[1:]).words
