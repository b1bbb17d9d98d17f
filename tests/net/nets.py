"""Short ways to a graph, for tests."""

from __future__ import annotations

from typing import Any

from nas.net.graph import Graph, Size
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.search_space import Architecture


def lowered(*layers: Any, size: Size | None = None, **words: Any) -> Graph:
    """The graph of a network of these layers on a 4x8x8 input."""
    page = {"name": "net", "input": [4, 8, 8], "num_classes": 5, "network": list(layers), **words}
    return lower(Architecture(parse_page(page)), size or Size())


def in_cell(*layers: Any, use: dict[str, Any] | None = None, **words: Any) -> Graph:
    """The graph of a cell of these layers, 8 wide unless ``use`` says otherwise, as it is used in a network."""
    network = [{"name": "u", "cell": "c", "channels": 8, **(use or {})}]
    target = lowered(*network, cells={"c": {"layers": list(layers), **words}}).nodes[0].target
    assert isinstance(target, Graph)
    return target


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes]


def inputs(graph: Graph) -> dict[str, tuple[str, ...]]:
    return {node.name: node.inputs for node in graph.nodes}
