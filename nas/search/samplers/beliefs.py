"""What a study's trials make one believe about architectures, those in it and others: all objectives together.

An objective that is known without training is taken as it is; each other has a Gaussian process: accuracy on normal scores;
a cost beside it (a latency that only a measurement tells) on its logarithm, with a view of its own, and what was measured
without being trained is learnt from as well. A measured cost is not smoothed.
Before anything is seen, larger networks are believed to be more accurate and slower: by :data:`SIZE` standard deviations
for one in size (parameters and multiply-adds, logarithms). What the trials say soon outweighs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr

from nas.search.objectives import nondominated
from nas.search.samplers.encoding import VIEWS, Bag, Code, matrix
from nas.search.samplers.gaussian_process import Array, GaussianProcess, Inputs, default, fit, inputs
from nas.search.samplers.improvement import DRAWS, FAR, draws, expected_improvement, pull_in, unwarp, warp
from nas.search.samplers.ranking import crowding, ranks

WORST = 3.0
"""The hypervolume's reference point, in each objective: so many times as far from the best as the median is, of the random
trials that the search began with, and not far beyond the worst of all. It must not move with what the search finds: a few
networks that learn nothing but are fast would draw it towards them, and the search after it. The factor is a guess."""

BEYOND = 0.3
"""How far, in distances of the median from the best: the accurate end of a front may be slower than all that was seen."""

SIZE = 0.5
"""The trend's prior: standard deviations of a metric for one of size. The rank correlations of size and accuracy are 0.6 to
0.8 in the tables of benchmarks/tabular.py, and alike in what is published (Ning et al. 2021, arXiv:2008.03064)."""

ENOUGH = 100
"""Trials, the youngest, that the shape of a limit's model is fitted to: that is done for every proposal."""


class Point(NamedTuple):
    """An architecture: its encoding, the metrics that are known of it, and what tells its sizes for a model of costs."""

    code: Code
    known: Mapping[str, float]
    costs: Callable[[], Bag] = dict


class Limit(NamedTuple):
    """What trials tell of a limit, the youngest first: by how much each is beyond it; 0 or less keeps it."""

    points: list[Point]
    excess: Array


class Beliefs:
    """Trials at ``points`` with ``losses`` (trials x objectives, to be minimised), which are ``signs`` times the metrics
    ``names``; ``first`` are the losses of the trials that the search began with; ``told`` were never trained, and have what
    was measured of them in ``known``.
    First :meth:`fit`, or hyperparameters from an earlier fit, to :meth:`smoothen`; then ask.
    """

    def __init__(
        self, points: Sequence[Point], losses: Array, first: Array, names: Sequence[str], signs: Sequence[float],
        told: Sequence[Point] = (),
    ) -> None:  # fmt: skip
        self._points, self._losses, self._names, self._signs = list(points), losses.copy(), names, signs
        self._exact = {k: name for k, name in enumerate(names) if all(name in point.known for point in points)}
        self._logs = {k for k, sign in enumerate(signs) if sign > 0 and (losses[:, k] > 0).all()}
        for k in range(losses.shape[1]):
            self._losses[:, k] = self._column(k, points) if k in self._exact else self._log(k, losses[:, k])
        self._first = np.stack([self._log(k, first[:, k]) for k in range(losses.shape[1])], axis=1)
        self._modelled = [k for k in range(losses.shape[1]) if k not in self._exact]
        self._costs = self._logs.intersection(self._modelled) if self._several else set()
        self._told = [point for point in told if any(names[k] in point.known for k in self._costs)]
        self._theta: Sequence[Array] = ()
        self._limits: Sequence[Limit] = ()
        self._kept = np.ones(len(self._points), dtype=bool)
        self.smooth = self._losses

    def _log(self, k: int, column: Array) -> Array:
        """Positive costs as logarithms: twice as slow is as much at 1 ms as at 10."""
        logs: Array = np.log(np.maximum(column, 1e-12)) if k in self._logs else column
        return logs

    def _column(self, k: int, points: Sequence[Point]) -> Array:
        column = np.array([point.known[self._names[k]] for point in points], dtype=float)
        return self._log(k, self._signs[k] * column)

    def _scored(self, k: int, values: Array) -> tuple[Array, Callable[[Array], Array]]:
        """What the process of the objective learns, of mean 0 and deviation 1, and what makes losses of it again."""
        if k in self._costs:
            return pull_in(values)
        return warp(values), partial(unwarp, losses=values) if self._several else np.asarray

    def _seen(self, k: int, known: Inputs) -> Inputs:
        """The views that the objective's process is to see."""
        return known if k in self._costs else Inputs(known.squares[: len(VIEWS)], known.trend)

    def fit(self) -> list[Array]:
        """Hyperparameters of each modelled objective."""
        known = _inputs(self._points, len(self._points), bool(self._costs))
        return [fit(self._seen(k, known), self._scored(k, self._losses[:, k])[0], SIZE * self._signs[k]) for k in self._modelled]

    def smoothen(self, theta: Sequence[Array]) -> None:
        """Put into ``smooth`` what the trials' losses are without the noise of a single training."""
        self._theta = theta
        count = len(self._points)
        known = _inputs(self._points, count)
        self.smooth = self._losses.copy()
        for row, k in zip(theta, self._modelled, strict=True):
            if k not in self._costs:  # a cost was measured, and that is that
                scores, back = self._scored(k, self._losses[:, k])
                mean, _ = GaussianProcess(known, scores, row, SIZE * self._signs[k]).predict(0, count)
                self.smooth[:, k] = back(mean)

    @property
    def _several(self) -> bool:
        return len(self._signs) > 1

    def learn_limits(self, limits: Sequence[Limit], worst: Sequence[float]) -> None:
        """What trials tell of each limit, and by how much each of ``points`` breaks one: the best are among the least."""
        self._limits = [limit for limit in limits if (limit.excess > 0).any()]
        self._kept = np.array(worst) <= min(worst)

    def best(self, count: int) -> list[int]:
        """Indices of the best trials; of several objectives by front, then the less crowded.

        Those beyond the reference come last: a network that learns nothing is on the front where nothing is faster. Before
        all come those that break limits least.
        """
        if not self._several:
            return [int(i) for i in np.lexsort((self.smooth[:, 0], ~self._kept))[:count]]
        beyond: Array = np.any(self.smooth > self._reference, axis=1)
        level = ranks(self.smooth) + len(beyond) * beyond
        return [int(i) for i in np.lexsort((-crowding(self.smooth, level), level, ~self._kept))[:count]]

    @property
    def _reference(self) -> Array:
        best = self._first.min(axis=0)
        step = np.median(self._first, axis=0) - best
        reference: Array = np.minimum(self._losses.max(axis=0) + BEYOND * step, best + WORST * step)
        return reference

    def gain(self, pending: Sequence[Point], pool: Sequence[Point], rng: np.random.Generator) -> Array:
        """What each of the pool is expected to add to the trials and those pending."""
        count, others = len(self._points), [*pending, *self._told]
        ends, first = count + len(pending), count + len(others)
        known = _inputs([*self._points, *others, *pool], count, bool(self._costs))
        believed, drawn = np.empty((ends, len(self._signs))), np.empty((DRAWS, len(pool), len(self._signs)))
        for k in self._exact:
            believed[:, k] = self._column(k, [*self._points, *pending])
            drawn[:, :, k] = self._column(k, pool)
        for row, k in zip(self._theta, self._modelled, strict=True):
            measured = [i for i, one in enumerate(others) if k in self._costs and self._names[k] in one.known]
            waiting = [i for i in range(len(pending)) if i not in measured]
            values = np.r_[self._losses[:, k], self._column(k, [others[i] for i in measured])]
            places = np.r_[:count, [count + i for i in (*measured, *waiting)], first : first + len(pool)].astype(int)
            (scores, back), slope, held = self._scored(k, values), SIZE * self._signs[k], places[: len(values) + len(waiting)]
            seen = self._seen(k, known).take(places)
            process = GaussianProcess(seen, scores, row, slope)
            if waiting:
                process = GaussianProcess(seen, np.r_[scores, process.predict(len(scores), len(held))[0]], row, slope)
            table = back(process.predict(0, len(held))[0])
            drawn[:, :, k] = back(draws(*process.predict(len(held), len(places)), rng))
            if k in self._costs:
                table[: len(values)] = values
            believed[held[held < ends], k] = table[held < ends]
        gain: Array = self._improvement(believed, drawn) * self._allowed(pool)
        return gain

    def _improvement(self, believed: Array, drawn: Array) -> Array:
        believed = believed[np.r_[self._kept, np.ones(len(believed) - len(self._kept), dtype=bool)]]
        best: Array = believed.min(axis=0)
        # Plain expected improvement: far away, it does not matter where.
        reference: Array = self._reference if self._several else believed.max(axis=0) + 10.0
        unit = np.maximum(reference - best, 1e-9)
        return expected_improvement(drawn / unit, believed[nondominated(believed)] / unit, reference / unit)

    def _allowed(self, pool: Sequence[Point]) -> Array:
        """The odds that a candidate neither fails nor breaks a limit."""
        odds: Array = np.ones(len(pool))
        for points, excess in self._limits:
            scores, bound = _around_bound(excess)
            known = _inputs([*points, *pool], len(points), True)
            theta = fit(known, scores[:ENOUGH], 0.0) if (excess > 0).sum() > 2 else default(len(VIEWS) + 1)
            mean, deviation = GaussianProcess(known, scores, theta, 0.0).predict(len(points), len(points) + len(pool))
            odds = odds * ndtr((bound - mean) / np.maximum(deviation, 0.1))
        return odds


def _around_bound(excess: Array) -> tuple[Array, float]:
    """Excesses of mean 0 and deviation 1, those far from the bound pulled in, and the bound."""
    far = FAR * float(np.median(np.abs(excess))) or np.inf
    near = np.clip(excess, -far, far)
    mean, spread = float(near.mean()), max(float(near.std()), 1e-9)
    return (near - mean) / spread, -mean / spread


def _inputs(points: Sequence[Point], train: int, costs: bool = False) -> Inputs:
    """How far the encodings are apart in each view; sizes are in standard deviations of the first ``train`` rows.

    ``costs``: one view more, of the sizes by kind of operation and by resolution.
    """
    found = []
    for view in VIEWS:
        table = matrix([getattr(point.code, view) for point in points])
        found.append(_standard(table, train) if view == "size" else table)
    if costs:
        table = _standard(matrix([point.costs() for point in points]), len(points))  # with what no trial has
        found.append(_standard(table, train))
    sizes = np.array([[point.code.size["num_params"], point.code.size["macs"]] for point in points])
    return inputs(found, _standard(_standard(sizes, train).mean(axis=1, keepdims=True), train)[:, 0], train)


def _standard(table: Array, train: int) -> Array:
    spread = table[:train].std(axis=0)
    standard: Array = (table - table[:train].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    return standard
