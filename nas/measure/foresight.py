"""What a search knows of latency before it measures: learnt from its own measurements, with an interval to be trusted.

:mod:`nas.measure.predictor` on :mod:`nas.measure.features`, refitted as measurements come in, ever more rarely. It only
ever saves a measurement: a candidate that is surely over a limit is not measured. What a search shows in the end was measured.

With a latency table (:mod:`nas.measure.table`) it begins before the search has measured anything: learnt is by what factor a
network is off the sum over its operations, from the networks that the table holds whole, and then from the search's own, as soon
as these are enough. The two are not mixed: machines differ from hour to hour, and of both together 96 % kept a bound of 99 %.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from scipy.special import stdtrit

from nas.measure.features import as_table, features_of
from nas.measure.predictor import LatencyPredictor
from nas.measure.table import Sums
from nas.net.graph import Graph

CONFIDENCE = 0.99
"""Of a bound: the share of measurements that keep it."""

FIRST, EVERY = (20, 40, 80), 50
"""Fitted at so many measurements, and then after every so many more, later after every quarter more."""

HISTORY = 300
"""The newest measurements are learnt from: a fit of 300 takes 0.5 s, and a search's newest are the most like its next."""

AUDIT = 20
"""One in so many that would be skipped is measured all the same, lest a wrong belief were never put right."""


class Learner:
    """Positive figures of networks, learnt from the networks' sizes.

    ``about`` says of each network what its figure would be if nothing were learnt, and what is learnt is by what factor it
    is off; all or none have it.
    """

    def __init__(self) -> None:
        self._rows = deque[dict[str, float]](maxlen=HISTORY)
        self._factors = deque[float](maxlen=HISTORY)
        self._told = self.fitted = 0
        self._names: tuple[str, ...] = ()
        self._predictor: LatencyPredictor | None = None

    def __len__(self) -> int:
        return self._told

    def add(self, graph: Graph, figure: float, about: float = 1.0) -> None:
        """Tell a figure."""
        self._rows.append(features_of(graph))
        self._factors.append(figure / about)
        self._told += 1

    def interval(self, graph: Graph, about: float = 1.0) -> tuple[float, float, float] | None:
        """(low, median, high) of its figure, which keeps each of the two bounds with the confidence; None while too little
        is known.

        Takes a few milliseconds, and a part of a second where it refits.
        """
        self._refit()
        if self._predictor is None:
            return None
        features = features_of(graph)
        if any(value and name not in self._names for name, value in features.items()):
            return None  # it has something in it that no known network had
        row, _ = as_table([features], self._names)
        median, low, high = (float(part[0]) * about for part in self._predictor.bounds(row, CONFIDENCE))
        widen = self._widening()
        return median - widen * (median - low), median, median + widen * (high - median)

    def _widening(self) -> float:
        """Fewer figures than 1 / (1 - confidence) back less than the confidence: their largest error is stretched.

        As that of Student's t, with a degree of freedom for every four figures: with a normal one's, 20
        measurements of a made-up machine held 97 % where 99 % were promised.
        """
        used = min(self.fitted, HISTORY)
        backed = min(CONFIDENCE, used / (used + 1))
        wanted, found = stdtrit(max(2.0, used / 4), [CONFIDENCE, backed])
        return float(wanted / found)

    def _refit(self) -> None:
        if len(self) < (FIRST[0] if self._predictor is None else next_fit(self.fitted)):
            return
        features, self._names = as_table(self._rows)
        self._predictor = LatencyPredictor.fit(features, np.array(self._factors))
        self.fitted = len(self)


class Foresight:
    """Latencies of a search's networks, foreseen; ``sums``: a table's, in the unit of the search's measurements."""

    def __init__(self, sums: Sums | None = None) -> None:
        self._sums, self._skipped = sums, 0
        self._sizes, self._factors, self._before = Learner(), Learner(), Learner()
        for graph, latency_ms in sums.whole if sums else ():
            self._learn_factor(self._before, graph, latency_ms)

    @property
    def measurements(self) -> int:
        """How many were told."""
        return len(self._sizes)

    def add(self, graph: Graph, latency_ms: float) -> None:
        """Tell a measurement."""
        self._sizes.add(graph, latency_ms)
        self._learn_factor(self._factors, graph, latency_ms)

    def _learn_factor(self, learner: Learner, graph: Graph, latency_ms: float) -> None:
        if self._sums and (total := self._sums.of(graph)) is not None:
            learner.add(graph, latency_ms, total)

    def interval(self, graph: Graph) -> tuple[float, float, float] | None:
        """Milliseconds (low, median, high) of a measurement of it, which keeps each of the two bounds with the confidence; None
        while too little is known.

        By the table where it has all that the network does, else by the measurements alone.
        """
        return self._told(graph)[0]

    def _told(self, graph: Graph) -> tuple[tuple[float, float, float] | None, str]:
        """The interval, and from what."""
        total = self._sums.of(graph) if self._sums else None
        if total is None:
            return self._sizes.interval(graph), f"{self._sizes.fitted} measurements"
        if len(self._factors) < FIRST[0]:
            return self._before.interval(graph, total), f"a latency table and its {self._before.fitted} whole networks"
        return self._factors.interval(graph, total), f"a latency table and {self._factors.fitted} measurements"

    def surely_over(self, graph: Graph, limit_ms: float) -> str | None:
        """Why the network need not be measured: its latency is over the limit with that confidence. None: measure it."""
        found, source = self._told(graph)
        if found is None or found[0] <= limit_ms:
            return None
        self._skipped += 1
        if self._skipped % AUDIT == 0:
            return None
        return (f"latency is foreseen as {found[1]:.4g} ms (at least {found[0]:.4g} ms with {CONFIDENCE:.0%} confidence, "
                f"from {source}), over {limit_ms:.4g} ms")  # fmt: skip


def next_fit(fitted: int) -> int:
    """How many measurements the next fit waits for."""
    return next((count for count in FIRST if count > fitted), 0) or fitted + max(EVERY, fitted // 4)
