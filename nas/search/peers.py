"""Published networks beside a front: the nearest of the bundled pages, trained and measured the same way."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from nas.errors import NasError
from nas.net.graph import Size
from nas.net.lower import lower
from nas.search.confirm import full_training, one_measurement, timed
from nas.search.extras import Extra, run_extras
from nas.search.loop import SearchLoop
from nas.search.settled import size_words
from nas.space.library import bundled_architectures
from nas.space.page import Page
from nas.space.parse import parse_page
from nas.space.search_space import Architecture


def train_peers(loop: SearchLoop) -> None:
    """Train and measure the peers that the shares ask for, as far as their share goes; the study keeps what they reached."""
    shares = loop.rules.shares
    macs = [r.metrics["macs"] for r in loop.ledger.front.members]
    known: list[dict[str, Any]] = loop.study.metadata.get("peers", [])
    if not macs or len(known) >= shares.peers_wanted:
        return
    size = Size(input=loop.plan.deploy.input, num_classes=loop.plan.deploy.num_classes)
    rows = {p.row["name"]: p for p in nearest_published(size, statistics.median(macs), shares.peers_wanted)}
    todo = [peer for name, peer in rows.items() if name not in {row["name"] for row in known}]
    words = {"proxy": size_words(size), "deploy": size_words(size), "weights": ""}

    def measured(extra: Extra, result: Mapping[str, Any]) -> None:
        if "metrics" in result:
            loop.bench.note(result)
            rows[extra.name].row["latency_ms"] = result["metrics"]["latency"]

    def trained(extra: Extra, result: Mapping[str, Any]) -> None:
        if not result.get("stopped"):
            known.append({**rows[extra.name].row, "accuracy": result["metrics"]["accuracy"], "epochs": result["epochs"]})
            loop.study.set_metadata(peers=known)

    if timed(loop):
        run_extras(loop, [Extra(p.row["name"], p.page, {**words, "stage": {"do": "measure"}}) for p in todo], measured,
                   measuring=True, share=shares.before_final, seconds=one_measurement(loop), what="peers measured")  # fmt: skip
    stage = {"do": "train", "epochs": loop.plan.recipe.epochs}
    run_extras(loop, [Extra(p.row["name"], p.page, {**words, "stage": stage}) for p in todo], trained,
               share=shares.before_final, seconds=full_training(loop), what="peers trained")  # fmt: skip


class Peer:
    """A published network at the size of the task: its page, and its row in the report."""

    def __init__(self, name: str, page: Page, size: Size) -> None:
        graph = lower(Architecture(parse_page(page)), size)
        self.page = page
        self.row: dict[str, Any] = {"name": name, "num_params": graph.num_params, "macs": graph.macs, "latency_ms": None}

    def distance(self, macs: float) -> float:
        """How far it is from so many multiply-adds, in powers of e."""
        return abs(math.log(max(1, self.row["macs"]) / max(1.0, macs)))


def nearest_published(size: Size, macs: float, count: int) -> list[Peer]:
    """The bundled networks made for images of about this size whose multiply-adds are nearest, of different sources."""
    assert size.input is not None
    side = size.input[1]

    def apart(page: Page) -> float:
        return abs(math.log2(page["input"][1] / side))

    pages = {name: page for name, page in bundled_architectures().items() if "input" in page}
    closest = min(map(apart, pages.values()))
    found: dict[str, Peer] = {}
    for name, page in pages.items():
        if apart(page) > closest + 0.5:
            continue
        try:
            peer = Peer(name, page, size)
        except NasError:  # made for another size
            continue
        source = str(page.get("source", name))
        if source not in found or peer.distance(macs) < found[source].distance(macs):
            found[source] = peer
    return sorted(found.values(), key=lambda peer: peer.distance(macs))[:count]
