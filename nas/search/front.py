"""The front of a run, kept while it grows: in memory, as the weights of its members, and as the files people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.net.graph import Size
from nas.search.objectives import METRICS, Constraint, Objective, dominates
from nas.search.run import FRONT_COLUMNS, RunFolder
from nas.search.study import Record
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Spec
from nas.space.unparse import to_yaml


class Front:
    """Completed trials within all limits that no other dominates."""

    def __init__(self, folder: RunFolder, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.folder, self.objectives, self.constraints = folder, tuple(objectives), tuple(constraints)
        self._members: list[Record] = []

    @property
    def members(self) -> tuple[Record, ...]:
        """The best first: see :func:`sorted_front`."""
        return tuple(sorted_front(self._members, self.objectives))

    @property
    def best(self) -> Record | None:
        """The best member: see :func:`best_of`."""
        return best_of(self._members, self.objectives)

    def add(self, record: Record) -> bool:
        """Take a completed trial in, unless it is dominated; whether it was taken. The others' weights are deleted."""
        feasible = all(c.violation(record.metrics) <= 0 for c in self.constraints if c.metric in record.metrics)
        if not feasible or any(dominates(m.metrics, record.metrics, self.objectives) for m in self._members):
            self.folder.drop_weights(record.number)
            return False
        for other in [m for m in self._members if dominates(record.metrics, m.metrics, self.objectives)]:
            self._members.remove(other)
            self.folder.drop_weights(other.number)
        self._members.append(record)
        return True

    def write(self, space: SearchSpace, size: Size, tested: Mapping[int, float | None] | None = None) -> None:
        """Write front.csv (with the test accuracies, where they are known) and best.yaml at the deployed size."""
        tested = tested or {}
        products = tuple(o.name for o in self.objectives if o.factors)
        rows = [front_row(r, tested.get(r.number)) | {k: r.attrs.get(k) for k in ("latency_low_ms", "latency_high_ms")}
                for r in self.members]  # fmt: skip
        self.folder.write_table(self.folder.front, (*FRONT_COLUMNS, *products), rows)
        if (best := self.best) is not None:
            page = at_size(space.architecture(best.decisions), size, f"{self.folder.path.resolve().name}-{best.number}")
            self.folder.write(self.folder.best, to_yaml(page))


def best_of(records: Sequence[Record], objectives: Sequence[Objective] = ()) -> Record | None:
    """The first of :func:`sorted_front`."""
    return min(records, key=lambda r: _order(r, objectives), default=None)


def sorted_front(records: Sequence[Record], objectives: Sequence[Objective] = ()) -> list[Record]:
    """The best first: by the objectives that are products, if any; then the most accurate, the fastest, the smallest."""
    return sorted(records, key=lambda r: _order(r, objectives))


def _order(record: Record, objectives: Sequence[Objective]) -> tuple[float, ...]:
    metrics = record.metrics
    return (*(o.loss(metrics) for o in objectives if o.factors),
            -metrics.get("accuracy", 0.0), metrics.get("latency", 0.0), metrics.get("num_params", 0))  # fmt: skip


def front_row(record: Record, test: float | None) -> dict[str, Any]:
    """A member of the front as ``--json`` and front.csv show it; objectives that are products by their text."""
    metrics = record.metrics
    products = {name: value for name, value in metrics.items() if name not in METRICS}
    return {"trial": record.number, "val_accuracy": metrics.get("accuracy"), "test_accuracy": test,
            "latency_ms": metrics.get("latency"), "num_params": metrics.get("num_params"), "macs": metrics.get("macs"),
            "identity": record.identity, **products}  # fmt: skip


def at_size(architecture: Architecture, size: Size, name: str) -> Spec:
    """The architecture's page with a size written into it."""
    spec, scaling = architecture.spec, architecture.spec.scaling
    scaling = replace(scaling, width=scaling.width * size.width, depth=scaling.depth * size.depth)  # type: ignore[operator]
    return replace(spec, name=name.replace(" ", "_"), scaling=scaling, input=size.input or spec.input,
                   num_classes=size.num_classes or spec.num_classes)  # fmt: skip
