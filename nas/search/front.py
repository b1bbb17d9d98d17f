"""The front of a run, kept while it grows: in memory, as the weights of its members, and as the files people read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nas.net.graph import Size
from nas.search.objectives import ALWAYS, METRICS, Constraint, Objective, below, further
from nas.search.run import FRONT_COLUMNS, RunFolder
from nas.search.study import Record
from nas.space.search_space import Architecture, SearchSpace
from nas.space.spec import Spec
from nas.space.unparse import to_yaml

NORMAL_95 = 1.96
"""Standard errors to either side that hold 95 % of a normal distribution."""


@dataclass(slots=True)
class Checks:
    """What was found when the front was looked at again, by trial: accuracies of trainings with other seeds, latencies in ms
    (median, low, high) with all ``metrics`` that were measured, and final trainings at deployed size."""

    repeats: dict[int, list[float]] = field(default_factory=dict)
    again: dict[int, dict[str, Any]] = field(default_factory=dict)
    final: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Checks:
        """As the study holds them."""
        read = {key: {int(trial): value for trial, value in metadata.get(key, {}).items()} for key in cls.__slots__}
        return cls(**read)

    def to_metadata(self) -> dict[str, Any]:
        """Plain values for the study."""
        return {key: {str(trial): value for trial, value in getattr(self, key).items()} for key in self.__slots__}


class Front:
    """Completed trials within all limits that no other dominates: ``members``, the best first."""

    def __init__(self, folder: RunFolder, objectives: Sequence[Objective], constraints: Sequence[Constraint]) -> None:
        self.folder, self.objectives, self.constraints = folder, tuple(objectives), tuple(constraints)
        self.members: tuple[Record, ...] = ()
        self.checks = Checks()
        self._losses: dict[int, list[float]] = {}  # of the members, by trial

    @property
    def kept(self) -> tuple[Record, ...]:
        """The members that keep the limits, also when they were measured again; the best first."""
        return tuple(r for r in self.members if keeps(r, self.checks, self.constraints))

    @property
    def best(self) -> Record | None:
        """The best member: see :func:`best_of`."""
        return best_of(self.members, self.objectives, self.checks, self.constraints)

    @property
    def ties(self) -> dict[int, list[int]]:
        """Of each member the others that may dominate it within their errors."""
        return ties(self.members, self.objectives, self.checks)

    def add(self, record: Record) -> bool:
        """Take a completed trial in, unless it is dominated; whether it was taken. The others' weights are deleted."""
        losses = [objective.loss(record.metrics) for objective in self.objectives]
        feasible = all(c.violation(record.metrics) <= 0 for c in self.constraints if c.metric in record.metrics)
        if not feasible or any(below(known, losses) for known in self._losses.values()):
            self.folder.drop_weights(record.number)
            return False
        for number in [number for number, known in self._losses.items() if below(losses, known)]:
            del self._losses[number]
            self.folder.drop_weights(number)
        self._losses[record.number] = losses
        kept = [member for member in self.members if member.number in self._losses]
        self.members = tuple(sorted_front([*kept, record], self.objectives))
        return True

    def write(self, space: SearchSpace, size: Size, tested: Mapping[int, float | None] | None = None) -> None:
        """Write front.csv (with the test accuracies, where they are known) and best.yaml at the deployed size.

        Without a best, as when all are over a limit when they are measured again, there is no best.yaml.
        """
        tested = tested or {}
        interval = ("latency_low_ms", "latency_high_ms")
        tied = self.ties
        rows = [front_row(r, tested.get(r.number), self.checks, tied[r.number]) | {k: r.attrs.get(k) for k in interval}
                | {"ties": " ".join(map(str, tied[r.number]))} for r in self.members]  # fmt: skip
        self.folder.write_table(self.folder.front, (*FRONT_COLUMNS, *further(self.objectives, self.constraints)), rows)
        if (best := self.best) is None:
            self.folder.best.unlink(missing_ok=True)
        else:
            page = at_size(space.architecture(best.decisions), size, f"{self.folder.path.resolve().name}-{best.number}")
            self.folder.write(self.folder.best, to_yaml(page))


def best_of(records: Sequence[Record], objectives: Sequence[Objective] = (), checks: Checks | None = None,
            limits: Sequence[Constraint] = ()) -> Record | None:  # fmt: skip
    """The first of :func:`sorted_front` among those that keep the limits, also when they were measured again."""
    return min((r for r in records if keeps(r, checks, limits)), key=lambda r: _order(r, objectives), default=None)


def keeps(record: Record, checks: Checks | None, limits: Sequence[Constraint]) -> bool:
    """Whether a trial is within the limits, by its second figures where it was measured again."""
    again = checks.again.get(record.number, {}) if checks else {}
    return all(limit.violation({**record.metrics, **again.get("metrics", {})}) <= 0 for limit in limits)


def sorted_front(records: Sequence[Record], objectives: Sequence[Objective] = ()) -> list[Record]:
    """The best first: by the objectives that are products, if any; then the most accurate, the fastest, the smallest."""
    return sorted(records, key=lambda r: _order(r, objectives))


def _order(record: Record, objectives: Sequence[Objective]) -> tuple[float, ...]:
    metrics = record.metrics
    return (*(o.loss(metrics) for o in objectives if o.factors),
            -metrics.get("accuracy", 0.0), metrics.get("latency", 0.0), metrics.get("num_params", 0))  # fmt: skip


def errors_of(record: Record, checks: Checks | None = None) -> dict[str, float]:
    """Standard errors of a trial's metrics, where they are known: of accuracy from training to training when it was trained
    again, otherwise that of counting right answers among so many images; of latency from the interval of its median, and of
    throughput, which is made of that median, the same share."""
    errors = {}
    accuracy, images = record.metrics.get("accuracy"), record.attrs.get("val_images")
    repeats = checks.repeats.get(record.number, []) if checks else []
    if accuracy is not None and images:
        errors["accuracy"] = math.sqrt(max(accuracy * (1 - accuracy), 1 / images) / images)
    if accuracy is not None and len(repeats) > 1:
        errors["accuracy"] = max(errors.get("accuracy", 0.0), statistics.stdev([accuracy, *repeats]))
    if (low := record.attrs.get("latency_low_ms")) is not None:
        errors["latency"] = (record.attrs["latency_high_ms"] - low) / (2 * NORMAL_95)
        if {"latency", "throughput"} <= record.metrics.keys():
            errors["throughput"] = record.metrics["throughput"] * errors["latency"] / record.metrics["latency"]
    return errors


def ties(records: Sequence[Record], objectives: Sequence[Objective], checks: Checks | None = None) -> dict[int, list[int]]:
    """Of each trial the others that may well dominate it: within the errors of both they are no worse in any objective."""
    table = as_good(records, records, objectives, checks)
    return {b.number: [a.number for a, tied in zip(records, column, strict=True) if tied and a is not b]
            for b, column in zip(records, table.T, strict=True)}  # fmt: skip


def as_good(records: Sequence[Record], others: Sequence[Record], objectives: Sequence[Objective],
            checks: Checks | None = None) -> np.ndarray:  # fmt: skip
    """Whether each of the trials (a row) is no worse than each of the others (a column) in any objective, within their errors."""

    def judged(trials: Sequence[Record]) -> np.ndarray:
        known = [(r, errors_of(r, checks)) for r in trials]
        return np.array([[(o.loss(r.metrics), _error(o, r, errors)) for o in objectives] for r, errors in known],
                        dtype=float).reshape(len(trials), len(objectives), 2)  # fmt: skip

    a, b = judged(records)[:, None], judged(others)[None]
    found: np.ndarray = (a[..., 0] <= b[..., 0] + NORMAL_95 * np.hypot(a[..., 1], b[..., 1])).all(axis=-1)
    return found


def _error(objective: Objective, record: Record, errors: Mapping[str, float]) -> float:
    """What the errors of its metrics come to in an objective."""
    known = {name: value for name, value in record.metrics.items() if name in METRICS}
    loss = objective.loss(known)
    return math.hypot(*(objective.loss({**known, name: known[name] + errors[name]}) - loss
                        for name in objective.metrics if name in errors))  # fmt: skip


def front_row(record: Record, test: float | None, checks: Checks | None = None, tied: Sequence[int] = ()) -> dict[str, Any]:
    """A member of the front as ``--json`` and front.csv show it; what else the run judges by under its own name.

    ``latency_again_ms`` is what it took when it was measured again, alone, at the search's end; ``repeats`` how often it was
    trained with other seeds, ``accuracy_mean`` and ``accuracy_sd`` over all its trainings; ``ties`` the members that may
    dominate it within their errors.
    """
    metrics, checks = record.metrics, checks or Checks()
    repeats = checks.repeats.get(record.number, [])
    accuracies = [metrics.get("accuracy", 0.0), *repeats]
    return {
        "trial": record.number, "val_accuracy": metrics.get("accuracy"), "test_accuracy": test,
        "latency_ms": metrics.get("latency"), "latency_again_ms": checks.again.get(record.number, {}).get("median_ms"),
        "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "repeats": len(repeats),
        "accuracy_mean": statistics.fmean(accuracies) if repeats else None,
        "accuracy_sd": statistics.stdev(accuracies) if repeats else None, "ties": list(tied), "identity": record.identity,
        **{name: value for name, value in metrics.items() if name not in ALWAYS},
    }  # fmt: skip


def at_size(architecture: Architecture, size: Size, name: str) -> Spec:
    """The architecture's page with a size written into it."""
    spec, scaling = architecture.spec, architecture.spec.scaling
    scaling = replace(scaling, width=scaling.width * size.width, depth=scaling.depth * size.depth)  # type: ignore[operator]
    return replace(spec, name=name.replace(" ", "_"), scaling=scaling, input=size.input or spec.input,
                   num_classes=size.num_classes or spec.num_classes)  # fmt: skip
