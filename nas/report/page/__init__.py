"""A run's report as one HTML file that needs nothing else: data, script, style and plotly (MIT) are inside it."""

from __future__ import annotations

import base64
import html
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import NasError
from nas.net.lower import lower
from nas.report.picture import picture
from nas.search.archive import Archive
from nas.search.metrics import METRICS

PICTURES = 200
"""Trials that a page has a picture of at most: the front, then the most accurate."""

_HERE = Path(__file__).parent


class Pictures:
    """Pictures of a run's trials, deflated and in base64, by number; what was drawn is kept."""

    def __init__(self) -> None:
        self._drawn: dict[int, str | None] = {}

    def of(self, archive: Archive, document: Mapping[str, Any]) -> dict[int, str]:
        """The pictures that the document's page shows. A network that cannot be lowered any more has none."""
        trials = [t for t in document["trials"] if t["state"] == "completed"]
        trials.sort(key=lambda t: (not t["front"], -(t["metrics"].get("accuracy") or 0.0), t["trial"]))
        for trial in trials[:PICTURES]:
            if trial["trial"] not in self._drawn:
                self._drawn[trial["trial"]] = _packed(archive, trial["trial"])
        wanted = {t["trial"] for t in trials[:PICTURES]}
        return {number: text for number, text in self._drawn.items() if text is not None and number in wanted}


def _packed(archive: Archive, number: int) -> str | None:
    try:
        graph = lower(archive.study.space.architecture(archive.study.records[number].decisions), archive.deploy)
    except NasError:
        return None
    svg = picture(graph, f"{archive.folder.path.resolve().name}: trial {number}")
    return base64.b64encode(zlib.compress(svg.encode(), 9)).decode()


def page(document: Mapping[str, Any], pictures: Mapping[int, str], *, every_s: float | None = None) -> str:
    """A run's page. ``every_s``: how often it asks ``data.json`` beside it for news; without, it never reads anything."""
    data = {"document": document, "pictures": pictures, "every_s": every_s}
    return _page("report", f"{document['run']['name']}: nas report", data, connect="'self'" if every_s else "'none'")


def compare_page(document: Mapping[str, Any]) -> str:
    """The page of several runs."""
    return _page("compare", "nas compare", {"document": document})


def _page(name: str, title: str, data: Any, *, connect: str = "'none'") -> str:
    """The one frame, filled with a page's body and script. ``connect``: whom the page may ask, as a content policy says it."""
    from plotly.offline import get_plotlyjs

    labels = {metric.name: {"label": metric.label, "unit": metric.unit} for metric in METRICS.values()}
    parts = {"title": html.escape(title), "css": _read("report.css"), "body": _read(f"{name}.html"), "common": _read("common.js"),
             "js": _read(f"{name}.js"), "plotly": get_plotlyjs(), "data": embedded({"metrics": labels, **data}),
             "connect": connect}  # fmt: skip
    pieces = _read("page.html").split("{{")
    return pieces[0] + "".join(parts[key] + rest for key, _, rest in (piece.partition("}}") for piece in pieces[1:]))


def embedded(data: Any) -> str:
    """JSON that may stand inside a script element: nothing in it can end the element."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
