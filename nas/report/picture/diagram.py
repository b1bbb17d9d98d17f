"""What a picture shows of a lowered graph: boxes and edges. Equal layers in a row become one box with a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from nas.net.graph import Call, Graph, Node
from nas.net.regroup import regroup
from nas.ops import OPS
from nas.report.text import count

PERIOD = 6
"""Layers that a folded repeat may consist of at most."""

_FAMILIES = {
    "conv": "conv", "separable": "depthwise", "mobile": "depthwise", "residual": "block", "pool": "pool", "wiring": "join",
    "transformer": "attention", "channel_attention": "attention", "coatnet": "attention", "tokens": "token",
    "sequence": "sequence", "heads": "head", "norm": "plain",
}  # fmt: skip
"""The kind of an operation, by the file of :mod:`nas.ops` that has its sketch."""

_FITTINGS = ("_projection", "_match")
"""Ends of the names of layers that lowering puts in where sizes ask for them: not part of a cell's definition."""


class Box(NamedTuple):
    """A box: what stands in it, what hovering tells, its kind (a colour), and how many layers in a row it stands for."""

    title: str
    note: str
    tip: str
    kind: str
    times: int = 1


class Diagram(NamedTuple):
    """A picture's content. ``frames`` are runs of boxes, first and last, that repeat together so many times."""

    title: str
    note: str
    boxes: tuple[Box, ...]
    edges: tuple[tuple[int, int], ...]
    frames: tuple[tuple[int, int, int], ...] = ()


def diagrams(graph: Graph) -> list[Diagram]:
    """The network, then every cell and block in it once, in the order of their first use."""
    network = regroup(graph)
    cells = frozenset(map(id, _inner(graph)))
    return [network_diagram(network, cells), *(cell_diagram(*found) for found in _definitions(network, cells))]


def cell_diagram(cell: Graph, uses: Sequence[Graph]) -> Diagram:
    """A cell: its inputs, every operation, its output. ``uses`` are all of its definition, this one among them."""
    boxes = [Box(name, size(shape), f"input {name}, {size(shape)}", "input") for name, shape in cell.inputs]
    boxes += [_box(node, f"{node.name}") for node in cell.nodes]
    index = {name: i for i, (name, _) in enumerate(cell.inputs)} | {n.name: i for i, n in enumerate(cell.nodes, len(cell.inputs))}
    edges = [(index[name], index[node.name]) for node in cell.nodes for name in dict.fromkeys(node.inputs)]
    edges.append((index[cell.output], len(boxes)))
    boxes.append(Box("output", size(cell.shape), f"output, {size(cell.shape)}", "output"))
    names = list(dict.fromkeys(graph.name for graph in uses))
    title = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    sizes = [count(number) for number in (min(g.num_params for g in uses), max(g.num_params for g in uses))]
    note = " to ".join(dict.fromkeys(sizes)) + " parameters" + (f", used {len(uses)} times" if len(uses) > 1 else "")
    return Diagram(title, note, *_used(boxes, edges))


def _used(boxes: list[Box], edges: list[tuple[int, int]]) -> tuple[tuple[Box, ...], tuple[tuple[int, int], ...]]:
    """Without boxes that lead nowhere and come from nowhere (an input that a cell does not read)."""
    kept = sorted({i for edge in edges for i in edge})
    place = {old: new for new, old in enumerate(kept)}
    return tuple(boxes[i] for i in kept), tuple((place[a], place[b]) for a, b in edges)


def network_diagram(network: Graph, cells: frozenset[int] = frozenset()) -> Diagram:
    """The layers of a regrouped network; runs of equal ones, each reading the one before, are folded."""
    nodes = list(network.nodes)
    boxes = [Box("input", size(shape), f"input {name}, {size(shape)}", "input") for name, shape in network.inputs]
    index = {name: i for i, (name, _) in enumerate(network.inputs)}
    frames = []
    for start, period, times in _runs(nodes, [(_sign(node.target, cells), node.shape) for node in nodes]):
        first = len(boxes)
        for j in range(period):
            group = nodes[start + j : start + period * times : period]
            boxes.append(_box(group[0], size(group[0].shape), times=times if period == 1 else 1, names=[n.name for n in group]))
            index |= {node.name: first + j for node in group}
        if period > 1:
            frames.append((first, len(boxes) - 1, times))
    edges = [(index[name], index[node.name]) for node in nodes for name in node.inputs]
    edges = [edge for edge in dict.fromkeys(edges) if edge[0] < edge[1]]
    note = f"{count(network.num_params)} parameters, {count(network.macs)} multiply-adds"
    return Diagram("network", note, tuple(boxes), tuple(edges), tuple(frames))


def _runs(nodes: Sequence[Node], signs: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """The nodes in order as (start, layers that repeat, times): the shortest period among those that fold most."""
    links, start = _links(nodes), 0
    while start < len(nodes):
        folds = [(period, _times(links, signs, start, period)) for period in range(1, PERIOD + 1)]
        period, times = max(folds, key=lambda fold: (fold[0] * fold[1] if fold[1] > 1 else 1, -fold[0]))
        yield start, period if times > 1 else 1, times
        start += period * times if times > 1 else 1


def _links(nodes: Sequence[Node]) -> list[bool]:
    """Whether a node goes on where the one before it ends: an operation must be the only reader of it, a cell one of them."""
    reads = Counter(name for node in nodes for name in set(node.inputs))
    linked = [False]
    for before, node in pairwise(nodes):
        alone = len(node.inputs) == 1 and reads[before.name] == 1
        linked.append(before.name in node.inputs and (alone or isinstance(node.target, Graph)))
    return linked


def _times(links: Sequence[bool], signs: Sequence[Any], start: int, period: int) -> int:
    """How often the ``period`` nodes from ``start`` on follow each other, linked all along."""
    end = start + 1
    while end < len(signs) and links[end] and (end - start < period or signs[end] == signs[end - period]):
        end += 1
    return max(1, (end - start) // period)


def _sign(target: Call | Graph, cells: frozenset[int]) -> Any:
    """Equal for layers that a picture shows as one: the same operation with the same words, or the same definition."""
    if isinstance(target, Graph):
        return definition(target, cells)
    return target.op, tuple(sorted((k, str(v)) for k, v in target.kwargs.items() if k != "in_channels"))


def definition(graph: Graph, cells: frozenset[int]) -> Any:
    """Equal for the uses of one cell at any width, and for blocks wired alike: what is fitted in for sizes is looked through."""
    seen: dict[str, Any] = {}
    kept = []
    for node in graph.nodes:
        inputs = tuple(seen.get(name, name) for name in node.inputs)
        fitted = node.name.endswith(_FITTINGS) or (isinstance(node.target, Call) and node.target.op == "identity")
        if fitted and len(inputs) == 1:
            seen[node.name] = inputs[0]
        else:
            inner = definition(node.target, cells) if isinstance(node.target, Graph) else label(node.target)
            kept.append((node.name, inner, inputs))
    return graph.name if id(graph) in cells else "", tuple(kept), seen.get(graph.output, graph.output)


def _definitions(network: Graph, cells: frozenset[int]) -> Iterator[tuple[Graph, list[Graph]]]:
    """Every cell and block once: its most usual use, and all uses."""
    uses: dict[Any, list[Graph]] = {}
    for graph in _inner(network):
        uses.setdefault(definition(graph, cells), []).append(graph)
    for graphs in uses.values():
        common = Counter(map(id, graphs)).most_common(1)[0][0]
        yield next(g for g in graphs if id(g) == common), graphs


def _inner(graph: Graph) -> Iterator[Graph]:
    """Every use of every cell and block: those of the network first, then those inside them."""
    found = [node.target for node in graph.nodes if isinstance(node.target, Graph)]
    yield from found
    for inner in found:
        yield from _inner(inner)


def _box(node: Node, note: str, times: int = 1, names: Sequence[str] = ()) -> Box:
    target = node.target
    where = node.name if len(names) < 2 else f"{names[0]} to {names[-1]}"
    cost = f"{target.num_params:,} parameters, {target.macs:,} multiply-adds" + (" each" if times > 1 else "")
    if isinstance(target, Graph):
        return Box(target.name, note, f"{where}: {target.name}\noutput {size(node.shape)}\n{cost}", "cell", times)
    words = ", ".join(f"{key}={value}" for key, value in target.kwargs.items())
    kind = family(target.op)
    if kind == "join" and not target.num_params:
        note = ""
    return Box(label(target), note, f"{where}: {target.op}({words})\noutput {size(node.shape)}\n{cost}", kind, times)


def label(call: Call) -> str:
    """An operation as a person says it: its name, kernel, dilation and stride."""
    spec = OPS.get(call.op)
    defaults: Mapping[str, Any] = spec.defaults if spec else {}

    def word(name: str) -> Any:
        return call.kwargs.get(name, defaults.get(name))

    parts = [call.op.rpartition(":")[2].replace("_", " ")]
    if (kernel := word("kernel_size")) is not None:
        sides = kernel if isinstance(kernel, list | tuple) else (kernel, kernel)
        parts.append("×".join(map(str, sides)))
    marks: list[tuple[str, Callable[[Any], str]]] = [("dilation", lambda v: f"dil {v}"), ("stride", lambda v: f"/{v}"),
                                                    ("expansion", lambda v: f"e{v}"), ("shift", lambda v: "shifted")]  # fmt: skip
    parts += [say(word(name)) for name, say in marks if word(name) is True or word(name) not in (None, False, 1)]
    return " ".join(parts)


def family(op: str) -> str:
    """The kind of an operation; a user's own is ``plain``."""
    if op in ("identity", "zero"):
        return "skip"
    module = OPS[op].sketch.__module__ if op in OPS else ""
    return _FAMILIES.get(module.removeprefix("nas.ops."), "plain")


def size(shape: Sequence[int]) -> str:
    """A shape, e.g. 64×32×32."""
    return "×".join(map(str, shape))
