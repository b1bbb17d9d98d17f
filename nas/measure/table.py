"""Latency tables: every distinct operation on its shapes measured once, added up for a network.

How far a sum is from a network measured whole depends on the device and the runtime (fusion, caches, overlap), so a
table also keeps networks that were measured whole: :func:`additivity` tells by them what its sums are worth, and
:mod:`nas.measure.foresight` learns from them what to make of a sum.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from nas.errors import MeasureError
from nas.measure.latency import Latency
from nas.net.build import build, make_module
from nas.net.graph import Call, Graph, Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.ops import Shape
from nas.space.parse import parse_page
from nas.space.search_space import Architecture
from nas.space.unparse import to_page

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
class Figure:
    """A latency and the unit it was measured in: the reference of that depth takes ``reference_ms`` in quiet times."""

    median_ms: float
    low_ms: float
    high_ms: float
    reference_depth: int
    reference_ms: float

    @classmethod
    def of(cls, latency: Latency) -> Figure:
        """What a table keeps of a measurement."""
        return cls(**{f.name: getattr(latency, f.name) for f in fields(cls)})

    def within(self, units: Mapping[int, float]) -> float | None:
        """The median in milliseconds of other units (a reference's quiet ms by its depth); None where the depth has none."""
        unit = units.get(self.reference_depth)
        return None if unit is None else self.median_ms * unit / self.reference_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A network measured whole: its page and size, from which it can be lowered again."""

    page: Mapping[str, Any]
    size: Size
    figure: Figure

    def graph(self) -> Graph:
        """The network."""
        return lower(Architecture(parse_page(self.page)), self.size)


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
    """A table in a JSON file, written after every measurement, so that it can be gone on with after any interruption.

    ``entries`` by :attr:`Work.key`, ``whole`` by the network's identity. Each figure keeps its own unit.
    """

    def __init__(self, path: Path, conditions: Mapping[str, Any], *, hint: str = "Choose another file with out=FILE.") -> None:
        """Open or begin a table. Raises MeasureError when the file is none, or was measured under other conditions."""
        self.path, self.conditions = path, json.loads(json.dumps(dict(conditions)))
        self.entries: dict[str, Figure] = {}
        self.whole: dict[str, Whole] = {}
        if path.exists():
            found, self.entries, self.whole = _read(path)
            for name in sorted({*found, *self.conditions}):
                known, asked = found.get(name), self.conditions.get(name)
                if known != asked:
                    raise MeasureError(f"the table was measured under another {name}", where=str(path), expected=str(known),
                                       got=asked, hint=hint)  # fmt: skip

    @classmethod
    def open(cls, path: Path, conditions: Mapping[str, Any], *, hint: str) -> LatencyTable:
        """One that there is, whatever cores it was pinned to. Raises MeasureError as above, and when there is none."""
        found, _, _ = _read(path)
        return cls(path, {**conditions, **({"cores": found["cores"]} if "cores" in found else {})}, hint=hint)

    def __contains__(self, work: Work) -> bool:
        return work.key in self.entries

    def add(self, work: Work, measure: Measure, batch: int) -> Latency:
        """Measure an operation and keep the figure. Raises MeasureError when it is refused."""
        latency = measure(Alone(work, batch), work.shapes[0])
        self.entries[work.key] = Figure.of(latency)
        self._write()
        return latency

    def add_whole(self, architecture: Architecture, size: Size, measure: Measure) -> Latency:
        """Measure a network whole and keep the figure. Raises MeasureError when it is refused."""
        graph = lower(architecture, size)
        latency = measure(build(graph), graph.inputs[0][1])
        self.whole[identity(graph)] = Whole(page=to_page(architecture.spec), size=size, figure=Figure.of(latency))
        self._write()
        return latency

    def missing(self, graph: Graph) -> list[Work]:
        """Distinct work of the network that the table does not hold."""
        return list({work.key: work for work in work_of(graph) if work not in self}.values())

    @property
    def units(self) -> dict[int, float]:
        """A reference's quiet milliseconds by its depth, those of some of the figures."""
        figures = [*self.entries.values(), *(whole.figure for whole in self.whole.values())]
        return {figure.reference_depth: figure.reference_ms for figure in figures}

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        document = {"conditions": self.conditions, "entries": {key: asdict(figure) for key, figure in self.entries.items()},
                    "whole": {key: asdict(whole) for key, whole in self.whole.items()}}  # fmt: skip
        draft.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        os.replace(draft, self.path)


class Sums:
    """What a table says of networks, in milliseconds of ``units`` (a reference's quiet ms by its depth), such as a search's."""

    def __init__(self, table: LatencyTable, units: Mapping[int, float] | None = None) -> None:
        units = table.units if units is None else units
        self._ms = {key: ms for key, figure in table.entries.items() if (ms := figure.within(units)) is not None}
        told = [(whole.graph(), whole.figure.within(units)) for whole in table.whole.values()]
        self.whole = tuple((graph, ms) for graph, ms in told if ms is not None)

    def of(self, graph: Graph) -> float | None:
        """The sum over everything the network does; None when the table lacks some of it."""
        parts = [self._ms.get(work.key) for work in work_of(graph)]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None

    def additivity(self) -> Additivity | None:
        """What the sums are worth, by the networks measured whole that the table covers; None where there is none."""
        pairs = [(total, ms) for graph, ms in self.whole if (total := self.of(graph)) is not None]
        return additivity(*zip(*pairs, strict=True)) if pairs else None


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Figure], dict[str, Whole]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        conditions = dict(document["conditions"].items())
        entries = {key: _figure(words) for key, words in document["entries"].items()}
        whole = {key: Whole(page=words["page"], size=_size(words["size"]), figure=_figure(words["figure"]))
                 for key, words in document["whole"].items()}  # fmt: skip
    except FileNotFoundError:
        raise MeasureError("there is no such latency table", where=str(path), hint="Make one with `nas latency-table`.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise MeasureError("this is not a latency table", where=str(path),
                           expected="a file that this version of `nas latency-table` wrote") from None  # fmt: skip
    return conditions, entries, whole


def _figure(words: Mapping[str, Any]) -> Figure:
    """Raises ValueError or TypeError for what is none."""
    figure = Figure(**words)
    if not (figure.median_ms > 0 and figure.reference_ms > 0):
        raise ValueError(words)
    return figure


def _size(words: Mapping[str, Any]) -> Size:
    return Size(**{**words, "input": words["input"] and tuple(words["input"])})
