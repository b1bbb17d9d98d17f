"""What a page's wiring says about its decisions: which cell and layer one belongs to, and which label does least."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas.space.search_space import SearchSpace
from nas.space.spec import CellRef, Choice, Hole, Op, Scalar, Sequential, children

NOTHING = "none"
"""The label under which an edge or a source is left out."""


def trivial(hole: Hole) -> Scalar:
    """The label that does least and still lets data through: the identity, else the first that is not left out; the low end."""
    if not isinstance(hole, Choice):
        return hole.low if hole.whole else float(hole.low)
    labelled = list(zip(hole.labels, hole.options, strict=True))
    passing = [label for label, option in labelled if not (label == NOTHING or _is(option, "zero"))]
    return next((label for label, option in labelled if _is(option, "identity") or option == Sequential(layers=())),
                (passing or hole.labels)[0])  # fmt: skip


def _is(option: Any, name: str) -> bool:
    return isinstance(option, Op) and option.name == name


def scope(key: str) -> str:
    """The cell that a decision belongs to, or ``network``; a shared decision's is its own name."""
    return key.split(".")[0]


def nesting(space: SearchSpace) -> dict[str, int]:
    """How deep each scope's cells are nested: 1 for a cell of operations, 2 for a cell of such cells, and so on."""
    inside = {name: set(_cells(cell)) for name, cell in space.spec.cells.items()}
    inside["network"] = set(_cells(space.spec.network))

    def level(name: str) -> int:
        return 1 + max((level(other) for other in inside.get(name, ())), default=0)

    return {name: level(name) for name in {scope(key) for key in space.holes}}


def _cells(node: Any) -> Iterator[str]:
    if isinstance(node, CellRef):
        yield node.cell
    for child in children(node):
        yield from _cells(child)


def stages(space: SearchSpace, most: int) -> dict[str, int]:
    """For every decision, when it joins as architectures grow: with the first layers of every cell and of the network, then
    the second ones, and so on; not more than ``most`` stages (neighbours are merged). Decisions that are shared: the first.
    """
    layers: dict[str, list[str]] = {}
    place: dict[str, tuple[str, str]] = {}
    for key, hole in space.holes.items():
        if not hole.share and "." in key:
            own = layers.setdefault(scope(key), [])
            layer = key.split(".")[1].split("=")[0]
            place[key] = scope(key), layer
            if layer not in own:
                own.append(layer)
    longest = max(map(len, layers.values()), default=1)
    count = min(most, longest)
    index = {(name, layer): i * count // longest for name, own in layers.items() for i, layer in enumerate(own)}
    return {key: index[place[key]] if key in place else 0 for key in space.holes}
