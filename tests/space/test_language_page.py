"""docs/space-language.md: every example parses, every word is shown, the Python example runs."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import nas
from nas.net.lower import lower
from nas.ops import OPS
from nas.space import grammar
from nas.space.parse import parse_text
from nas.space.search_space import SearchSpace
from tests.ops.plugins import tables_restored
from tests.space.pages import ROOT

TEXT = (ROOT / "docs" / "space-language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
PYTHON = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
MY_OPS, CONTRACT, FROM_PYTHON = PYTHON


@pytest.fixture(autouse=True)
def _my_ops(tmp_path: Path) -> Iterator[None]:
    """The page's own operation is loaded, as its examples want it."""
    (tmp_path / "my_ops.py").write_text(MY_OPS)
    with tables_restored():
        nas.load_plugins([str(tmp_path / "my_ops.py")])
        yield


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.split("\n")[0])
def test_every_example_parses_and_lowers(example: str) -> None:
    space = SearchSpace(parse_text(example))
    for seed in range(3):
        assert lower(space.sample(random.Random(seed))).nodes


def test_every_word_is_shown_in_an_example() -> None:
    words: set[str] = set()

    def collect(value: object) -> None:
        if isinstance(value, dict):
            words.update(map(str, value))
        for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            collect(inner)

    for example in EXAMPLES:
        collect(yaml.safe_load(example))
    tables = [value for name, value in vars(grammar).items() if name.endswith("_WORDS") and isinstance(value, tuple)]
    assert len(tables) > 8
    assert {word for table in tables for word in table} - words == set()
    assert all(f"`{word}`" in TEXT for word in (*grammar.PROJECT, *grammar.ABSENT))


def test_the_decision_key_that_the_page_shows_exists() -> None:
    holes = SearchSpace(parse_text(next(e for e in EXAMPLES if e.startswith("name: holes")))).holes
    assert "network.choice_2=wide.kernel_size" in holes


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(FROM_PYTHON, {})
    assert parse_text(capsys.readouterr().out).name == "from_python"


def test_the_operation_of_ones_own_keeps_the_contract() -> None:
    names: dict[str, Any] = {}
    exec(CONTRACT, names)
    contract = names["TestDenseConv"]()
    tests = [name for name in dir(contract) if name.startswith("test_")]
    assert len(tests) == 5
    for name in tests:
        getattr(contract, name)()


def test_the_operations_that_the_page_names_exist() -> None:
    assert {"conv_bn", "sep_conv", "mbconv", "factorized_reduction"} <= set(OPS)
