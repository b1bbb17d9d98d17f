"""The front of a run, kept while it grows: in memory, as the weights of its members, and as the files people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nas.net.graph import Size
from nas.search.objectives import Constraint, Objective, dominates
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
        """Most accurate first."""
        return tuple(sorted_front(self._members))

    @property
    def best(self) -> Record | None:
        """The most accurate member; of equally accurate ones the faster."""
        return best_of(self._members)

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
        rows = [front_row(r, tested.get(r.number)) | {k: r.attrs.get(k) for k in ("latency_low_ms", "latency_high_ms")}
                for r in self.members]  # fmt: skip
        self.folder.write_table(self.folder.front, FRONT_COLUMNS, rows)
        if (best := self.best) is not None:
            page = at_size(space.architecture(best.decisions), size, f"{self.folder.path.resolve().name}-{best.number}")
            self.folder.write(self.folder.best, to_yaml(page))


def best_of(records: Sequence[Record]) -> Record | None:
    """The most accurate record; ties go to lower latency, then to fewer parameters."""
    def key(record: Record) -> tuple[float, float, float]:
        metrics = record.metrics
        return metrics.get("accuracy", 0.0), -metrics.get("latency", 0.0), -metrics.get("num_params", 0)

    return max(records, key=key, default=None)


def sorted_front(records: Sequence[Record]) -> list[Record]:
    """By accuracy, best first; equally accurate ones by latency."""
    return sorted(records, key=lambda r: (-r.metrics.get("accuracy", 0.0), r.metrics.get("latency", 0.0)))


def front_row(record: Record, test: float | None) -> dict[str, Any]:
    """A member of the front as ``--json`` and front.csv show it."""
    metrics = record.metrics
    return {"trial": record.number, "val_accuracy": metrics.get("accuracy"), "test_accuracy": test,
            "latency_ms": metrics.get("latency"),
            "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "identity": record.identity}  # fmt: skip


def at_size(architecture: Architecture, size: Size, name: str) -> Spec:
    """The architecture's page with a size written into it."""
    spec, scaling = architecture.spec, architecture.spec.scaling
    scaling = replace(scaling, width=scaling.width * size.width, depth=scaling.depth * size.depth)  # type: ignore[operator]
    return replace(spec, name=name.replace(" ", "_"), scaling=scaling, input=size.input or spec.input,
                   num_classes=size.num_classes or spec.num_classes)  # fmt: skip
