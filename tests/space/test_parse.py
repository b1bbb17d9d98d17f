"""The grammar: what a page's words become, and what is said about every mistake, with line and nearest word."""

from __future__ import annotations

import inspect
import keyword
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from nas.errors import SpaceError
from nas.ops import OPS
from nas.space import grammar
from nas.space.grammar import is_name
from nas.space.parse import parse_file, parse_page, parse_text
from nas.space.spec import Cell, CellInput, CellRef, Choice, Layer, Op, Parallel, Range, Repeat, Scaling, Sequential
from tests.space.pages import ALL_BUNDLED


def network(*layers: Any, **words: Any) -> tuple[Layer, ...]:
    return parse_page({"name": "s", "network": list(layers), **words}).network.layers


def body(layer: Any) -> Any:
    return network(layer)[0].body


@pytest.mark.parametrize("path", ALL_BUNDLED, ids=lambda path: path.stem)
def test_bundled_pages_parse(path: Path) -> None:
    assert parse_file(path).name


@pytest.mark.parametrize(("layer", "expected"), [
    ("relu", Op(name="relu")),
    ("sep_conv_5x5", Op(name="sep_conv", kwargs=(("kernel_size", 5),))),
    ({"op": "conv_bn", "kernel_size": [1, 3]}, Op(name="conv_bn", kwargs=(("kernel_size", (1, 3)),))),
    ({"op": "conv_bn_3x3", "kernel_size": 5}, Op(name="conv_bn", kwargs=(("kernel_size", 5),))),
    (["relu", "identity"], Sequential(layers=(Layer(name="0", body=Op(name="relu")), Layer(name="1", body=Op(name="identity"))))),
    ({"layers": ["relu"]}, Sequential(layers=(Layer(name="0", body=Op(name="relu")),))),
    ({"repeat": 2, "op": "relu"}, Repeat(bodies=(Op(name="relu"),), times=2)),
    ({"repeat": 2, "each": ["relu", "identity"]}, Repeat(bodies=(Op(name="relu"), Op(name="identity")), times=2)),
    ({"repeat": 2, "each": "relu"}, Repeat(bodies=(Op(name="relu"),), times=2, each=True)),
    ({"repeat": {"range": [1, 3]}, "op": "conv_bn", "first": {"stride": 2}},
     Repeat(bodies=(Op(name="conv_bn"),), times=Range(low=1, high=3), first=(("stride", 2),))),
    ({"choice": ["relu", {"op": "conv_bn"}]},
     Choice(options=(Op(name="relu"), Op(name="conv_bn")), labels=("relu", "conv_bn"))),
    ({"op": {"choice": ["conv_bn", "max_pool"]}, "stride": 2},
     Choice(options=(Op(name="conv_bn", kwargs=(("stride", 2),)), Op(name="max_pool", kwargs=(("stride", 2),))),
            labels=("conv_bn", "max_pool"))),
    ({"op": "dropout", "p": {"choice": [0.1, 0.2], "share": "p"}},
     Op(name="dropout", kwargs=(("p", Choice(options=(0.1, 0.2), labels=(0.1, 0.2), share="p")),))),
    ({"op": "conv_bn", "kernel_size": {"choice": [[1, 3], 3]}},
     Op(name="conv_bn", kwargs=(("kernel_size", Choice(options=((1, 3), 3), labels=("1,3", 3))),))),
    ({"branches": ["relu", {"name": "b", "op": "identity", "from": "x"}], "combine": "add"},
     Parallel(branches=(Layer(name="0", body=Op(name="relu")), Layer(name="b", body=Op(name="identity"), sources=("x",))),
              combine="add")),
])  # fmt: skip
def test_layers(layer: Any, expected: Any) -> None:
    assert body(layer) == expected


def test_layers_get_names() -> None:
    layers = network("relu", "relu", {"op": "relu"}, ["relu"], {"repeat": 1, "op": "relu"}, {"name": "a", "op": "relu"})
    assert [layer.name for layer in layers] == ["relu", "relu_2", "relu_3", "layers", "relu_4", "a"]


def test_an_operation_whose_name_every_module_has_is_called_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPS, "type", OPS["relu"])
    assert network("type")[0].name == "type_2"


def test_inner_names_are_seen_inside_and_nowhere_else() -> None:
    inner = [{"name": "a", "op": "relu"}, {"op": "add", "from": ["a", -1]}]
    assert network(inner, {"name": "a", "op": "relu"})[0].body.layers[1].sources == ("a", -1)
    with pytest.raises(SpaceError, match="unknown source"):
        network(inner, {"op": "add", "from": ["a", -1]})


@pytest.mark.parametrize(("sources", "expected"), [
    ("x", ("x",)), (-1, (-1,)), (["x", -2], ("x", -2)),
    ({"choice": ["x", "none"]}, (Choice(options=("x", "none"), labels=("x", "none")),)),
    ({"choice": [["x"], ["x", -1]]}, Choice(options=(("x",), ("x", -1)), labels=("x", "x,-1"))),
    ({"choice": {"subset": 1, "of": ["x", "a"]}}, Choice(options=(("x",), ("a",)), labels=("x", "a"))),
    (["x", {"optional": ["a"]}], ("x", Choice(options=("a", "none"), labels=("a", "none")))),
])  # fmt: skip
def test_sources(sources: Any, expected: Any) -> None:
    assert network({"name": "a", "op": "relu"}, {"op": "add", "from": sources})[1].sources == expected


def cell(**words: Any) -> Cell:
    return parse_page({"name": "s", "cells": {"c": words}, "network": [{"cell": "c"}]}).cells["c"]


def test_cells() -> None:
    made = cell(inputs={"a": {"project": "always"}, "b": {"absent": "raw"}}, layers=["relu"], output="relu", stride=2)
    assert made.inputs == (CellInput(name="a", project="always"), CellInput(name="b", absent="raw"))
    assert (made.output, made.stride, made.combine) == (("relu",), 2, "concat")
    assert cell(layers=["relu"]).inputs == (CellInput(name="x"),)
    assert cell(layers=["relu"], match=None).match is None


def test_a_use_of_a_cell_and_a_cell_in_a_cell() -> None:
    cells = {"a": {"layers": ["relu"]}, "b": {"layers": [{"cell": "a"}]}}
    page = parse_page({"name": "s", "cells": cells, "network": [{"cell": "b", "channels": {"range": [8, 16]}, "stride": 2}]})
    assert page.network.layers[0].body == CellRef(cell="b", channels=Range(low=8, high=16), stride=2)
    assert page.cells["b"].layers.layers[0].body == CellRef(cell="a")


def test_blocks() -> None:
    made = cell(inputs=["p", "q"], blocks=2, pick=2, ops={"choice": ["relu", "identity"]})
    first, second = (layer.body for layer in made.layers.layers)
    assert isinstance(first, Parallel)
    assert isinstance(second, Parallel)
    assert [layer.name for layer in made.layers.layers] == ["b0", "b1"]
    assert first.branches[0].sources == (Choice(options=("p", "q"), labels=("p", "q")),)
    assert second.branches[1].sources == (Choice(options=("p", "q", "b0"), labels=("p", "q", "b0")),)
    distinct = cell(inputs=["p", "q"], blocks=2, pick=2, distinct=True, ops="relu").layers.layers
    assert [layer.sources.labels for layer in distinct if isinstance(layer.sources, Choice)] == [
        ("p,q",), ("p,q", "p,b0", "q,b0")]  # fmt: skip


def test_like_takes_over_all_words_but_its_own() -> None:
    cells = {
        "a": {"inputs": ["p"], "blocks": 2, "pick": 1, "ops": "relu", "combine": "add", "output": "b0"},
        "b": {"like": "a", "stride": 2},
        "c": {"like": "b", "layers": [{"name": "b0", "op": "relu"}]},
    }
    made = parse_page({"name": "s", "cells": cells, "network": [{"cell": "b"}]}).cells
    assert made["b"].layers == made["a"].layers
    assert (made["b"].stride, made["b"].output, made["c"].stride) == (2, ("b0",), 2)
    assert len(made["c"].layers.layers) == 1
    assert made["c"].combine == "concat"


def test_a_page_is_built_in_python_from_the_same_nodes() -> None:
    from nas.space.search_space import SearchSpace
    from nas.space.spec import Spec

    kernel = Choice(options=(1, 3), labels=(1, 3))
    layers = (Layer(name="conv_bn", body=Op(name="conv_bn", kwargs=(("kernel_size", kernel),))),)
    built = Spec(name="s", network=Sequential(layers=layers))
    assert built == parse_page({"name": "s", "network": [{"op": "conv_bn", "kernel_size": {"choice": [1, 3]}}]})
    assert SearchSpace(built).size() == 2


# -- names ---------------------------------------------------------------------------------------------------------------


def test_the_names_of_every_module_are_known() -> None:
    everything = {name for name in {*dir(nn.Module), *vars(nn.Module())} if not name.startswith("_")}
    assert everything <= grammar.MODULE_WORDS


@pytest.mark.parametrize("name", [
    "forward", "training", "class", "lambda", "_modules", "__init__", "a.b", "a-b", "", "1a", "ä", "a b", "x", "none", "output",
    "unused", "combine", "a_match", "a_projection", "T_destination", *keyword.kwlist, "a\n",
])  # fmt: skip
def test_names_that_cannot_be_are_refused(name: str) -> None:
    assert not is_name(name)
    with pytest.raises(SpaceError, match="a layer's name is"):
        network({"name": name, "op": "relu"})
    with pytest.raises(SpaceError, match="a layer's name is"):
        network([{"name": name, "op": "relu"}])
    with pytest.raises(SpaceError, match="a cell's name is"):
        parse_page({"name": "s", "cells": {name: {"layers": ["relu"]}}, "network": ["relu"]})


@pytest.mark.parametrize("name", ["stem", "b0", "Stage1", "match", "case", "a_1"])
def test_names_that_can_be(name: str) -> None:
    assert network({"name": name, "op": "relu"})[0].name == name


# -- mistakes ------------------------------------------------------------------------------------------------------------

HEAD = "name: s\ncells:\n  c:\n    layers: [relu]\nnetwork:\n  - relu\n"
"""Six lines; what is appended begins at line 7."""

MISTAKES = [
    # page
    ("network: [relu]", 1, "name is text", None),
    ("name: s", 1, "the page has no network", None),
    ("name: s\nnetwrok: [relu]\nnetwork: [relu]", 2, "unknown word in the page", "network"),
    ("name: s\nnetwork: []", 2, "no layers", None),
    ("name: s\nnetwork: relu", 2, "a list of layers is a list", None),
    ("name: [s]\nnetwork: [relu]", 1, "name is text", None),
    ("name: s\nnetwork: [relu]\ninput: [3, 32]", 3, "input is the image's shape", None),
    ("name: s\nnetwork: [relu]\ninput: [3, 0, 32]", 3, "input is a whole number", None),
    ("name: s\nnetwork: [relu]\ninput: [true, 32, 32]", 3, "input is a whole number", None),
    ("name: s\nnetwork: [relu]\nnum_classes: ten", 3, "num_classes is a whole number", None),
    ("name: s\nnetwork: [relu]\nconstraints: [5]", 3, "a constraint is text", None),
    ("name: s\nnetwork: [relu]\nconstraints: macs<=1M", 3, "constraints is a list", None),
    ("name: s\nnetwork: [relu]\nscaling: {widht: 2}", 3, "unknown word in the scaling", "width"),
    ("name: s\nnetwork: [relu]\nscaling:\n  width: 0", 4, "width is a number", None),
    ("name: s\nnetwork: [relu]\nscaling:\n  phi: 1000000", 4, "phi is a number", None),
    ("name: s\nnetwork: [relu]\nscaling: {divisor: {choice: [4, 8]}}", 3, "divisor is a whole number", None),
    ("name: s\nnetwork: [relu]\nscaling: {divisor: 0}", 3, "divisor is a whole number", None),
    # layers
    (HEAD + "  - sep_cnov_3x3", 7, "unknown operation", "sep_conv_3x3"),
    (HEAD + "  - {op: sep_cnov_3x3}", 7, "unknown operation", "sep_conv_3x3"),
    (HEAD + "  - {op: [relu]}", 7, "not an operation", None),
    (HEAD + "  - 3", 7, "not a layer", None),
    (HEAD + "  - {}", 7, "a layer is exactly one thing", None),
    (HEAD + "  - {opp: relu}", 7, "a layer is exactly one thing", "op"),
    (HEAD + "  - {op: relu,\n     cell: c}", 7, "a layer is exactly one thing", None),
    (HEAD + "  - {op: conv_bn,\n     kernal_size: 3}", 8, "unknown word in the operation conv_bn", "kernel_size"),
    (HEAD + "  - {op: conv_bn,\n     kernel_size: 3.5}", 8, "kernel_size has the wrong kind of value", None),
    (HEAD + "  - {op: conv_bn, stride: true}", 7, "stride has the wrong kind of value", None),
    (HEAD + "  - {op: conv_bn, kernel_size: [{choice: [1, 3]}, 3]}", 7, "kernel_size has the wrong kind", None),
    (HEAD + "  - {op: conv_bn, kernel_size: [3, 3, 3]}", 7, "kernel_size has the wrong kind", None),
    (HEAD + "  - {op: mbconv, activation: 3}", 7, "activation has the wrong kind", None),
    (HEAD + "  - {op: dropout, p: half}", 7, "p has the wrong kind", None),
    (HEAD + "  - {name: relu, op: relu}", 7, "two layers of one name", None),
    (HEAD + "  - {name: 3, op: relu}", 7, "a layer's name is a word", None),
    (HEAD + "  - {name: forward, op: relu}", 7, "a layer's name is taken", None),
    (HEAD + "  - {op: relu, scale: 2}", 7, "scale is a switch", None),
    (HEAD + "  - {layers: [relu], stride: 2}", 7, "unknown word in the list of layers", None),
    # sources
    (HEAD + "  - {op: relu,\n     from: rleu}", 8, "unknown source", "relu"),
    (HEAD + "  - {op: relu, from: 1}", 7, "unknown source", None),
    (HEAD + "  - {op: relu, from: []}", 7, "no sources", None),
    (HEAD + "  - {op: relu, from: {chioce: [relu]}}", 7, "not a value", "choice"),
    (HEAD + "  - {op: add, from: {choice: {subset: 3, of: [x, relu]}}}", 7, "a subset larger than its set", None),
    (HEAD + "  - {op: add, from: {optional: [rleu]}}", 7, "unknown source", "relu"),
    # branches
    (HEAD + "  - {branches: [relu]}", 7, "branches are joined by an operation", None),
    (HEAD + "  - {branches: [], combine: add}", 7, "no branches", None),
    (HEAD + "  - {branches: [relu], combine: ad}", 7, "unknown operation that joins branches", "add"),
    (HEAD + "  - {branches: [relu], combine: relu}", 7, "unknown operation that joins branches", None),
    (HEAD + "  - {branches: [relu], combine: add, match: relu}", 7, "a match is one operation", None),
    (HEAD + "  - {branches: [{name: add, op: relu}], combine: add}", 7, "a branch's name is taken", None),
    # choices and ranges
    (HEAD + "  - {choice: []}", 7, "a choice without options", None),
    (HEAD + "  - {choice: relu}", 7, "choice is a list", None),
    (HEAD + "  - {choice: [relu, relu]}", 7, "two options of one label", None),
    (HEAD + "  - {choice: [[relu, [relu]], identity]}", 7, "this option needs a label", None),
    (HEAD + "  - {choice: [{repeat: 2, layers: [relu]}]}", 7, "this option needs a label", None),
    (HEAD + "  - {choice: {a.b: relu}}", 7, "a label is part of a path", None),
    (HEAD + "  - {choice: [relu], shared: a}", 7, "unknown word in the choice", "share"),
    (HEAD + "  - {choice: [relu], share: 3}", 7, "a shared decision's name is a word", None),
    (HEAD + "  - {op: {choice: [conv_bn, relu]}, stride: 2}", 7, "unknown word in the operation relu", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [5, 3]}}", 7, "the range is upside down", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 2, 3]}}", 7, "a range has two ends", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [a, b]}}", 7, "a range has two ends", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, null]}}", 7, "a range has two ends", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 5], stepp: 2}}", 7, "unknown word in the range", "step"),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 5], step: 0}}", 7, "a step is above 0", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 5], step: 0.5}}", 7, "kernel_size has the wrong kind", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 5.5]}}", 7, "kernel_size has the wrong kind", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [0, 5], log: true}}", 7, "a step is above 0", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {range: [1, 5], log: 1}}", 7, "log is a switch", None),
    (HEAD + "  - {op: conv_bn, kernel_size: {choice: [3, x]}}", 7, "kernel_size has the wrong kind", None),
    # repeats
    (HEAD + "  - {repeat: -1, op: relu}", 7, "repeat is a whole number", None),
    (HEAD + "  - {repeat: 1000000000, op: relu}", 7, "repeat is a whole number", None),
    (HEAD + "  - {repeat: {range: [1, 1000000]}, op: relu}", 7, "repeat is a whole number", None),
    (HEAD + "  - {repeat: 2}", 7, "a layer is exactly one thing", None),
    (HEAD + "  - {repeat: 2, op: relu, each: relu}", 7, "a repeat has one body", None),
    (HEAD + "  - {repeat: 2, each: [relu]}", 7, "each: .* lists one body a repetition", None),
    (HEAD + "  - {repeat: 2, each: {repeat: 2, op: relu}}", 7, "a repeat of a repeat", None),
    (HEAD + "  - {repeat: 2, op: conv_bn,\n     first: {strid: 2}}", 8, "unknown word in the operation conv_bn", "stride"),
    (HEAD + "  - {repeat: 2, op: conv_bn, first: {stride: two}}", 7, "stride has the wrong kind", None),
    (HEAD + "  - {repeat: 2, layers: [relu], first: {stride: 2}}", 7, "first: changes words of an operation", None),
    (HEAD + "  - {repeat: 2, cell: c, first: {depth: 2}}", 7, "unknown word in the first repetition", None),
    # cells
    (HEAD + "  - {cell: d}", 7, "unknown cell", None),
    (HEAD + "  - {cell: [c]}", 7, "unknown cell", None),
    (HEAD + "  - {cell: c, chanels: 8}", 7, "unknown word in the use of cell c", "channels"),
    (HEAD + "  - {cell: c, channels: 0}", 7, "channels is a whole number", None),
    ("name: s\ncells: [c]\nnetwork: [relu]", 2, "cells is a mapping", None),
    ("name: s\ncells:\n  c: relu\nnetwork: [relu]", 3, "cell c is a mapping", None),
    ("name: s\ncells:\n  network: {layers: [relu]}\nnetwork: [relu]", 3, "a cell's name is taken", None),
    ("name: s\ncells:\n  c:\n    layer: [relu]\nnetwork: [relu]", 4, "unknown word in the cell c", "layers"),
    ("name: s\ncells:\n  c:\n    stride: 2\nnetwork: [relu]", 4, "cell c has no layers", None),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    blocks: 2\nnetwork: [relu]", 5, "cell c has blocks and layers", None),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    pick: 2\nnetwork: [relu]", 5, "cell c has blocks and layers", None),
    ("name: s\ncells:\n  c:\n    blocks: 2\nnetwork: [relu]", 4, "blocks need operations", None),
    ("name: s\ncells:\n  c:\n    blocks: 1000000\n    ops: relu\nnetwork: [relu]", 4, "blocks is a whole number", None),
    ("name: s\ncells:\n  c:\n    {blocks: 60, pick: 9, distinct: true, ops: relu}\nnetwork: [relu]", 4, "too many", None),
    ("name: s\ncells:\n  c: {like: d, layers: [relu]}\nnetwork: [relu]", 3, "cell c is like an unknown cell", None),
    ("name: s\ncells:\n  c: {like: c}\nnetwork: [relu]", 3, "cell c is like itself", None),
    ("name: s\ncells:\n  a: {like: b}\n  b: {like: a}\nnetwork: [relu]", 4, "cell a is like itself", None),
    ("name: s\ncells:\n  c: {layers: []}\nnetwork: [relu]", 3, "no layers", None),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    inputs: [a, a]\nnetwork: [relu]", 5, "inputs of different names", None),
    ("name: s\ncells:\n  c:\n    inputs: {a: {project: alway}}\nnetwork: [relu]", 4, "unknown project", "always"),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    output: [rleu]\nnetwork: [relu]", 5, "unknown source", "relu"),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    output: [-1]\nnetwork: [relu]", 5, "an output is named", None),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    output: []\nnetwork: [relu]", 5, "an empty output", None),
    ("name: s\ncells:\n  c:\n    layers: [relu]\n    stride: 0\nnetwork: [relu]", 5, "stride is a whole number", None),
    ("name: s\ncells:\n  c:\n    layers: [{cell: c}]\nnetwork: [relu]", 4, "unknown cell", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line", "said", "nearest"), MISTAKES, ids=range(len(MISTAKES)))
def test_every_mistake_is_told_with_its_line_and_the_nearest_word(
    text: str, line: int, said: str, nearest: str | None
) -> None:
    with pytest.raises(SpaceError, match=said) as caught:
        parse_text(text, "p.yaml")
    assert caught.value.where == f"p.yaml:{line}"
    if nearest:
        assert caught.value.hint == f"Did you mean {nearest!r}?"


def test_a_page_from_python_is_told_without_a_line() -> None:
    with pytest.raises(SpaceError) as caught:
        network("rleu")
    assert str(caught.value) == "network.rleu: unknown operation; got 'rleu'. Did you mean 'relu'?"


@pytest.mark.parametrize(("text", "path"), [
    (HEAD + "  - {name: stem, op: conv_nb}", "network.stem"),
    (HEAD + "  - {name: stage, layers: [relu, {name: deep, branches: [relu, {op: conv_bn, strid: 2}], combine: add}]}",
     "network.stage.deep.1"),
    (HEAD + "  - {name: stage, repeat: 2, layers: [relu, {choice: [relu, conv_nb]}]}", "network.stage.1"),
    ("name: s\ncells:\n  c: {layers: [relu, [relu, 3]]}\nnetwork: [relu]", "c.layers.1"),
    ("name: s\nnetwork: [relu]\nnum_classes: ten", None),
])  # fmt: skip
def test_a_mistake_in_a_layer_is_told_with_its_path(text: str, path: str | None) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_text(text, "p.yaml")
    assert caught.value.path == path
    assert f"{caught.value.where}: {path or caught.value.message}" in str(caught.value)


@pytest.mark.parametrize(("text", "hint"), [
    (HEAD + "  - {name: {choice: [a, b]}, op: relu}", "cannot stand here"),
    (HEAD + "  - {op: relu, scale: {choice: [true, false]}}", "cannot stand here"),
    (HEAD + "  - {branches: [relu, relu], combine: add, match: {choice: [conv_bn, relu]}}", "cannot stand here"),
    ("name: s\nnetwork: [relu]\nnum_classes: {range: [2, 9]}", "cannot stand here"),
    (HEAD + "  - {cell: {choice: [c, d]}}", "{cell: a}"),
    (HEAD + "  - {op: conv_bn, stride: {choice: [1, 2, 1]}}", "Take one of them away"),
    (HEAD + "  - {choice: [{op: conv_bn, stride: 1}, {op: conv_bn, stride: 2}]}", "Name them"),
])  # fmt: skip
def test_what_to_write_instead(text: str, hint: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_text(text, "p.yaml")
    assert hint in (caught.value.hint or "")


def test_a_page_from_python_may_be_nested_too_deeply() -> None:
    layer: Any = "relu"
    for _ in range(3000):
        layer = [layer]
    with pytest.raises(SpaceError, match="nested too deeply"):
        network(layer)


def test_the_tables_of_words_are_the_fields_of_the_nodes() -> None:
    assert {f.name for f in fields(Scaling)} == set(grammar.SCALING_WORDS)
    assert {f.name for f in fields(CellInput)} - {"name"} == set(grammar.INPUT_WORDS)
    assert {f.name for f in fields(CellRef)} - {"cell"} == set(grammar.CELL_USE_WORDS)
    assert {f.name for f in fields(Parallel)} == set(grammar.BRANCHES_WORDS)
    assert {f.name for f in fields(Cell)} - {"name"} <= set(grammar.CELL_WORDS)
    assert {f.name for f in fields(Range)} - {"low", "high", "where"} < set(grammar.RANGE_WORDS)
    assert all(inspect.getdoc(kind) for kind in (Op, CellRef, Sequential, Parallel, Repeat, Choice, Range))
