"""One canonical name for all spellings of a network.

Two graphs are the same when they differ only in the names of nodes, in the order in which a sum is added up, in what
nothing reads, in doing a weightless operation twice on the same input, or in the order of a concatenation whose
channels are all mixed afterwards (a relabelling of the next layer's weights). Different networks get different digits,
unless they are made of the same steps, each with a twin of the same past and the same future.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain
from typing import NamedTuple

from nas.net.graph import Call, Graph
from nas.net.steps import channels_of
from nas.ops import find

_RANDOM = frozenset({"dropout", "drop_path"})
"""Weightless operations that still differ from one another: each draws for itself."""


class _Step(NamedTuple):
    call: Call
    sources: tuple[int, ...]
    ordered: bool = True
    """Whether the order of the sources matters."""


def identity(graph: Graph) -> str:
    """32 hexadecimal digits that are equal for equal networks."""
    steps, output = _flatten(graph)
    steps, output = _add_up(steps, output)
    steps, output = _merge(_loosen(steps, output), output)
    past: list[str] = []
    for call, sources, ordered in steps:
        before = [past[source] for source in sources]
        words = (call.op, str(sorted(call.kwargs.items())), str(call.shape))
        past.append(_hash(*words, *(before if ordered else sorted(before))))
    future: list[list[str]] = [[] for _ in steps]
    future[output].append("output")
    lines: list[str] = []
    for index in reversed(range(len(steps))):
        line = _hash(past[index], *sorted(future[index]))
        lines.append(line)
        for source in steps[index].sources:
            future[source].append(line)
    return _hash(*sorted(lines))


def _hash(*parts: str) -> str:
    return blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _flatten(graph: Graph) -> tuple[list[_Step], int]:
    """All operations with the cells opened, by index; the network's inputs come first, as calls of no cost."""
    steps = [_Step(Call("identity", {"input": i}, shape, 0, 0), ()) for i, (_, shape) in enumerate(graph.inputs)]
    # An auxiliary head changes the training, so it is one of the steps, though the output does not depend on it.

    def visit(graph: Graph, places: dict[str, int]) -> int:
        for node in graph.all_nodes:
            sources = tuple(places[name] for name in node.inputs)
            if isinstance(node.target, Graph):
                names = [name for name, _ in node.target.inputs]
                places[node.name] = visit(node.target, dict(zip(names, sources, strict=True)))
            else:
                places[node.name] = len(steps)
                steps.append(_Step(node.target, sources))
        return places[graph.output]

    return steps, visit(graph, {name: i for i, (name, _) in enumerate(graph.inputs)})


def _add_up(steps: list[_Step], output: int) -> tuple[list[_Step], int]:
    """Sums of sums as one sum, where nothing else reads the inner one."""
    readers: list[list[int]] = [[] for _ in steps]
    for index, step in enumerate(steps):
        for source in step.sources:
            readers[source].append(index)
    places: list[tuple[int, ...]] = []
    summed: list[_Step] = []
    for index, (step, read) in enumerate(zip(steps, readers, strict=True)):
        sources = tuple(chain.from_iterable(places[source] for source in step.sources))
        inner = len(read) == 1 and index != output and step.call.op == "add" == steps[read[0]].call.op
        places.append(sources if inner else (len(summed),))
        if not inner:
            summed.append(step._replace(sources=sources))
    return summed, places[output][0]


def _loosen(steps: list[_Step], output: int) -> list[_Step]:
    """Mark the steps whose sources may be swapped: sums, and concatenations whose order shows nowhere."""
    shows = {output}
    loose = list(steps)
    for index in reversed(range(len(steps))):
        step, spec = steps[index], find(steps[index].call.op)
        if spec.commutative:
            loose[index] = step._replace(ordered=step.call.op == "concat" and index in shows)
        passes_on = step.call.op == "concat" or spec.inputs == 1
        if not passes_on or _knows_places(step, spec.ordered) or (index in shows and not _mixes(step, steps)):
            shows.update(step.sources)
    return loose


def _knows_places(step: _Step, ordered: bool) -> bool:
    """Whether channels are not alike to the operation: it groups or shuffles them."""
    groups = step.call.kwargs.get("groups")
    return ordered and (groups is None or groups not in (1, step.call.kwargs.get("in_channels")))


def _mixes(step: _Step, steps: list[_Step]) -> bool:
    """Whether every output channel weighs all input channels, so that their order drowns in its weights."""
    if len(step.sources) != 1 or step.call.num_params == 0 or step.call.kwargs.get("groups", 1) != 1:
        return False
    return channels_of(step.call.shape) != channels_of(steps[step.sources[0]].call.shape)


def _merge(steps: list[_Step], output: int) -> tuple[list[_Step], int]:
    """The steps, where the same weightless operation on the same sources is one step."""
    places: list[int] = []
    known: dict[tuple[object, ...], int] = {}
    merged: list[_Step] = []
    for call, old, ordered in steps:
        sources = tuple(places[source] for source in old)
        same = call.num_params == 0 and call.op not in _RANDOM
        place = len(merged)
        if same:
            key = (call.op, str(sorted(call.kwargs.items())), sources if ordered else tuple(sorted(sources)))
            place = known.setdefault(key, place)
        if place == len(merged):
            merged.append(_Step(call, sources, ordered))
        places.append(place)
    return merged, places[output]
