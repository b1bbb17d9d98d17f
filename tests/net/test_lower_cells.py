"""What the pages of cell-based networks ask of lowering."""

from __future__ import annotations

import pytest
import torch

from nas.net.build import build
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.space.parse import parse_text
from nas.space.search_space import Architecture, SearchSpace
from nas.space.unparse import to_yaml

HEAD = "name: tiny\ninput: [3, 8, 8]\n"


def graph_of(text: str) -> Graph:
    architecture = Architecture(parse_text(HEAD + text))
    assert parse_text(to_yaml(architecture.spec)) == architecture.spec
    graph = lower(architecture)
    module = build(graph).eval()
    assert module(torch.randn(2, 3, 8, 8)).shape == (2, *graph.shape)
    assert sum(p.numel() for p in module.parameters()) == graph.num_params
    return graph


def ops(graph: Graph) -> list[str]:
    return [call.op for _, call in graph.calls()]


def inputs_of(graph: Graph, name: str) -> tuple[str, ...]:
    return next(node.inputs for node in graph.nodes if node.name == name)


def test_the_first_repetition_may_read_other_sources() -> None:
    """NASNet-A large: the first cell after a reduction reads what the reduction read."""
    graph = graph_of("""
cells:
  cell: {inputs: [a, b], layers: [{name: sum, op: add, from: [a, b]}], output: [sum]}
network:
  - {name: one, op: conv_bn, out_channels: 4}
  - {name: two, op: conv_bn, out_channels: 4}
  - {name: three, op: conv_bn, out_channels: 4}
  - {name: stack, repeat: 2, cell: cell, channels: 4, first: {from: [-1, -3]}}
""")
    assert inputs_of(graph, "stack.0") == ("three", "one")
    assert inputs_of(graph, "stack.1") == ("stack.0", "three")


def test_a_cell_may_use_cells_written_before_it() -> None:
    graph = graph_of("""
cells:
  inner: {inputs: [x], layers: [{name: conv, op: relu_conv_bn}], output: [conv]}
  outer:
    inputs: [x]
    layers: [{name: one, cell: inner}, {name: two, cell: inner, from: x}, {name: sum, op: add, from: [one, two]}]
    output: [sum]
  strided: {like: outer, stride: 2}
network: [{op: conv_bn, out_channels: 4}, {cell: outer, channels: 4}, {cell: strided, channels: 4}]
""")
    assert ops(graph).count("relu_conv_bn") == 4
    assert graph.shape == (4, 4, 4)


def test_a_cell_may_leave_branches_as_wide_as_they_are() -> None:
    """Hierarchical cells concatenate what comes in; only NASNet's bring every branch to the cell's width."""
    text = """
cells:
  cell:
    inputs: [x]
    %s
    layers: [{name: pool, combine: concat, branches: [max_pool_3x3, max_pool_5x5]}]
    output: [pool]
network: [{op: conv_bn, out_channels: 6}, {cell: cell, channels: 4}]
"""
    assert graph_of(text % "match: null").shape == (12, 8, 8)
    assert graph_of(text % "match: conv_bn_1x1").shape == (8, 8, 8)


def test_a_source_that_is_none_takes_its_branch_away() -> None:
    graph = graph_of("""
cells:
  cell:
    inputs: [x, y]
    layers: [{name: sum, from: [none, y], combine: add, branches: [relu_conv_bn_5x5, relu_conv_bn_3x3]}]
    output: [sum]
network: [{op: conv_bn, out_channels: 4}, {op: conv_bn, out_channels: 4}, {cell: cell}]
""")
    assert ops(graph) == ["conv_bn", "relu_conv_bn"], "the second convolution is not read"
    assert next(call.kwargs for _, call in graph.calls() if call.op == "relu_conv_bn")["in_channels"] == 4


def test_optional_sources_are_each_a_decision() -> None:
    space = SearchSpace(parse_text(HEAD + """
network:
  - {name: a, op: conv_bn, out_channels: 4}
  - {name: b, op: conv_bn}
  - {name: all, op: concat, from: [b, {optional: [a]}]}
"""))  # fmt: skip
    assert list(space.holes) == ["network.all.from.1"]
    assert [lower(architecture).shape[0] for architecture in space.enumerate()] == [8, 4]


@pytest.mark.parametrize(("combine", "channels"), [("add", 4), ("concat", 4)])
def test_zeros_take_no_part(combine: str, channels: int) -> None:
    graph = graph_of(f"""
network:
  - {{op: conv_bn, out_channels: 4}}
  - {{combine: {combine}, branches: [zero, [zero, max_pool_3x3], identity]}}
""")
    assert ops(graph) == ["conv_bn"]
    assert graph.shape[0] == channels


def test_weights_after_a_zero_are_kept() -> None:
    """Batch norm makes a constant of it, and benchmarks count it (NAS-Bench-201)."""
    branches = "{combine: add, branches: [[zero, relu_conv_bn], identity]}"
    graph = graph_of(f"network: [{{op: conv_bn, out_channels: 4}}, {branches}]")
    assert "relu_conv_bn" in ops(graph)


@pytest.mark.parametrize(("words", "expected"), [("", [2, 1]), (", stride: 2", [2, 2]), (", stride: 1", [1, 2])])
def test_an_operations_own_stride_leaves_the_cells_to_the_next(words: str, expected: list[int]) -> None:
    """So a layer may go down and up again inside a cell that strides."""
    graph = lower(Architecture(parse_text(f"""
        name: t
        cells: {{c: {{stride: 2, layers: [{{op: conv_bn{words}}}, conv_bn]}}}}
        network: [{{cell: c}}, global_avg_pool, classifier]
        """)))
    assert [call.kwargs.get("stride", 1) for _, call in graph.calls() if call.op == "conv_bn"] == expected
