"""Whether an architecture is a point of a space, and which: the decisions that would make it.

Two cells match when the same operations read the same states, in whatever order the branches of a sum are written. What
a space leaves open is compared: its cells, and its network where that has holes. So a network of more or wider copies
of a space's cells is a member; it is the size that differs. Rates of dropout are not compared either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
_RATES = frozenset({"p", "dropout", "drop_path"})
"""Words of operations that act in training only."""

_MOST_BRANCHES = 4
"""Sums of more branches are compared in the order they are written."""


def find_decisions(space: Spec, architecture: Spec, *, outputs: bool = True) -> dict[str, Scalar] | None:
    """The decisions by which ``space`` makes the open parts of ``architecture``, or None where it is no member.

    ``outputs=False`` leaves out of the comparison which of its states a cell puts out.
    """
    return next((dict(known) for known in _spec(space, architecture, outputs)), None)


def _spec(space: Spec, architecture: Spec, outputs: bool) -> Iterator[Known]:
    pairs: list[tuple[Any, Any]] = [(cell, architecture.cells.get(name)) for name, cell in space.cells.items()]
    if has_holes(space.network):
        pairs.append((space.network, architecture.network))

    def all_of(rest: list[tuple[Any, Any]], known: Known) -> Iterator[Known]:
        if not rest:
            yield known
            return
        (theirs, ours), *others = rest
        is_cell = isinstance(theirs, Cell)
        found = _cell(theirs, ours, known, outputs) if is_cell else _node(theirs, ours, "network", known)
        for now in found:
            yield from all_of(others, now)

    yield from all_of(pairs, {})


def _cell(space: Cell, cell: Cell | None, known: Known, outputs: bool) -> Iterator[Known]:
    if cell is None or {i.name: i for i in space.inputs} != {i.name: i for i in cell.inputs}:
        return
    words = ("combine", "match", "match_output", "stride")
    if any(getattr(space, word) != getattr(cell, word) for word in words):
        return
    states = _states(cell)
    for now in _node(space.layers, cell.layers, space.name, known):
        if space.output == "unused":
            if states == _unread(cell) or not outputs:
                yield now
        else:
            yield from _output(space, states, now)


def _states(cell: Cell) -> set[Any]:
    return _unread(cell) if isinstance(cell.output, str) else set(cell.output)


def _unread(cell: Cell) -> set[Any]:
    read = {source for layer in cell.layers.layers for sources in _wiring(layer) for source in sources}
    return {layer.name for layer in cell.layers.layers} - read


def _output(space: Cell, states: set[Any], known: Known) -> Iterator[Known]:
    """The output's holes decided so that exactly ``states`` are put out."""

    def all_of(index: int, left: set[Any], known: Known) -> Iterator[Known]:
        if index == len(space.output):
            if not left:
                yield known
            return
        for state in {*left, "none"}:
            for now in _value(space.output[index], state, f"{space.name}.output.{index}", known):
                yield from all_of(index + 1, left - {state}, now)

    yield from all_of(0, states, known)


def _node(space: Any, node: Any, path: str, known: Known, first: Mapping[str, Any] | None = None) -> Iterator[Known]:
    """Ways to decide ``space``, at this path, so that it is ``node``; ``first``: words over those of the space's node."""
    match space:
        case Choice():
            for label, option, now in _labels(space, path, known):
                yield from _node(option, node, f"{path}={label}", now, first)
        case Op() if isinstance(node, Op) and space.name == node.name:
            theirs = {**dict(space.kwargs), **(first or {})}
            yield from _words(theirs, dict(node.kwargs), find(space.name).defaults, path, known)
        case CellRef() if isinstance(node, CellRef) and space.cell == node.cell:
            theirs = {"channels": space.channels, "stride": space.stride, **(first or {})}
            yield from _words(theirs, {"channels": node.channels, "stride": node.stride}, {}, path, known)
        case Sequential() if isinstance(node, Sequential) and len(space.layers) == len(node.layers):
            yield from _layers(space.layers, node.layers, path, known)
        case _:
            return


def _labels(hole: Choice, path: str, known: Known) -> Iterator[tuple[Scalar, Any, Known]]:
    """The labels a hole can still have, each with its option and what is known then."""
    key = hole.share or path
    for label, option in zip(hole.labels, hole.options, strict=True):
        if key not in known or (known[key] == label and type(known[key]) is type(label)):
            yield label, option, {**known, key: label}


def _words(space: Mapping[str, Any], words: Mapping[str, Any], defaults: Mapping[str, Any], path: str,
           known: Known) -> Iterator[Known]:  # fmt: skip
    names = [word for word in {**space, **words} if word not in _RATES]

    def all_of(index: int, known: Known) -> Iterator[Known]:
        if index == len(names):
            yield known
            return
        word = names[index]
        theirs, ours = (side.get(word, defaults.get(word)) for side in (space, words))
        for now in _value(theirs, ours, f"{path}.{word}", known):
            yield from all_of(index + 1, now)

    yield from all_of(0, known)


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


def _layers(space: tuple[Layer, ...], layers: tuple[Layer, ...], path: str, known: Known) -> Iterator[Known]:
    if not space:
        yield known
        return
    for now in _layer(space[0], layers[0], f"{path}.{space[0].name}", known):
        yield from _layers(space[1:], layers[1:], path, now)


def _layer(space: Layer, layer: Layer, path: str, known: Known) -> Iterator[Known]:
    if space.name != layer.name:
        return
    theirs, ours = space.body, layer.body
    if isinstance(theirs, Parallel) and isinstance(ours, Parallel):
        yield from _parallel(space, layer, path, known)
        return
    for now in _sources(space.sources, layer.sources, path, known):
        if isinstance(theirs, Repeat) or isinstance(ours, Repeat):
            yield from _repeat(theirs, ours, path, now)
        else:
            yield from _node(theirs, ours, path, now)


def _repeat(space: Any, node: Any, path: str, known: Known) -> Iterator[Known]:
    """Repetitions one by one; a node that is not repeated is one repetition."""
    theirs, ours = (n if isinstance(n, Repeat) else Repeat(bodies=(n,), times=1) for n in (space, node))
    assert isinstance(ours.times, int)
    bodies = [ours.bodies[i * len(ours.bodies) // ours.times] for i in range(ours.times)]
    if bodies and ours.first:
        bodies[0] = _with_words(bodies[0], dict(ours.first))

    def all_of(index: int, known: Known) -> Iterator[Known]:
        if index == len(bodies):
            yield known
            return
        body = theirs.bodies[0 if len(theirs.bodies) == 1 else index]
        inner = f"{path}.{index}" if theirs.each else path
        for now in _node(body, bodies[index], inner, known, dict(theirs.first) if index == 0 else None):
            yield from all_of(index + 1, now)

    for now in _value(theirs.times, ours.times, f"{path}.repeat", known):
        yield from all_of(0, now)


def _with_words(body: Any, words: Mapping[str, Any]) -> Any:
    if isinstance(body, Op):
        return Op(name=body.name, kwargs=tuple({**dict(body.kwargs), **words}.items()))
    return body


def _wiring(layer: Layer) -> list[tuple[Any, ...]]:
    """What a layer reads; of a layer with branches, what each of them reads."""
    sources: Any = layer.sources
    if not isinstance(layer.body, Parallel):
        return [sources]
    branches = layer.body.branches
    if len(sources) == len(branches) > 1:
        return [(source,) for source in sources]
    own: list[Any] = [branch.sources or sources for branch in branches]
    return own


def _parallel(space: Layer, layer: Layer, path: str, known: Known) -> Iterator[Known]:
    """Branches in any order, each with its sources."""
    theirs, ours = space.body, layer.body
    assert isinstance(theirs, Parallel)
    assert isinstance(ours, Parallel)
    count = len(theirs.branches)
    if len(ours.branches) != count or theirs.match != ours.match:
        return
    wiring = _wiring(layer)
    orders = permutations(range(count)) if count <= _MOST_BRANCHES else iter([tuple(range(count))])

    def all_of(index: int, order: tuple[int, ...], known: Known) -> Iterator[Known]:
        if index == count:
            yield known
            return
        branch, other = theirs.branches[index], ours.branches[order[index]]
        for now in _node(branch.body, other.body, f"{path}.{branch.name}", known):
            yield from all_of(index + 1, order, now)

    for combined in _value(theirs.combine, ours.combine, f"{path}.combine", known):
        for order in orders:
            for now in _branch_sources(space, [wiring[i] for i in order], path, combined):
                yield from all_of(0, order, now)


def _branch_sources(space: Layer, wiring: list[tuple[Any, ...]], path: str, known: Known) -> Iterator[Known]:
    """The sources of the branches decided, whether they are written at the layer or at each branch."""
    if isinstance(space.sources, Choice) or len(space.sources) == len(wiring) > 1:
        if all(len(sources) == 1 for sources in wiring):
            yield from _sources(space.sources, tuple(sources[0] for sources in wiring), path, known)
        return
    assert isinstance(space.body, Parallel)
    branches = space.body.branches

    def all_of(index: int, known: Known) -> Iterator[Known]:
        if index == len(branches):
            yield known
            return
        sources, inner = branches[index].sources or space.sources, f"{path}.{branches[index].name}"
        for now in _sources(sources, wiring[index], inner, known):
            yield from all_of(index + 1, now)

    yield from all_of(0, known)


def _sources(space: Any, sources: Any, path: str, known: Known) -> Iterator[Known]:
    if isinstance(space, Choice):
        yield from (now for _, option, now in _labels(space, f"{path}.from", known) if option == sources)
    elif len(space) == len(sources):
        if len(space) == 1:
            yield from _value(space[0], sources[0], f"{path}.from", known)
        else:
            theirs, ours = ({f"{i}": s for i, s in enumerate(side)} for side in (space, sources))
            yield from _words(theirs, ours, {}, f"{path}.from", known)
