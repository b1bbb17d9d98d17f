"""Whether an architecture is a point of a space, and which: the decisions that would make it.

Two cells match when the same operations read the same states, in whatever order the branches of a sum are written. What
a space leaves open is compared: its cells, and its network where that has holes. So a network of more or wider copies
of a space's cells is a member; it is the size that differs. Rates of dropout that a space settles are not compared.

Every function here yields what is known after it: all ways to decide one part, given what is decided already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import permutations
from typing import Any

from nas.ops import find
from nas.space.spec import (
    Cell,
    CellRef,
    Choice,
    Layer,
    Op,
    Parallel,
    Range,
    Repeat,
    Scalar,
    Sequential,
    Spec,
    has_holes,
)

Known = Mapping[str, Scalar]
Step = Callable[[Known], Iterator[Known]]

_RATES = frozenset({"p", "dropout", "drop_path"})
"""Words of operations that act in training only."""

_MOST_BRANCHES = 4
"""Sums of more branches are compared in the order they are written."""


def find_decisions(space: Spec, architecture: Spec, *, outputs: bool = True) -> dict[str, Scalar] | None:
    """The decisions by which ``space`` makes the open parts of ``architecture``, or None where it is no member.

    ``outputs=False`` leaves out of the comparison which of its states a cell puts out.
    """
    cells = architecture.cells
    steps: list[Step] = [partial(_cell, cell, cells.get(name), outputs) for name, cell in space.cells.items()]
    if has_holes(space.network):
        steps.append(partial(_node, space.network, architecture.network, "network"))
    return next((dict(known) for known in _all(steps, {})), None)


def _all(steps: Sequence[Step], known: Known) -> Iterator[Known]:
    """Every way through all steps, each of which goes on from what is known after the one before."""
    if not steps:
        yield known
        return
    for now in steps[0](known):
        yield from _all(steps[1:], now)


# -- cells -----------------------------------------------------------------------------------------------------------


def _cell(space: Cell, cell: Cell | None, outputs: bool, known: Known) -> Iterator[Known]:
    if cell is None or {i.name: i for i in space.inputs} != {i.name: i for i in cell.inputs}:
        return
    words = ("combine", "match", "match_output", "stride")
    if any(getattr(space, word) != getattr(cell, word) for word in words):
        return
    states = _unread(cell) if isinstance(cell.output, str) else set(cell.output)
    for now in _node(space.layers, cell.layers, space.name, known):
        if isinstance(space.output, tuple):
            yield from _output(space.output, states, f"{space.name}.output", 0, now)
        elif states == _unread(cell) or not outputs:
            yield now


def _unread(cell: Cell) -> set[Any]:
    read = {source for layer in cell.layers.layers for sources in _wiring(layer) for source in sources}
    return {layer.name for layer in cell.layers.layers} - read


def _output(output: tuple[Any, ...], states: set[Any], path: str, index: int, known: Known) -> Iterator[Known]:
    """The output's holes decided so that exactly these states are put out, in whatever order."""
    if index == len(output):
        if not states:
            yield known
        return
    for state in sorted({*states, "none"}, key=str):
        for now in _value(output[index], state, f"{path}.{index}", known):
            yield from _output(output, states - {state}, path, index + 1, now)


# -- nodes -----------------------------------------------------------------------------------------------------------


def _node(space: Any, node: Any, path: str, known: Known, first: Mapping[str, Any] | None = None) -> Iterator[Known]:
    """``space`` decided, at this path, so that it is ``node``; ``first`` are words over those of the space's node."""
    match space:
        case Choice():
            for label, option, now in _labels(space, path, known):
                yield from _node(option, node, f"{path}={label}", now, first)
        case Op() if isinstance(node, Op) and space.name == node.name:
            words = {**dict(space.kwargs), **(first or {})}
            yield from _words(words, dict(node.kwargs), find(space.name).defaults, path, known)
        case CellRef() if isinstance(node, CellRef) and space.cell == node.cell:
            words = {"channels": space.channels, "stride": space.stride, **(first or {})}
            yield from _words(words, {"channels": node.channels, "stride": node.stride}, {}, path, known)
        case Sequential() if isinstance(node, Sequential) and len(space.layers) == len(node.layers):
            pairs = zip(space.layers, node.layers, strict=True)
            yield from _all([partial(_layer, theirs, ours, f"{path}.{theirs.name}") for theirs, ours in pairs], known)
        case Parallel() if isinstance(node, Parallel):
            outer, inner = (Layer(name="branches", body=body) for body in (space, node))
            yield from _parallel(outer, space, inner, node, path, known)
        case Repeat():
            yield from _repeat(space, node, path, known)


def _labels(hole: Choice, path: str, known: Known) -> Iterator[tuple[Scalar, Any, Known]]:
    """The labels a hole can still have, each with its option and what is known then."""
    key = hole.share or path
    for label, option in zip(hole.labels, hole.options, strict=True):
        if key not in known or _same(known[key], label):
            yield label, option, {**known, key: label}


def _words(space: Mapping[str, Any], words: Mapping[str, Any], defaults: Mapping[str, Any], path: str,
           known: Known) -> Iterator[Known]:  # fmt: skip
    def values(word: str) -> tuple[Any, Any]:
        default = defaults.get(word)
        return space.get(word, default), words.get(word, default)

    names = (word for word in {**space, **words} if word not in _RATES or isinstance(space.get(word), Choice | Range))
    yield from _all([partial(_value, *values(word), f"{path}.{word}") for word in names], known)


def _value(space: Any, value: Any, path: str, known: Known) -> Iterator[Known]:
    if isinstance(space, Choice):
        yield from (now for _, option, now in _labels(space, path, known) if _same(option, value))
    elif isinstance(space, Range):
        key = space.share or path
        if space.contains(value) and known.get(key, value) == value:
            yield {**known, key: value}
    elif _same(space, value):
        yield known


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) is isinstance(b, bool)


# -- layers ----------------------------------------------------------------------------------------------------------


def _layer(space: Layer, layer: Layer, path: str, known: Known) -> Iterator[Known]:
    theirs, ours = space.body, layer.body
    if space.name != layer.name:
        return
    if isinstance(theirs, Parallel) and isinstance(ours, Parallel):
        yield from _parallel(space, theirs, layer, ours, path, known)
        return
    body = _repeat if isinstance(theirs, Repeat) or isinstance(ours, Repeat) else _node
    yield from _all([partial(_sources, space.sources, layer.sources, path), partial(body, theirs, ours, path)], known)


def _repeat(space: Any, node: Any, path: str, known: Known) -> Iterator[Known]:
    """Repetitions one by one; a node that is not repeated is one repetition."""
    theirs, ours = (n if isinstance(n, Repeat) else Repeat(bodies=(n,), times=1) for n in (space, node))
    assert isinstance(ours.times, int)
    steps: list[Step] = [partial(_value, theirs.times, ours.times, f"{path}.repeat")]
    for index in range(ours.times):
        body: Any = ours.bodies[index * len(ours.bodies) // ours.times]
        if index == 0 and isinstance(body, Op):
            body = Op(name=body.name, kwargs=tuple({**dict(body.kwargs), **dict(ours.first)}.items()))
        model = theirs.bodies[min(index, len(theirs.bodies) - 1)]
        first = dict(theirs.first) if index == 0 else None
        steps.append(partial(_node, model, body, f"{path}.{index}" if theirs.each else path, first=first))
    yield from _all(steps, known)


def _wiring(layer: Layer) -> list[Any]:
    """What a layer reads; of a layer with branches, what each of them reads."""
    sources: Any = layer.sources
    if not isinstance(layer.body, Parallel):
        return [sources]
    branches = layer.body.branches
    if len(sources) == len(branches) > 1:
        return [(source,) for source in sources]
    return [branch.sources or sources for branch in branches]


def _parallel(space: Layer, theirs: Parallel, layer: Layer, ours: Parallel, path: str, known: Known) -> Iterator[Known]:
    """Branches in any order, each with its sources."""
    count, wiring = len(theirs.branches), _wiring(layer)
    if len(ours.branches) != count or theirs.match != ours.match:
        return
    for order in permutations(range(count)) if count <= _MOST_BRANCHES else [tuple(range(count))]:
        steps: list[Step] = [partial(_value, theirs.combine, ours.combine, f"{path}.combine")]
        steps += _branch_sources(space, theirs, [wiring[i] for i in order], path)
        for branch, index in zip(theirs.branches, order, strict=True):
            steps.append(partial(_node, branch.body, ours.branches[index].body, f"{path}.{branch.name}"))
        yield from _all(steps, known)


def _branch_sources(space: Layer, body: Parallel, wiring: list[Any], path: str) -> list[Step]:
    """The sources of the branches decided, whether they are written at the layer or at each branch."""
    sources: Any = space.sources
    if isinstance(sources, Choice) or len(sources) == len(wiring) > 1:
        return [partial(_sources, sources, tuple(source for own in wiring for source in own), path)]
    return [partial(_sources, branch.sources or sources, own, f"{path}.{branch.name}")
            for branch, own in zip(body.branches, wiring, strict=True)]  # fmt: skip


def _sources(space: Any, sources: Any, path: str, known: Known) -> Iterator[Known]:
    if isinstance(space, Choice):
        yield from (now for _, option, now in _labels(space, f"{path}.from", known) if option == sources)
    elif len(space) == len(sources):
        several = len(space) > 1
        yield from _all([partial(_value, theirs, ours, f"{path}.from.{i}" if several else f"{path}.from")
                         for i, (theirs, ours) in enumerate(zip(space, sources, strict=True))], known)  # fmt: skip
