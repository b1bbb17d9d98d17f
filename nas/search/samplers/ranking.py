"""Which of finished trials is better: limits first, then the objective, or rank and crowding when there are several."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from nas.search.objectives import nondominated

Order = tuple[float, ...]


def losses(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> np.ndarray:
    """Values to be minimised, trials x objectives; infinities are made finite."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in directions]
    return np.nan_to_num(np.array([trial.values for trial in trials], dtype=float).reshape(-1, len(signs)) * signs)


def violation(trial: FrozenTrial) -> float:
    """By how much the trial breaks its constraints, summed; 0 is feasible."""
    return sum(value for value in trial.constraints.values() if value > 0)


def order(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> list[Order]:
    """A key for each trial; the smaller is the better (Deb et al. 2002: feasible, then rank, then the less crowded)."""
    table = losses(trials, directions)
    broken = [violation(trial) for trial in trials]
    if len(directions) == 1:
        return list(zip(broken, table[:, 0].tolist(), strict=True))
    rank = ranks(table)
    lonely = crowding(table, rank)
    return list(zip(broken, rank.tolist(), (-lonely).tolist(), strict=True))


def ranks(table: np.ndarray) -> np.ndarray:
    """The front that each row is in: 0 is dominated by none, 1 by some of front 0 alone, and so on."""
    if table.shape[1] == 2:
        return _ranks_of_two(table)
    rank = np.zeros(len(table), dtype=int)
    rest = np.arange(len(table))
    while rest.size:
        best = nondominated(table[rest])
        rank[rest[~best]] += 1
        rest = rest[~best]
    return rank


def _ranks_of_two(table: np.ndarray) -> np.ndarray:
    """In lexicographic order only what came before can dominate, and does where its second column is no greater. So of each
    front its least second column is enough, which grows from front to front: n log n steps (Jensen 2003)."""
    rank = np.zeros(len(table), dtype=int)
    least: list[float] = []
    before: tuple[float, float] | None = None
    for row in np.lexsort((table[:, 1], table[:, 0])).tolist():
        first, second = table[row].tolist()
        if (first, second) != before:
            level = bisect_right(least, second)
            least[level : level + 1] = [second]
            before = first, second
        rank[row] = level
    return rank


def crowding(table: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """The distance of each row's neighbours in its front, summed over objectives; infinite at an end of one."""
    distance = np.zeros(len(table))
    for column in table.T:
        along = np.lexsort((column, rank))  # front after front
        values, fronts = column[along], rank[along]
        first, last = np.diff(fronts, prepend=-1) != 0, np.diff(fronts, append=-1) != 0
        front = np.cumsum(first) - 1
        width = (values[last] - values[first])[front]
        inner = np.flatnonzero(~first & ~last & (width > 0))
        distance[along[first | last]] = np.inf
        distance[along[inner]] += (values[inner + 1] - values[inner - 1]) / width[inner]
    return distance


def merits(trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]) -> np.ndarray:
    """A number for each trial, the larger the better: what models of one output learn.

    One objective: its value, negative where it is to be small; a trial that breaks a limit is below the worst that breaks
    none, by its violation (1 at most) times the width of the values. Several: the share of these trials that it is better than.
    """
    if len(directions) > 1:
        keys = order(trials, directions)
        place = {key: i for i, key in enumerate(sorted(keys, reverse=True))}
        return np.array([place[key] for key in keys], dtype=float) / max(1, len(trials) - 1)
    values = -losses(trials, directions)[:, 0]
    broken = np.array([violation(trial) for trial in trials])
    if (broken > 0).any():
        kept = values[broken == 0] if (broken == 0).any() else values
        values[broken > 0] = kept.min() - np.minimum(broken[broken > 0], 1.0) * (np.ptp(values) or 1.0)
    return values
