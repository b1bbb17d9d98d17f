"""One canonical name for all spellings of a network.

Two graphs are the same when they differ only in the names of nodes, in the order in which a sum is added up, in what
nothing reads, in doing a weightless operation twice on the same input, or in the order of a concatenation whose
channels are all mixed afterwards (a relabelling of the next layer's weights). Different networks get different digits,
unless they are made of the same steps, each with a twin of the same past and the same future.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import chain

from nas.net.graph import Call, Graph
from nas.net.steps import channels_of
from nas.ops import find

_RANDOM = frozenset({"dropout", "drop_path"})
"""Weightless operations that still differ from one another: each draws for itself."""

_OUTPUT = bytes(16)
"""What reads the last step, as long as a hash."""

Sources = list[tuple[int, ...]]
"""Of each step, the steps that it reads."""


def identity(graph: Graph) -> str:
    """32 hexadecimal digits that are equal for equal networks."""
    calls, sources, output = _add_up(*_flatten(graph))
    past, reads, output = _past(calls, sources, _ordered(calls, sources, output), output)
    future: list[list[bytes]] = [[] for _ in past]
    future[output].append(_OUTPUT)
    lines: list[bytes] = []
    for index in reversed(range(len(past))):
        line = _hash(past[index], *sorted(future[index]))
        lines.append(line)
        for source in reads[index]:
            future[source].append(line)
    return _hash(*sorted(lines)).hex()


def _hash(*parts: bytes) -> bytes:
    """16 bytes of parts that have 16 each."""
    return blake2b(b"".join(parts), digest_size=16).digest()


def _flatten(graph: Graph) -> tuple[list[Call], Sources, int]:
    """All operations with the cells opened, by index; the network's inputs come first, as calls of no cost."""
    calls = [Call("identity", {"input": i}, shape, 0, 0) for i, (_, shape) in enumerate(graph.inputs)]
    sources: Sources = [() for _ in calls]
    return calls, sources, _open(graph, {name: i for i, (name, _) in enumerate(graph.inputs)}, calls, sources)


def _open(graph: Graph, places: dict[str, int], calls: list[Call], sources: Sources) -> int:
    """Append a graph's operations, whose inputs are at ``places``; where its output is.

    An auxiliary head changes the training, so it is one of the steps, though the output does not depend on it.
    """
    for name, target, inputs in graph.all_nodes:
        read = tuple([places[source] for source in inputs])
        if isinstance(target, Call):
            places[name] = len(calls)
            calls.append(target)
            sources.append(read)
        else:
            inside = dict(zip([known for known, _ in target.inputs], read, strict=True))
            places[name] = _open(target, inside, calls, sources)
    return places[graph.output]


def _add_up(calls: list[Call], sources: Sources, output: int) -> tuple[list[Call], Sources, int]:
    """Sums of sums as one sum, where nothing else reads the inner one."""
    readers: dict[int, list[int]] = {index: [] for index, call in enumerate(calls) if call.op == "add"}
    for index, read in enumerate(sources):
        for source in read:
            if source in readers:
                readers[source].append(index)
    inner = {index for index, read in readers.items() if index != output and len(read) == 1 and read[0] in readers}
    if not inner:
        return calls, sources, output
    places: Sources = []
    kept: list[Call] = []
    summed: Sources = []
    for index, (call, old) in enumerate(zip(calls, sources, strict=True)):
        read = tuple(chain.from_iterable(places[source] for source in old))
        places.append(read if index in inner else (len(kept),))
        if index not in inner:
            kept.append(call)
            summed.append(read)
    return kept, summed, places[output][0]


def _ordered(calls: list[Call], sources: Sources, output: int) -> list[bool]:
    """Of each step, whether the order of its sources matters: not in sums, nor in concatenations whose order shows nowhere."""
    shows = {output}
    ordered = [True] * len(calls)
    for index in reversed(range(len(calls))):
        call = calls[index]
        spec, joins = find(call.op), call.op == "concat"
        if spec.commutative:
            ordered[index] = joins and index in shows
        passes_on = joins or spec.inputs == 1
        if not passes_on or _knows_places(call, spec.ordered) or (index in shows and not _mixes(call, sources[index], calls)):
            shows.update(sources[index])
    return ordered


def _knows_places(call: Call, ordered: bool) -> bool:
    """Whether channels are not alike to the operation: it groups or shuffles them."""
    if not ordered:
        return False
    groups = call.kwargs.get("groups")
    return groups is None or groups not in (1, call.kwargs.get("in_channels"))


def _mixes(call: Call, read: tuple[int, ...], calls: list[Call]) -> bool:
    """Whether every output channel weighs all input channels, so that their order drowns in its weights."""
    if len(read) != 1 or call.num_params == 0 or call.kwargs.get("groups", 1) != 1:
        return False
    return channels_of(call.shape) != channels_of(calls[read[0]].shape)


def _past(calls: list[Call], sources: Sources, ordered: list[bool], output: int) -> tuple[list[bytes], list[list[int]], int]:
    """A hash of each step and of all before it, and the steps it reads. The same weightless operation on the same sources is
    one step."""
    places: list[int] = []
    known: dict[tuple[bytes, tuple[int, ...]], int] = {}
    past: list[bytes] = []
    reads: list[list[int]] = []
    for call, old, in_order in zip(calls, sources, ordered, strict=True):
        read = [places[source] for source in old]
        place = len(past)
        if call.num_params == 0 and call.op not in _RANDOM:
            place = known.setdefault((call.digest, tuple(read if in_order else sorted(read))), place)
        places.append(place)
        if place == len(past):
            before = [past[source] for source in read]
            past.append(_hash(call.digest, *(before if in_order else sorted(before))))
            reads.append(read)
    return past, reads, places[output]
