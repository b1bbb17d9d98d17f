"""New candidates: drawn by the strategy or at random, recognised, and held against the limits that need no job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.samplers import BaseSampler

from nas.errors import NasError
from nas.net.graph import Graph
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.candidate import Candidate
from nas.search.ledger import Ledger
from nas.search.objectives import Metrics, broken
from nas.search.outlook import SPARED, Outlook
from nas.search.planner import Plan
from nas.search.study import UNFINISHED, Draft, Record
from nas.space.decide import Decisions

UNPRODUCTIVE = 300
"""Proposals in a row that lead to no training (duplicates, over a limit, dominated), after which the search ends."""


class Proposals:
    """Where candidates come from. What becomes nothing is recorded at once: impossible, a duplicate, over a limit, or surely
    dominated.

    ``random`` draws the share ``baseline`` of the candidates, which are trained whatever the ``outlook`` is: it is random search.
    Nothing is asked of the outlook before all workers have had work (``all_busy``): of a long run that is gone on with it has
    seconds to learn, in which they would wait.
    """

    def __init__(self, ledger: Ledger, sampler: BaseSampler, plan: Plan, *, seed: int, random: BaseSampler | None = None,
                 baseline: float = 0.0, outlook: Outlook | None = None) -> None:  # fmt: skip
        self.ledger, self.study, self.sampler, self.plan, self.seed = ledger, ledger.study, sampler, plan, seed
        self.random, self.baseline, self.outlook = random, baseline, outlook
        self.size, self.unproductive, self.all_busy = self.study.space.size(), 0, False
        records = self.study.records
        self.begun = self.drawn = 0
        for record in records:
            if record.state != "duplicate" and SPARED not in record.attrs:
                self._count(record.attrs)
        self.proposed = {_key(record.decisions) for record in records if not record.unfinished}
        if outlook:
            outlook.recall(records, lambda record: self.candidate(record).graph)

    @property
    def exhausted(self) -> bool:
        """Whether all architectures of the space have been proposed."""
        return len(self.proposed) >= self.size

    def nothing_left(self) -> str:
        """Why nothing more is to be proposed; empty while there may be something."""
        if self.exhausted:
            return f"the space is exhausted: all its {self.size} architectures have been proposed"
        if self.unproductive >= UNPRODUCTIVE:
            return f"ended early: the last {UNPRODUCTIVE} proposals were duplicates, over a limit or surely dominated"
        return ""

    def propose(self, open_now: Mapping[int, Candidate]) -> Candidate | None:
        """One proposal, to be begun with; None where it has come to nothing, or repeats one of those open now."""
        if self.random is not None and self.drawn < int((self.begun + 1) * self.baseline):
            return self._admit(self.study.draft(self.random), {"phase": "baseline"}, open_now)
        return self._admit(self.study.draft(self.sampler), {}, open_now)

    def again(self, record: Record, open_now: Mapping[int, Candidate]) -> Candidate | None:
        """A trial that a driver left in flight: evaluated once more under its number, failed the second time."""
        twin = self.study.find(record.identity)
        if twin is not None and twin is not record:
            self._repeat(record, twin, open_now)
            return None
        if record.attrs.get("retried"):
            self.ledger.meter.count()
            self.ledger.end(record, "failed", reason="interrupted twice", seconds=0.0)
            return None
        self.study.note(record.number, retried=True)
        return self.candidate(record)

    def candidate(self, record: Record) -> Candidate:
        """A stored trial as an earlier driver left it."""
        architecture, attrs = self.study.space.architecture(record.decisions), record.attrs
        return Candidate(record=record, architecture=architecture, graph=lower(architecture, self.plan.deploy),
                         metrics=dict(record.metrics), seconds=attrs.get("seconds", 0.0), work_s=attrs.get("work_s", 0.0))

    def _admit(self, draft: Draft, attrs: Mapping[str, Any], open_now: Mapping[int, Candidate]) -> Candidate | None:
        """The draft's candidate, unless it is impossible, known, or over a limit that is known without a job."""
        self.unproductive += 1
        self.proposed.add(_key(draft.architecture.decisions))
        try:
            graph = lower(draft.architecture, self.plan.deploy)
            if self.plan.proxy != self.plan.deploy:
                lower(draft.architecture, self.plan.proxy)
        except NasError as error:
            self.ledger.meter.count()
            self._count(attrs)
            self.ledger.note(self.study.add(draft, "failed", reason=str(error), attrs=attrs))
            return None
        name = identity(graph)
        if (twin := self.study.find(name)) is not None:
            if twin.state == "running":
                self._repeat(self.study.add(draft, identity=name, seed=self.seed, attrs=attrs), twin, open_now)
            else:
                self.ledger.note(self.study.add(draft, "duplicate", identity=name, seed=self.seed, duplicate_of=twin.number,
                                                attrs=attrs))  # fmt: skip
            return None
        static: dict[str, float] = {"num_params": graph.num_params, "macs": graph.macs}
        if reason := self.dominated(name, graph, static, attrs):
            self.ledger.note(self.study.add(draft, "stopped", identity=name, metrics=static, reason=reason,
                                            attrs={**attrs, SPARED: True, UNFINISHED: True}))  # fmt: skip
            return None
        self._count(attrs)
        over = self.outlook.over(graph) if self.outlook and self.all_busy else ""
        if reason := broken(self.study.constraints, static) or over:
            self.ledger.note(self.study.add(draft, "stopped", identity=name, metrics=static, reason=reason, attrs=attrs))
            return None
        self.unproductive = 0
        record = self.study.add(draft, identity=name, seed=self.seed, attrs=attrs)
        return Candidate(record=record, architecture=draft.architecture, graph=graph)

    def dominated(self, name: str, graph: Graph, metrics: Metrics, attrs: Mapping[str, Any]) -> str:
        """Why a network is not worth a training with what is known of it; empty where it is, and of the baseline."""
        if self.outlook is None or not self.all_busy or attrs.get("phase") == "baseline":
            return ""
        return self.outlook.dominated(name, graph, metrics, self.ledger.front.members)

    def spare(self) -> None:
        """One that had begun counts for nothing: it is surely dominated, as its measurement shows."""
        self.begun -= 1

    def _count(self, attrs: Mapping[str, Any]) -> None:
        self.begun += 1
        self.drawn += attrs.get("phase") == "baseline"

    def _repeat(self, record: Record, twin: Record, open_now: Mapping[int, Candidate]) -> None:
        """Link a stored duplicate with its original, now or when that has ended."""
        if twin.number in open_now:
            open_now[twin.number].followers.append(record)
        else:
            self.ledger.repeat(record, twin)


def _key(decisions: Decisions) -> int:
    """Different ones hash alike too seldom to matter, and the decisions of 100,000 proposals take half a gigabyte."""
    return hash(frozenset(decisions.items()))
