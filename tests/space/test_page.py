"""Reading pages: what is plain YAML, with its lines; and what hostile or ambiguous text is refused for."""

from __future__ import annotations

from pathlib import Path

import pytest

from nas.errors import SpaceError
from nas.space.page import MAX_DEPTH, Page, Row, read_file, read_page


def test_values_remember_their_lines() -> None:
    page = read_page("name: a\nnetwork:\n  - relu\n  - {op: conv,\n     stride: 2}\n", "p.yaml")
    assert page == {"name": "a", "network": ["relu", {"op": "conv", "stride": 2}]}
    rows, layer = page["network"], page["network"][1]
    assert isinstance(rows, Row)
    assert isinstance(layer, Page)
    assert (page.at("network"), rows.where, layer.where, layer.at("stride")) == ("p.yaml:2", "p.yaml:3", "p.yaml:4", "p.yaml:5")
    assert layer.without("op") == {"stride": 2}
    assert layer.without("op").at("stride") == "p.yaml:5"
    assert page.at("nowhere") == "p.yaml:1"


@pytest.mark.parametrize(("text", "value"), [
    ("1", 1), ("-0", 0), ("1.5", 1.5), ("1e-3", 0.001), ("1.0e+2", 100.0), ("'1e-3'", "1e-3"), ("true", True), ("False", False),
    ("null", None), ("", None), ("'yes'", "yes"), ('"3"', "3"), ("y", "y"), ("3x3", "3x3"), ("[1, [2]]", [1, [2]]),
    ("ä", "ä"), ("!!str 3", "3"), ("2026-01-01x", "2026-01-01x"),
])  # fmt: skip
def test_plain_values(text: str, value: object) -> None:
    read = read_page(f"a: {text}", "p")["a"]
    assert read == value
    assert type(read) is type(value) or isinstance(read, list)


def test_anchors_are_copies_and_json_is_a_page() -> None:
    assert read_page("a: &x [1, 2]\nb: *x", "p")["b"] == [1, 2]
    assert read_page('{"name": "a", "network": [{"op": "relu"}], "p": 1e-3}', "p")["p"] == 0.001


BOMB = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(("text", "line", "said"), [
    ("", None, "a page is a mapping"),
    ("- a", None, "a page is a mapping"),
    ("just text", None, "a page is a mapping"),
    ("a: 1\na: 2", 2, "duplicate key"),
    ("a: 1\nb: {c: 1, c: 2}", 2, "duplicate key"),
    ("1: a\n1.0: b", 2, "duplicate key"),
    ("a: 1\nb: [", 2, "not valid YAML"),
    ("a: b: c", 1, "not valid YAML"),
    ("a: 1\n---\nb: 2", 2, "not valid YAML"),
    ("a: *b", 1, "not valid YAML"),
    ("\ta: 1", 1, "not valid YAML"),
    ("a: \x00", None, "not valid YAML"),
    ("a: 1\nb: yes", 2, "ambiguous boolean"),
    ("b: No", 1, "ambiguous boolean"),
    ("on: 1", 1, "ambiguous boolean"),
    ("b: [off]", 1, "ambiguous boolean"),
    ("true: 1", 1, "a key is text or a number"),
    ("? [a]\n: 1", 1, "a key is text or a number"),
    ("~: 1", 1, "a key is text or a number"),
    ("a: &a {b: 1}\nc: {<<: *a}", 2, "merge keys are not allowed"),
    ("a: 2026-01-01", 1, "only plain values"),
    ("a: !!binary aGk=", 1, "only plain values"),
    ("a: !!python/name:os.system x", 1, "only plain values"),
    ("a: !!python/object/apply:os.system [ls]", 1, "only plain lists"),
    ("a: !thing {b: 1}", 1, "only plain lists"),
    ("a: !!set {b}", 1, "only plain lists"),
    ("a: .nan", 1, "a number is finite"),
    ("a: -.inf", 1, "a number is finite"),
    ("a: 1e999", 1, "a number is finite"),
    ("a: !!bool maybe", 1, "ambiguous boolean"),
    ("a: !!int x", 1, "whole numbers are written in decimal"),
    ("a: !!float x", 1, "a number is finite"),
    ("a: " + "9" * 5000, 1, "a number is finite"),
    ("a: 010", 1, "in decimal"),
    ("a: 0x10", 1, "in decimal"),
    ("a: 1_000", 1, "in decimal"),
    ("a: 1:30", 1, "in decimal"),
    ("a: &a [*a]", 1, "an anchor contains itself"),
    ("a: " + "[" * (MAX_DEPTH + 2) + "]" * (MAX_DEPTH + 2), 1, "nested too deeply"),
    ("a: " + "[" * 1000 + "]" * 1000, None, "nested too deeply"),
    ("a: " + "{b: " * 1000, None, "nested too deeply"),
    (BOMB, 1, "expands to too many values"),
])  # fmt: skip
def test_hostile_and_ambiguous_pages_are_refused(text: str, line: int | None, said: str) -> None:
    with pytest.raises(SpaceError, match=said) as caught:
        read_page(text, "p.yaml")
    assert caught.value.where == ("p.yaml" if line is None else f"p.yaml:{line}")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="cannot read the page"):
        read_file(tmp_path / "missing.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    with pytest.raises(SpaceError, match="cannot read the page"):
        read_file(tmp_path / "latin.yaml")
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfname: a")
    assert read_file(tmp_path / "bom.yaml") == {"name": "a"}


@pytest.mark.parametrize(("text", "hint"), [
    ("a:\n\t- b", "no tabs"), ("a:\n  - b\n - c", "same column"), ("a:\n  - b: 1\n   c: 2", "same column"),
    ("a: b: c", "same column"), ("a: {b", None),
])  # fmt: skip
def test_what_yaml_calls_strange_is_explained(text: str, hint: str | None) -> None:
    with pytest.raises(SpaceError, match="not valid YAML") as caught:
        read_page(text, "p")
    assert (hint in caught.value.hint) if hint and caught.value.hint else hint == caught.value.hint
