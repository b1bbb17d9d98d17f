"""The graph: sums over nodes, cells opened."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from nas.net.graph import Call, Graph, Node, Size

CONV = Call("conv_bn", {"in_channels": 3, "out_channels": 4}, (4, 8, 8), 116, 6912)
RELU = Call("relu", {}, (4, 8, 8), 0, 0)
CELL = Graph("cell", (("x", (3, 8, 8)),), (Node("conv", CONV, ("x",)), Node("relu", RELU, ("conv",))), "relu", (4, 8, 8))
GRAPH = Graph("network", (("x", (3, 8, 8)),), (Node("a", CELL, ("x",)), Node("b.0", RELU, ("a",))), "b.0", (4, 8, 8))


def test_costs_are_sums_and_cells_count_at_every_use() -> None:
    twice = Graph("two", GRAPH.inputs, (Node("a", CELL, ("x",)), Node("b", CELL, ("x",))), "b", (4, 8, 8))
    assert (GRAPH.num_params, GRAPH.macs) == (116, 6912)
    assert (twice.num_params, twice.macs) == (232, 2 * 6912)


def test_calls_open_cells_and_shapes_do_not() -> None:
    assert [name for name, _ in GRAPH.calls()] == ["a.conv", "a.relu", "b.0"]
    assert GRAPH.shapes() == {"x": (3, 8, 8), "a": (4, 8, 8), "b.0": (4, 8, 8)}


def test_graphs_are_compared_by_identity_and_sizes_by_value() -> None:
    assert Graph(CELL.name, CELL.inputs, CELL.nodes, CELL.output, CELL.shape) != CELL
    assert Size(width=0.5) == Size(width=0.5)
    with pytest.raises(FrozenInstanceError):
        Size().width = 2.0  # type: ignore[misc]
