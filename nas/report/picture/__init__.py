"""Pictures of networks: the network with its repeats folded, and every cell that it is made of, as one SVG document."""

from __future__ import annotations

from nas.net.graph import Graph
from nas.report.picture.diagram import diagrams
from nas.report.picture.svg import document

__all__ = ["picture"]


def picture(graph: Graph, title: str) -> str:
    """The SVG document of a lowered network. It holds no script and loads nothing; names from pages are escaped."""
    return document(diagrams(graph), title)
