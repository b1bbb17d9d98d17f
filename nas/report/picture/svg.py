"""Diagrams as SVG text: no script, nothing from elsewhere, every name escaped, light and dark by the reader's setting."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from nas.report.picture.diagram import Box, Diagram
from nas.report.picture.layers import Layout, Point, lay_out

_TALL, _LOW, _GAP, _ROOM = 40, 24, 20, 30
"""Heights of a box with two lines and with one; least gap between boxes of a row, and between rows."""
_HEAD, _EDGE, _LONGEST = 52, 24, 36
"""Room for a diagram's heading; margin around it; characters of a text at most."""

_LIGHT = {
    "bg": "#ffffff", "ink": "#1c2430", "soft": "#5d6b7c", "line": "#8794a5", "frame": "#c3ccd6",
    "conv": "#d7e6fb", "depthwise": "#cfeee6", "block": "#dfe0fb", "pool": "#fdebc8", "join": "#e9edf2", "attention": "#eedcf8",
    "token": "#f9dfe9", "sequence": "#f6dccd", "head": "#dde3ea", "plain": "#eef1f4", "skip": "#f7f8fa", "cell": "#d3e9d0",
    "input": "#ffffff", "output": "#ffffff",
}  # fmt: skip
_DARK = {
    "bg": "#14181f", "ink": "#e8edf3", "soft": "#9aa8b8", "line": "#74839a", "frame": "#3d4857",
    "conv": "#1f3e66", "depthwise": "#17504a", "block": "#35377a", "pool": "#5c4513", "join": "#2d3642", "attention": "#4b2b62",
    "token": "#5d2c44", "sequence": "#613621", "head": "#323d4b", "plain": "#28303b", "skip": "#1d232c", "cell": "#275126",
    "input": "#14181f", "output": "#14181f",
}  # fmt: skip
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_NARROW, _WIDE = frozenset("iljtfrI.,:;|!'()[]/ "), frozenset("mwMW@%×—")


class Drawn(NamedTuple):
    """A piece of SVG and the room it takes."""

    text: str
    width: float
    height: float


def document(parts: Sequence[Diagram], title: str) -> str:
    """The diagrams side by side in one SVG document, the first one in a column of its own."""
    columns = _columns([draw(diagram) for diagram in parts])
    x, body, tallest = _EDGE / 2, [], 0.0
    for column in columns:
        y = _EDGE / 2
        for drawn in column:
            body.append(f'<g transform="translate({x:g} {y:g})">{drawn.text}</g>')
            y += drawn.height
        x, tallest = x + max(drawn.width for drawn in column), max(tallest, y)
    width, height = round(x + _EDGE / 2), round(tallest + _EDGE / 2)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="nas" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label={quoteattr(_clean(title))}>',
        f"<title>{escape(_clean(title))}</title>", f"<style>{_style()}</style>",
        f'<rect class="bg" width="{width}" height="{height}"/>', *body, "</svg>", "",
    ])  # fmt: skip


def _style() -> str:
    """Colours as variables, another set of them where the reader likes dark."""
    def variables(colours: dict[str, str]) -> str:
        return ".nas{" + "".join(f"--{name}:{colour};" for name, colour in colours.items()) + "}"

    kinds = "".join(f".nas .{kind}{{fill:var(--{kind})}}" for kind in list(_LIGHT)[5:])
    return (
        f"{variables(_LIGHT)}@media (prefers-color-scheme:dark){{{variables(_DARK)}}}"
        f".nas text{{font-family:{_FONT};font-size:12px;fill:var(--ink);text-anchor:middle}}"
        ".nas .note{font-size:10px;fill:var(--soft)}.nas .name{font-size:15px;font-weight:600;text-anchor:start}"
        ".nas .under{font-size:11px;fill:var(--soft);text-anchor:start}.nas .times{font-weight:600;text-anchor:end}"
        ".nas rect{stroke:var(--line);stroke-width:1}.nas .bg{fill:var(--bg);stroke:none}"
        ".nas .frame{fill:none;stroke:var(--line);stroke-dasharray:4 3}.nas .tip{fill:var(--line)}"
        f".nas .edge{{fill:none;stroke:var(--line);stroke-width:1.3}}{kinds}"
    )


def _columns(drawn: list[Drawn]) -> list[list[Drawn]]:
    """The first alone; the others from top to bottom in columns about as high as the picture will be wide."""
    area = sum(d.width * d.height for d in drawn)
    limit = max(*(d.height for d in drawn), area**0.5)
    columns: list[list[Drawn]] = [[drawn[0]]]
    height = limit
    for one in drawn[1:]:
        if height + one.height > limit:
            columns.append([])
            height = 0.0
        columns[-1].append(one)
        height += one.height
    return columns


def draw(diagram: Diagram) -> Drawn:
    """One diagram with its heading, from (0, 0) on."""
    widths = [_width(box) for box in diagram.boxes]
    layout = lay_out(len(diagram.boxes), diagram.edges, max(widths) + _GAP)
    rows = _rows(diagram.boxes, layout)
    head = max(_measure(diagram.title, 15), _measure(diagram.note, 11))
    width = max(layout.width, head) + _EDGE
    shift = (width - layout.width) / 2
    centres = [(x + shift, rows[round(y)][0]) for x, y in layout.centres]
    parts = [f'<text class="name" x="{_EDGE / 2:g}" y="20">{escape(_short(diagram.title))}</text>',
             f'<text class="under" x="{_EDGE / 2:g}" y="37">{escape(_clean(diagram.note))}</text>']  # fmt: skip
    parts += [_frame(diagram.boxes, widths, centres, *frame) for frame in diagram.frames]
    parts += _edges(diagram, layout, rows, shift, widths)
    parts += [_box(box, wide, centre) for box, wide, centre in zip(diagram.boxes, widths, centres, strict=True)]
    bottom = rows[-1][0] + rows[-1][1] / 2 + _EDGE
    return Drawn("\n".join(parts), width, bottom)


def _rows(boxes: Sequence[Box], layout: Layout) -> list[tuple[float, float]]:
    """Centre and height of every row; a row is as high as its highest box."""
    heights = [float(_LOW)] * layout.rows
    for box, (_, y) in zip(boxes, layout.centres, strict=True):
        heights[round(y)] = max(heights[round(y)], _height(box))
    rows, top = [], float(_HEAD)
    for height in heights:
        rows.append((top + height / 2, height))
        top += height + _ROOM
    return rows


def _edges(diagram: Diagram, layout: Layout, rows: list[tuple[float, float]], shift: float, widths: Sequence[float]) -> list[str]:
    """Curves from row to row, straight where they pass one; edges into a box keep the order they come in."""
    entries: dict[int, list[int]] = {}
    for e, (_, end) in enumerate(diagram.edges):
        entries.setdefault(end, []).append(e)
    ports: dict[int, float] = {}
    for end, coming in entries.items():
        coming.sort(key=lambda e: layout.routes[e][-2][0])
        step = min(16.0, 0.7 * widths[end] / len(coming))
        ports |= {e: (i - (len(coming) - 1) / 2) * step for i, e in enumerate(coming)}
    return [_edge(diagram, e, [(x + shift, y) for x, y in route], rows, ports[e]) for e, route in enumerate(layout.routes)]


def _edge(diagram: Diagram, e: int, route: Sequence[Point], rows: list[tuple[float, float]], port: float) -> str:
    start, end = (diagram.boxes[i] for i in diagram.edges[e])
    ends = []
    for x, y in route:
        centre, height = rows[round(y)]
        ends.append((x, centre - height / 2, centre + height / 2))
    first, last = rows[round(route[0][1])][0], rows[round(route[-1][1])][0]
    ends[0] = (route[0][0], 0.0, first + _height(start) / 2)
    ends[-1] = (route[-1][0] + port, last - _height(end) / 2 - 4, 0.0)
    path = f"M{ends[0][0]:.1f} {ends[0][2]:.1f}"
    for (x0, _, y0), (x1, y1, below) in pairwise(ends):
        middle = (y0 + y1) / 2
        path += f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"
        if below:
            path += f"V{below:.1f}"
    x, y = ends[-1][0], ends[-1][1]
    return f'<path class="edge" d="{path}"/><path class="tip" d="M{x - 3.5:.1f} {y - 2:.1f}h7l-3.5 6z"/>'


def _frame(boxes: Sequence[Box], widths: Sequence[float], centres: Sequence[Point], first: int, last: int, times: int) -> str:
    """A dashed frame around boxes that repeat together."""
    inside = range(first, last + 1)
    left, right = min(centres[i][0] - widths[i] / 2 for i in inside) - 8, max(centres[i][0] + widths[i] / 2 for i in inside) + 8
    top = min(centres[i][1] - _height(boxes[i]) / 2 for i in inside) - 9
    bottom = max(centres[i][1] + _height(boxes[i]) / 2 for i in inside) + 9
    return (f'<rect class="frame" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}" rx="10"/>'
            f'<text class="times" x="{right - 4:.1f}" y="{top - 3:.1f}">×{times}</text>')  # fmt: skip


def _box(box: Box, width: float, centre: Point) -> str:
    x, y, height = centre[0] - width / 2, centre[1] - _height(box) / 2, _height(box)
    size = f'width="{width:.1f}" height="{height}"'
    radius = height / 2 if box.kind in ("input", "output") or not box.note else 6
    cards = "".join(f'<rect class="{box.kind}" x="{x + d:.1f}" y="{y + d:.1f}" {size} rx="6"/>' for d in (6, 3) if box.times > 1)
    parts = [f"<g><title>{escape(_clean(box.tip, lines=True))}</title>{cards}",
             f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" {size} rx="{radius:g}"/>']  # fmt: skip
    middle = centre[0] - (12 if box.times > 1 else 0)
    low = height == _LOW
    parts.append(f'<text x="{middle:.1f}" y="{y + (16 if low else 17):.1f}">{escape(_short(box.title))}</text>')
    if not low:
        parts.append(f'<text class="note" x="{middle:.1f}" y="{y + 31:.1f}">{escape(_short(box.note))}</text>')
    if box.times > 1:
        parts.append(f'<text class="times" x="{x + width - 8:.1f}" y="{y + 24:.1f}">×{box.times}</text>')
    return "".join([*parts, "</g>"])


def _height(box: Box) -> int:
    return _TALL if box.note else _LOW


def _width(box: Box) -> float:
    """Room for the longest line, with what a repeat's count takes."""
    lines = [_measure(_short(box.title), 12)] + ([_measure(_short(box.note), 10)] if _height(box) == _TALL else [])
    return max(56.0, max(lines) + 20) + (30 if box.times > 1 else 0)


def _measure(text: str, size: float) -> float:
    """Pixels that a text takes at most in common sans-serif fonts: there is no font to ask here."""
    em = sum(0.36 if c in _NARROW else 0.95 if c in _WIDE or ord(c) > 0x2E80 else 0.72 if c.isupper() else 0.6 for c in text)
    return em * size


def _short(text: str) -> str:
    plain = _clean(text)
    return plain if len(plain) <= _LONGEST else plain[: _LONGEST - 1] + "…"


def _clean(text: str, *, lines: bool = False) -> str:
    """Without characters that XML has no place for."""
    return "".join(c if c.isprintable() or (lines and c == "\n") else "\N{REPLACEMENT CHARACTER}" for c in text)
