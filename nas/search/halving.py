"""Early stopping with any number of objectives: asynchronous successive halving by non-dominated rank.

Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning (ASHA), arXiv:1810.05934. Three things differ: results
at a rung are compared by non-dominated rank and, within a rank, by what they add to the front (crowding stands in for the
hypervolume contribution beyond two objectives), with those metrics that are known before training taken exactly; accuracy to
come is judged by the training loss (:func:`learnt`); and only so many candidates wait for a promotion as checkpoints are to
be kept for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas.search.objectives import Metrics, Objective
from nas.search.samplers.ranking import crowding, ranks

ETA = 3
"""One in so many is promoted (the published choices are 3 and 4)."""

WAITING = 64
"""Candidates that wait for a promotion at a rung, each with a checkpoint on disk; of more the worst are given up."""


def rungs_of(epochs: int, eta: int = ETA, expected: int | None = None) -> tuple[int, ...]:
    """Epochs at which candidates are compared, the last one all of them: 9 epochs give 1, 3, 9; 20 give 2, 7, 20.

    Only so many that of the ``expected`` candidates some reach the last: each is reached by one in ``eta``.
    """
    most = max(1, int(math.log(max(expected or eta**9, 1), eta)) - 1)
    rungs = [epochs]
    while rungs[-1] >= eta and len(rungs) <= most:
        rungs.append(round(rungs[-1] / eta))
    return tuple(reversed(rungs))


def learnt(train_loss: float) -> float:
    """What stands in for the accuracy at a rung: the probability that the training gave to the right classes in its latest
    epoch, as a geometric mean.

    Early on, how fast a network learns tells more of its final accuracy than its accuracy does (Ru et al. 2021, Speedy
    Performance Estimation for Neural Architecture Search, arXiv:2006.04492): after 1 of 9 epochs the rank correlation with the
    final accuracy of another training is 0.78 against 0.34 (results/benchmarks/learning_curves.csv).
    """
    return math.exp(-train_loss)


COMPARED = 1000
"""Latest results at a rung that are compared: of more the order would take longer than a training."""


@dataclass(slots=True)
class Rung:
    """The latest results at a number of epochs, as losses; who of them waits for a promotion; their order once known."""

    epochs: int
    results: dict[int, list[float]] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    order: list[int] | None = None


class Halving:
    """Says which candidates go on. Candidates are known by their numbers."""

    def __init__(self, objectives: Sequence[Objective], epochs: int, *, eta: int = ETA, waiting: int = WAITING,
                 expected: int | None = None) -> None:  # fmt: skip
        self.objectives, self.eta, self.waiting = tuple(objectives), eta, waiting
        *below, self.epochs = rungs_of(epochs, eta, expected)
        self.rungs = [Rung(epochs) for epochs in below]

    def first(self) -> int:
        """Epochs that every candidate gets."""
        return self.rungs[0].epochs if self.rungs else self.epochs

    def compares(self, epochs: int) -> bool:
        """Whether there is a rung at so many epochs."""
        return any(rung.epochs == epochs for rung in self.rungs)

    def after(self, epochs: int) -> int:
        """The rung above that many epochs."""
        return next((rung.epochs for rung in self.rungs if rung.epochs > epochs), self.epochs)

    def saw(self, trial: int, epochs: int, metrics: Metrics, *, waits: bool) -> None:
        """A result at a rung, with :func:`learnt` as its accuracy; whether the candidate now waits there for a promotion."""
        for rung in self.rungs:
            if rung.epochs == epochs:
                rung.results[trial] = [objective.loss(metrics) for objective in self.objectives]
                rung.order = None
                if len(rung.results) > COMPARED:
                    del rung.results[next(iter(rung.results))]
                if waits:
                    rung.waiting.add(trial)

    def promote(self) -> int | None:
        """The next candidate to go on: it waits no longer."""
        if (best := self.promotable()) is not None:
            self.leave(best)
        return best

    def promotable(self) -> int | None:
        """A waiting candidate among the best of its rung, from the highest rung that has one."""
        for rung in reversed(self.rungs):
            best = self._order(rung)[: len(rung.results) // self.eta] if rung.waiting else []
            if (found := next((trial for trial in best if trial in rung.waiting), None)) is not None:
                return found
        return None

    def given_up(self) -> list[int]:
        """Candidates for which no checkpoint is kept any more: the worst of those beyond the number that may wait, and those
        that have waited until they are compared no longer."""
        lost: list[int] = []
        for rung in self.rungs:
            if len(rung.waiting) > self.waiting or not rung.waiting <= rung.results.keys():
                kept = [trial for trial in self._order(rung) if trial in rung.waiting][: self.waiting]
                lost += sorted(rung.waiting.difference(kept))
                rung.waiting = set(kept)
        return lost

    def leave(self, trial: int) -> None:
        """A candidate waits no longer: it has ended."""
        for rung in self.rungs:
            rung.waiting.discard(trial)

    def _order(self, rung: Rung) -> list[int]:
        """The rung's candidates, the best first; of equals the earlier."""
        if rung.order is None:
            rung.order = self._ordered(rung.results)
        return rung.order

    def _ordered(self, results: dict[int, list[float]]) -> list[int]:
        trials = list(results)
        table = np.array(list(results.values()), dtype=float).reshape(-1, len(self.objectives))
        table = np.nan_to_num(table, nan=np.inf, posinf=1e300, neginf=-1e300)
        rank = ranks(table)
        gain = contributions(table, rank) if table.shape[1] == 2 else crowding(table, rank)
        return [trials[i] for i in np.lexsort((np.array(trials), -gain, rank))]


def contributions(table: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Hypervolume that each row (two losses) adds to its own front; infinite at the ends, whose share is open."""
    gain = np.zeros(len(table))
    for level in np.unique(rank):
        rows = np.flatnonzero(rank == level)
        along = rows[np.lexsort((table[rows, 1], table[rows, 0]))]
        a, b = table[along, 0], table[along, 1]
        gain[along[[0, -1]]] = np.inf
        gain[along[1:-1]] = (a[2:] - a[1:-1]) * (b[:-2] - b[1:-1])
    return gain
