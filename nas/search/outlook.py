"""What a search spares: candidates that are surely over a limit on latency, or surely dominated by one that is trained.

A metric that is not known yet is taken at its best that is still believed: the low end of the latency's interval
(:mod:`nas.measure.foresight`) and the high end of the accuracy's, which is learnt in the same way, from the networks that the
search has trained. Products of metrics get better with each of their metrics, so this is each objective's best. Where even
that is dominated by a member of the front, neither a measurement nor a training could bring the candidate there, with
that confidence. One in :data:`nas.measure.foresight.AUDIT` is tried all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nas.measure.foresight import AUDIT, CONFIDENCE, HISTORY, Foresight, Learner
from nas.net.graph import Graph
from nas.search.objectives import Constraint, Metrics, Objective, dominates
from nas.search.study import Record

SPARED = "spared"
"""Attribute of a stopped trial that is surely dominated. It counts for nothing: the baseline's share is one of the others, and
may draw, and train, the same network."""

LEAST_ERROR = 1e-3
"""An accuracy above one less this counts as perfect: what is learnt from is the share of wrong answers, which is more than 0."""


class Outlook:
    """Learns from one search's measurements and trainings what its next candidates can become.

    ``plain``: what is dominated is trained all the same. So it is in random search, to compare with, and where there is one
    objective: nearly everything is dominated then, a strategy learns from nothing else, and searches ended early with less
    (results/benchmarks/dominated.csv).
    """

    def __init__(self, objectives: Sequence[Objective], constraints: Sequence[Constraint], latency: Foresight | None, *,
                 plain: bool = False) -> None:  # fmt: skip
        self.objectives, self.latency, self.plain = tuple(objectives), latency, plain or len(objectives) < 2
        self._metrics = {name for objective in objectives for name in objective.metrics}
        self._limits = [c.limit for c in constraints if c.metric == "latency" and c.op == "<="]
        self._errors = Learner()
        self._spared, self._audited = 0, set[str]()

    def recall(self, records: Sequence[Record], graph_of: Callable[[Record], Graph]) -> None:
        """Learn from the newest trials of an earlier driver."""
        known = [r for r in records if r.duplicate_of is None and ("latency" in r.metrics or r.state == "completed")]
        for record in known[-HISTORY:]:
            graph = graph_of(record)
            self.measured(graph, record.metrics)
            if record.state == "completed":
                self.trained(graph, record.metrics)

    def measured(self, graph: Graph, metrics: Metrics) -> None:
        """Learn from a measurement."""
        if self.latency and "latency" in metrics:
            self.latency.add(graph, metrics["latency"])

    def trained(self, graph: Graph, metrics: Metrics) -> None:
        """Learn from a training to the end."""
        if "accuracy" in self._metrics:
            self._errors.add(graph, max(1 - metrics["accuracy"], LEAST_ERROR))

    def over(self, graph: Graph) -> str:
        """Why the network need not be measured: it is surely over a limit. Empty: it may be within."""
        if self.latency is None or not self._limits:
            return ""
        return self.latency.surely_over(graph, min(self._limits)) or ""

    def dominated(self, identity: str, graph: Graph, metrics: Metrics, front: Iterable[Record]) -> str:
        """Why the network need not be tried: with what is known of it (``metrics``), some member of the front surely
        dominates it. Empty: it may come to the front, or too little is known, or it is one of those that are tried anyway."""
        if self.plain or identity in self._audited or (best := self._at_best(graph, metrics)) is None:
            return ""
        member = next((m for m in front if dominates(m.metrics, best, self.objectives)), None)
        if member is None:
            return ""
        self._spared += 1
        if self._spared % AUDIT == 0:
            self._audited.add(identity)
            return ""
        told = {"accuracy": "an accuracy of at most {:.2%}", "latency": "a latency of at least {:.4g} ms"}
        words = [text.format(best[name]) for name, text in told.items() if name in best.keys() - metrics.keys()]
        foreseen = f": it has {' and '.join(words)} with {CONFIDENCE:.0%} confidence" if words else ""
        return f"trial {member.number} dominates it{foreseen}"

    def _at_best(self, graph: Graph, metrics: Metrics) -> dict[str, float] | None:
        """The metrics that objectives are made of, those not known yet at their best; None where nothing is foreseen of one."""
        best = {name: metrics[name] for name in self._metrics if name in metrics}
        missing = self._metrics - best.keys()
        if missing - {"accuracy", "latency"}:
            return None
        if "accuracy" in missing:
            if (error := self._errors.interval(graph)) is None:
                return None
            best["accuracy"] = 1 - error[0] if error[0] > LEAST_ERROR else 1.0
        if "latency" in missing:
            if self.latency is None or (latency := self.latency.interval(graph)) is None:
                return None
            best["latency"] = latency[0]
        return best
