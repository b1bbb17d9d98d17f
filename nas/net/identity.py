"""One canonical name for all spellings of a network.

Two graphs are the same when they differ only in the names of nodes, in the order of the inputs of a sum, in what nothing
reads, in doing a weightless operation twice on the same input, or in the order of a concatenation whose channels are all
mixed afterwards (a relabelling of the next layer's weights).
"""

from __future__ import annotations

from collections import defaultdict
from hashlib import blake2b
from typing import NamedTuple

from nas.net.graph import Call, Graph
from nas.ops import Sketch, find

_RANDOM = frozenset({"dropout", "drop_path"})
"""Weightless operations that still differ from one another: each draws for itself."""


def identity(graph: Graph) -> str:
    """32 hexadecimal digits that are equal for equal networks."""
    steps, output = _flatten(graph)
    ordered = _order_matters(steps, output)
    hashes: list[str] = []
    for index, step in enumerate(steps):
        sources = [hashes[i] for i in step.sources]
        if find(step.call.op).commutative and not (step.call.op == "concat" and index in ordered):
            sources.sort()
        hashes.append(_hash(step.call.op, str(sorted(step.call.kwargs.items())), str(step.call.shape), *sources))
    readers: dict[int, list[str]] = defaultdict(list)
    for index, step in enumerate(steps):
        for source in step.sources:
            readers[source].append(hashes[index])
    weightless: set[str] = set()
    lines = [hashes[output]]
    for index, step in enumerate(steps):
        if step.call.num_params == 0 and step.call.op not in _RANDOM:
            weightless.add(hashes[index])
        else:
            lines.append(_hash(hashes[index], *sorted(readers[index])))
    return _hash(*sorted(weightless), *sorted(lines))


class _Step(NamedTuple):
    call: Call
    sources: tuple[int, ...]


def _hash(*parts: str) -> str:
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _flatten(graph: Graph) -> tuple[list[_Step], int]:
    """All operations with the cells opened, by index; the network's inputs come first, as calls of no cost."""
    steps = [_Step(Call("identity", {"input": i}, shape, 0, 0), ()) for i, (_, shape) in enumerate(graph.inputs)]

    def visit(graph: Graph, places: dict[str, int]) -> int:
        for node in graph.nodes:
            sources = tuple(places[name] for name in node.inputs)
            if isinstance(node.target, Graph):
                names = [name for name, _ in node.target.inputs]
                places[node.name] = visit(node.target, dict(zip(names, sources, strict=True)))
            else:
                places[node.name] = len(steps)
                steps.append(_Step(node.target, sources))
        return places[graph.output]

    return steps, visit(graph, {name: i for i, (name, _) in enumerate(graph.inputs)})


def _order_matters(steps: list[_Step], output: int) -> set[int]:
    """The steps whose channels' order shows: in the result, in a sum, or in an operation that knows channels by place."""
    shows = {output}
    for index in range(len(steps) - 1, -1, -1):
        step = steps[index]
        spec = find(step.call.op)
        if step.call.op == "concat" or spec.inputs == 1:
            mixes = spec.inputs == 1 and step.sources and _channels(step) != _channels(steps[step.sources[0]])
            if _knows_places(step, spec.ordered) or (index in shows and not mixes):
                shows.update(step.sources)
        else:
            shows.update(step.sources)
    return shows


def _knows_places(step: _Step, ordered: bool) -> bool:
    groups = step.call.kwargs.get("groups")
    return ordered and (groups is None or groups not in (1, step.call.kwargs.get("in_channels")))


def _channels(step: _Step) -> int:
    return Sketch(step.call.shape).channels
