"""Layers of one place that are wired as a block, closed into graphs of their own: for exported source and for pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from nas.net.graph import Graph, Node
from nas.ops import Shape


def regroup(graph: Graph) -> Graph:
    """The network with every group of layers that is not a plain chain as a graph of its own, named after its place.

    A group is taken where one of its values alone is read outside; groups of numbered layers (repeats) stay open.
    """
    whole = frozenset(head.partition(".")[0] for head in graph.heads)
    nodes, outputs = _regroup(list(graph.nodes), "", {graph.output, *graph.heads}, graph.shapes(), whole)
    output, *heads = (outputs.get(name, name) for name in (graph.output, *graph.heads))
    return Graph(graph.name, graph.inputs, tuple(nodes), output, graph.shape, (), tuple(heads))


def _regroup(nodes: list[Node], prefix: str, wanted: set[str], shapes: Mapping[str, Shape],
             whole: frozenset[str] = frozenset()) -> tuple[list[Node], dict[str, str]]:  # fmt: skip
    """Nodes under a prefix with their groups closed, and the new names of values that groups now stand for.

    ``whole`` are auxiliary heads: each becomes one step, so that it can be left out.
    """
    renamed: dict[str, str] = {}
    result: list[Node] = []
    for path, group in _by_child(nodes, prefix):
        inside = {node.name for node in group}
        read = wanted | {name for node in nodes if node.name not in inside for name in node.inputs}
        exits = [name for name in inside if name in read]
        if group[0].name == path or _is_chain(group) or len(exits) != 1:
            closed = group
        elif path in whole:
            closed, inner = _regroup(group, f"{path}.", read, shapes)
            if not _is_chain(closed):
                closed, inner = [_close(group, path, exits[0], shapes)], {exits[0]: path}
            renamed |= inner
        elif _is_repeat(group, path):
            closed, inner = _regroup(group, f"{path}.", read, shapes)
            renamed |= inner
        else:
            closed = [_close(group, path, exits[0], shapes)]
            renamed[exits[0]] = path
        result += [node._replace(inputs=tuple(renamed.get(n, n) for n in node.inputs)) for node in closed]
    return result, renamed


def _by_child(nodes: list[Node], prefix: str) -> list[tuple[str, list[Node]]]:
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault(prefix + node.name[len(prefix) :].partition(".")[0], []).append(node)
    return list(groups.items())


def _is_chain(group: list[Node]) -> bool:
    return all(len(n.inputs) == 1 for n in group) and all(b.inputs == (a.name,) for a, b in pairwise(group))


def _is_repeat(group: list[Node], path: str) -> bool:
    return all(node.name[len(path) + 1 :].partition(".")[0].isdigit() for node in group)


def _close(group: list[Node], path: str, output: str, shapes: Mapping[str, Shape]) -> Node:
    """The group as one node: a graph whose inputs are what the group reads from outside."""
    inside = [node.name for node in group]
    outside = list(dict.fromkeys(name for node in group for name in node.inputs if name not in inside))
    names = dict(zip(outside, ["x"] if len(outside) == 1 else [f"x{i + 1}" for i in range(len(outside))], strict=True))
    inner = {name: name.removeprefix(f"{path}.") for name in inside} | names
    nodes = tuple(Node(inner[n.name], n.target, tuple(inner[i] for i in n.inputs)) for n in group)
    inputs = tuple((names[name], shapes[name]) for name in outside)
    return Node(path, Graph(path, inputs, nodes, inner[output], shapes[output]), tuple(outside))
