"""Layered layout of a directed acyclic graph: rows from top to bottom, few crossings, edges led around boxes.

The layout is fast-sugiyama's (MIT; Sugiyama, Tagawa, Toda 1981 with Brandes and Köpf's coordinates). An edge that spans several
rows gets a slot of its own in every row that it passes, so that it runs between the boxes there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

Point = tuple[float, float]

_LANE = 0.28
"""Width of a passing edge's slot, of a box's."""


class Layout(NamedTuple):
    """Centres of the boxes, the points that every edge runs through (first and last: its boxes), and the size of it all.

    ``x`` is in pixels, ``y`` counts rows from 0.
    """

    centres: tuple[Point, ...]
    routes: tuple[tuple[Point, ...], ...]
    width: float
    rows: int


def lay_out(count: int, edges: Sequence[tuple[int, int]], pitch: float) -> Layout:
    """Place ``count`` connected boxes whose ``edges`` point down; ``pitch`` is the least distance of two centres in a row."""
    if count == 1:
        return Layout(((pitch / 2, 0.0),), (), pitch, 1)
    from fast_sugiyama import from_edges

    parts = from_edges(edges, vertex_spacing=pitch, dummy_vertices=True, dummy_size=_LANE, transpose=True,
                       ranking_type="up", crossing_minimization="barycenter")  # fmt: skip
    found: dict[int, Point] = {}
    chains: dict[int, list[int]] = {}
    left = 0.0
    for positions, _, _, links in parts:
        xs = [x for _, (x, _) in positions]
        top = max(y for _, (_, y) in positions)
        found |= {int(node): (x - min(xs) + left + pitch / 2, (top - y) / pitch) for node, (x, y) in positions}
        left += max(xs) - min(xs) + pitch
        for start, end in links or ():
            chains.setdefault(int(start), []).append(int(end))
    points = _spread(found, count, pitch)
    routes = tuple(tuple(points[n] for n in _route(start, end, chains, count)) for start, end in edges)
    width = max(x for x, _ in points.values()) + pitch / 2
    return Layout(tuple(points[i] for i in range(count)), routes, width, round(max(y for _, y in points.values())) + 1)


def _route(start: int, end: int, chains: dict[int, list[int]], count: int) -> list[int]:
    """The vertices from ``start`` to ``end``; those from ``count`` on are slots in rows between them, with one successor."""
    if end in chains[start]:
        return [start, end]
    for first in chains[start]:
        path = [start, first]
        while path[-1] >= count:
            path += chains[path[-1]]
        if path[-1] == end:
            return path
    raise AssertionError(f"the layout lost the edge {start} -> {end}")


def _spread(points: dict[int, Point], count: int, pitch: float) -> dict[int, Point]:
    """Vertices of a row at least as far apart as their widths ask for: the layout's coordinates may be tighter."""
    half = {node: pitch * (0.5 if node < count else _LANE / 2) for node in points}
    rows: dict[int, list[int]] = {}
    for node in sorted(points, key=lambda n: (points[n][0], n)):
        rows.setdefault(round(points[node][1]), []).append(node)
    placed = dict(points)
    for y, row in rows.items():
        for before, node in pairwise(row):
            x = max(placed[node][0], placed[before][0] + half[before] + half[node])
            placed[node] = (x, float(y))
        placed[row[0]] = (placed[row[0]][0], float(y))
    return placed
