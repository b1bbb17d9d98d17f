"""Latency tables: every distinct operation on its shapes measured once, added up for a network.

How far a sum is from a network measured whole depends on the device and the runtime (fusion, caches, overlap), so a
table is worth what :func:`additivity` says of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import MeasureError
from nas.measure.latency import Latency
from nas.net.build import make_module
from nas.net.graph import Call, Graph
from nas.ops import Shape

Measure = Callable[[nn.Module, Shape], Latency]
"""Measures a module that takes one tensor of this shape (without the batch)."""


class Work(NamedTuple):
    """An operation on the shapes of its inputs (without the batch)."""

    call: Call
    shapes: tuple[Shape, ...]

    @property
    def key(self) -> str:
        """Equal for equal work."""
        words = ", ".join(f"{word}={value!r}" for word, value in sorted(self.call.kwargs.items()))
        return f"{self.call.op}({words}) on " + " ".join("x".join(map(str, shape)) for shape in self.shapes)


def work_of(graph: Graph) -> Iterator[Work]:
    """Everything a network does, cells opened, as often as it does it."""
    shapes = graph.shapes()
    for node in graph.nodes:
        if isinstance(node.target, Graph):
            yield from work_of(node.target)
        else:
            yield Work(node.target, tuple(shapes[name] for name in node.inputs))


class Alone(nn.Module):
    """One operation, called with a tensor for its first input; the others are fixed random ones."""

    def __init__(self, work: Work, batch: int) -> None:
        super().__init__()
        self.operation = make_module(work.call)
        self.others = [f"other{index}" for index in range(1, len(work.shapes))]
        for name, shape in zip(self.others, work.shapes[1:], strict=True):
            self.register_buffer(name, torch.randn(batch, *shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.operation(x, *[getattr(self, name) for name in self.others])
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Additivity:
    """Sums of a table against ``n`` networks measured whole.

    ``ratio`` is the median of whole over sum; ``error`` the mean absolute relative error of the sums as they are and
    ``scaled_error`` of the sums times ``ratio``; ``spearman`` the rank correlation (None for fewer than three networks).
    """

    n: int
    ratio: float
    error: float
    scaled_error: float
    spearman: float | None


def additivity(sums_ms: Sequence[float], whole_ms: Sequence[float]) -> Additivity:
    """How well sums tell latencies, of the same networks in the same order."""
    sums, whole = np.asarray(sums_ms, dtype=float), np.asarray(whole_ms, dtype=float)
    ratio = float(np.median(whole / sums))
    ranks = np.array([values.argsort().argsort() for values in (sums, whole)], dtype=np.float64)
    return Additivity(n=len(sums), ratio=ratio, error=float(np.mean(np.abs(sums / whole - 1))),
                      scaled_error=float(np.mean(np.abs(ratio * sums / whole - 1))),
                      spearman=float(np.corrcoef(ranks[0], ranks[1])[0, 1]) if len(sums) > 2 else None)  # fmt: skip


class LatencyTable:
    """A table in a JSON file, written after every measurement, so that it can be gone on with after any interruption."""

    def __init__(self, path: Path, conditions: Mapping[str, Any]) -> None:
        """Open or begin a table. Raises MeasureError when the file is none, or was measured under other conditions."""
        self.path, self.conditions = path, json.loads(json.dumps(dict(conditions)))
        self.entries: dict[str, dict[str, float]] = {}
        if path.exists():
            found, self.entries = _read(path)
            for name in sorted({*found, *self.conditions}):
                known, asked = found.get(name), self.conditions.get(name)
                if known != asked:
                    raise MeasureError(f"the table was measured under another {name}", where=str(path), expected=str(known),
                                       got=asked, hint="Choose another file with out=FILE.")  # fmt: skip

    def __contains__(self, work: Work) -> bool:
        return work.key in self.entries

    def add(self, work: Work, measure: Measure, batch: int) -> Latency:
        """Measure an operation and keep the figure. Raises MeasureError when it is refused."""
        latency = measure(Alone(work, batch), work.shapes[0])
        self.entries[work.key] = {"median_ms": latency.median_ms, "low_ms": latency.low_ms, "high_ms": latency.high_ms}
        self._write()
        return latency

    def missing(self, graph: Graph) -> list[Work]:
        """Distinct work of the network that the table does not hold."""
        return list({work.key: work for work in work_of(graph) if work not in self}.values())

    def total_ms(self, graph: Graph) -> float:
        """The sum over everything the network does. Raises MeasureError when the table lacks some of it."""
        if missing := self.missing(graph):
            raise MeasureError(f"the table lacks {len(missing)} operations of this network", where=str(self.path),
                               got=missing[0].key)  # fmt: skip
        return sum(self.entries[work.key]["median_ms"] for work in work_of(graph))

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        document = {"conditions": self.conditions, "entries": self.entries}
        draft.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(draft, self.path)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        conditions, entries = document["conditions"], document["entries"]
        whole = isinstance(conditions, Mapping) and all(float(entry["median_ms"]) > 0 for entry in entries.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise MeasureError("this is not a latency table", where=str(path), expected="a file that `nas latency-table` wrote")
    return dict(conditions), dict(entries)
