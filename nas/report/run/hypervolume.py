"""How much of the space of objectives a front dominates, and how that grew while the budget was spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nas.search.archive import Archive
from nas.search.objectives import Objective, dominates, nondominated
from nas.search.study import Record


def hypervolume(losses: np.ndarray, reference: np.ndarray) -> float:
    """Volume between points (rows, all to be minimised) and the reference point that they bound; exact.

    Sliced along the last objective: every slab between two of its values is the volume of what begins below it, in one
    dimension less. Points that are not better than the reference in every objective add nothing.
    """
    points = losses[(losses < reference).all(axis=1)]
    if not len(points):
        return 0.0
    if points.shape[1] == 1:
        return float(reference[0] - points.min())
    points = points[nondominated(points)]
    points = points[np.argsort(points[:, -1])]
    ends = np.append(points[1:, -1], reference[-1])
    slabs = ends - points[:, -1]
    return float(sum(slab * hypervolume(points[: i + 1, :-1], reference[:-1]) for i, slab in enumerate(slabs) if slab > 0))


class Scale:
    """The box that hypervolumes of a run are measured in: from the best value seen of every objective to the worst one.

    A volume is then a fraction of 1, whatever the units. Accuracy counts from 0.
    """

    def __init__(self, records: Sequence[Record], objectives: Sequence[Objective]) -> None:
        self.objectives = tuple(objectives)
        losses = self.losses(records)
        losses = losses[np.isfinite(losses).all(axis=1)]
        self.best = losses.min(axis=0) if len(losses) else np.zeros(len(self.objectives))
        worst = losses.max(axis=0) if len(losses) else np.ones(len(self.objectives))
        self.worst = np.array([0.0 if o.name == "accuracy" else w for o, w in zip(self.objectives, worst, strict=True)])

    def losses(self, records: Sequence[Record]) -> np.ndarray:
        """A row a record: its objectives, to be minimised."""
        rows = [[o.loss(r.metrics) for o in self.objectives] for r in records]
        return np.array(rows, dtype=float).reshape(len(rows), len(self.objectives))

    def fraction(self, records: Sequence[Record]) -> float:
        """The share of the box that the records dominate; an objective in which all are equal is left out."""
        kept = self.worst > self.best
        if not kept.any():
            return 0.0
        losses = (self.losses(records)[:, kept] - self.best[kept]) / (self.worst - self.best)[kept]
        losses = losses[np.isfinite(losses).all(axis=1)]
        return min(1.0, hypervolume(losses, np.ones(int(kept.sum())) * (1 + 1e-9)))

    def reference(self) -> dict[str, float]:
        """The box's worst corner, in the metrics' own units."""
        return {o.name: abs(float(w)) for o, w in zip(self.objectives, self.worst, strict=True)}


def phase(record: Record) -> str:
    """What a trial was run for: search, or the random baseline."""
    return str(record.attrs.get("phase") or "search")


def growth(archive: Archive, scale: Scale, of: str) -> dict[str, Any]:
    """Hypervolume of a phase's trials over the device seconds that the phase spent, in the order in which trials ended.

    ``spent_s`` and ``share`` hold a step for every trial that changed the front, ``end_s`` what was spent in all, failures
    and trials over a limit included.
    """
    ends = {t.number: t.datetime_complete for t in archive.study.optuna.get_trials(deepcopy=False) if t.datetime_complete}
    own = [r for r in archive.study.records if phase(r) == of and r.number in ends]
    feasible = {r.number for r in archive.within(())}
    front: list[Record] = []
    curve: list[tuple[float, float]] = []
    spent = 0.0
    for record in sorted(own, key=lambda r: ends[r.number]):
        spent += float(record.attrs.get("seconds") or 0.0)
        if record.number not in feasible or any(dominates(r.metrics, record.metrics, scale.objectives) for r in front):
            continue
        share = scale.fraction([*front, record])
        if not curve or share > curve[-1][1]:
            front.append(record)
            front = [r for r, kept in zip(front, nondominated(scale.losses(front)), strict=True) if kept]
            curve.append((spent, share))
    return {"spent_s": [s for s, _ in curve], "share": [v for _, v in curve], "end_s": spent}
