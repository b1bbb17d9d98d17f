"""The search loop: propose, recognise, measure, train, listen, record. The only writer of the study."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.samplers import BaseSampler

from nas.errors import NasError
from nas.measure.foresight import HISTORY, Foresight
from nas.net.graph import Graph
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.candidate import Candidate, Stage, Status, View
from nas.search.executors.base import Event, Executor, Failed, FailureKind, Finished, Job, Progress, Started
from nas.search.garbage import rare_collections
from nas.search.halving import Halving, hopeless, learnt
from nas.search.interrupt import on_interrupt
from nas.search.ledger import Ledger
from nas.search.planner import Plan
from nas.search.shares import Shares
from nas.search.study import UNFINISHED, Draft, Record, State
from nas.space.decide import Decisions
from nas.space.unparse import to_page

UNPRODUCTIVE = 300
"""Proposals in a row that lead to no training (duplicates, over a limit), or candidates in a row that fail or turn out
to be over a limit, after which the search ends."""

REFUSED = 10
"""Measurements in a row that were refused, after which the search ends: the device is too busy."""

PROPOSALS_A_TURN = 20
"""Proposals made before the loop looks at its workers again."""

SHOW_EVERY_S = 0.1
"""Seconds between two looks of the view at least: what it is shown holds every worker."""

FORESEEN = 3
"""Completed candidates from which on it is told how many there will be."""

RETRIES: Mapping[FailureKind, int] = {"died": 1, "lost": 10}
"""How often a candidate is tried again whose process died (by its own doing or not: the second time tells), or whose machine was
lost, which is hardly its doing."""

HANG_S, HANG_EPOCHS = 600.0, 60
"""A candidate that says nothing for this long, and for this many times the planned epoch, counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a search does beside its strategy. ``random`` draws the baseline; ``timeout``: see :data:`HANG_S`; ``foresight``
    spares measurements of what is surely over a limit."""

    shares: Shares = field(default_factory=Shares)
    random: BaseSampler | None = None
    halving: Halving | None = None
    timeout: float | None = None
    foresight: Foresight | None = None


class SearchLoop:
    """Runs one search to its end. Everything it needs is made by :mod:`nas.search.start`.

    ``executor`` trains; ``measurer`` measures, and is the same one where latency is measured on the training devices.
    """

    def __init__(self, *, ledger: Ledger, sampler: BaseSampler, executor: Executor, plan: Plan, payload: Mapping[str, Any],
                 view: View, measurer: Executor | None = None, rules: Rules | None = None) -> None:  # fmt: skip
        self.ledger, self.study, self.meter, self.folder = ledger, ledger.study, ledger.meter, ledger.folder
        self.sampler, self.executor, self.measurer, self.largest = sampler, executor, measurer or executor, executor.largest
        self.plan, self.payload, self.view, self.rules = plan, payload, view, rules or Rules()
        self.halving = self.rules.halving
        self.timeout = self.rules.timeout or max(HANG_S, HANG_EPOCHS * plan.epoch_s)
        self.open: dict[int, Candidate] = {}
        self.running: dict[int, Candidate] = {}
        self.ready: deque[Candidate] = deque()
        self.again: deque[Candidate] = deque()
        self.durations: deque[float] = deque(maxlen=30)
        self.size, self.proposed = self.study.space.size(), set[int]()
        self.begun = self.unproductive = self.fruitless = self.refused = 0
        self.message = self.doing = self.detail = ""
        self.interrupted = False
        self._shown = -math.inf
        for record in self.study.records:
            self.begun += record.state != "duplicate"
            if not record.unfinished:
                self.proposed.add(_key(record.decisions))
            if record.state == "completed" and self.halving is None:
                self.durations.append(record.attrs.get("work_s", record.attrs["seconds"]))
            self._recall(record)
        if self.rules.foresight:
            for record in [r for r in self.study.records if "latency" in r.metrics and r.duplicate_of is None][-HISTORY:]:
                self.rules.foresight.add(self._candidate(record).graph, record.metrics["latency"])
        self.retry = [n for n in self.study.left_running if n not in self.open]

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Search until the search's share of the budget is spent, the space is exhausted, or Ctrl-C.

        The executors live on, unless the search was interrupted or an error ended it.
        """
        self.ledger.save()  # planning was spent already
        ended = False
        try:
            with rare_collections(), on_interrupt(self.interrupt):
                while not self._ended():
                    self._listen(0.0 if self._start_jobs() else 0.2)
            ended = not self.interrupted
        finally:
            if not ended:
                for event in self.close():
                    self._handle(event)
            for candidate in list(self.open.values()):
                if ended:
                    self._give_up(candidate)  # otherwise they stay open, and are gone on with from their checkpoints
                elif self.interrupted and "retried" in candidate.record.attrs:
                    self.study.note(candidate.number, retried=False)  # it did nothing to be failed for the next time
            self.ledger.save()
        self.view(self.status())

    def close(self) -> list[Event]:
        """End all workers."""
        events = self.executor.close(grace=0.0)
        return events if self.measurer is self.executor else [*events, *self.measurer.close(grace=0.0)]

    def interrupt(self) -> None:
        """End soon, and keep everything."""
        self.interrupted = True

    def _ended(self) -> bool:
        if self.interrupted:
            left = f", {len(self.running)} in flight can be gone on with" if self.running else ""
            self.message = f"interrupted: every finished candidate is saved{left}"
            return True
        if self.message:
            for trial in self.running:
                self.executor.stop(trial)
                self.measurer.stop(trial)
            return not self.running
        if part := self.meter.exhausted(self.share):
            self.message = f"the {'search share of the ' if self.share < 1 else ''}budget of {part} is spent"
        elif not self.running and not self.ready and not self.again:
            promotable = self.halving is not None and self.halving.promotable() is not None
            if not self.retry and not promotable and self._nothing_left():
                self.message = self._nothing_left()
            elif not self._can_start(new=not promotable):
                self.message = "the budget has no room for another candidate"
        return bool(self.message) and not self.running

    def _nothing_left(self) -> str:
        """Why nothing more is to be proposed; empty while there may be something."""
        if len(self.proposed) >= self.size:
            return f"the space is exhausted: all its {self.size} architectures have been proposed"
        if self.unproductive >= UNPRODUCTIVE:
            return f"ended early: the last {UNPRODUCTIVE} proposals were duplicates or over a limit"
        if self.fruitless >= UNPRODUCTIVE:
            return f"ended early: the last {UNPRODUCTIVE} candidates failed or were over a limit"
        if self.refused >= REFUSED:
            return (f"ended early: the last {REFUSED} measurements were refused; go on with `nas resume` when "
                    f"{self.payload['measure']['target']} is less busy")  # fmt: skip
        return ""

    def _can_start(self, *, new: bool = True) -> bool:
        """Whether the budget has room for a new candidate, or for one of those begun to go on."""
        others = len(self.open) - (not new)
        return self.meter.can_start(self.expected_s, self.largest.kind, self.largest.fraction, share=self.share,
                                    open_trials=others)  # fmt: skip

    @property
    def share(self) -> float:
        """The search's share of the budget; all of it while nothing is on the front that the rest could be spent on."""
        return self.rules.shares.search if self.ledger.front.members else 1.0

    @property
    def expected_s(self) -> float:
        """Seconds that a candidate takes until it has ended or waits: the median of the latest, or the plan's estimate. Without
        the start of a worker, which is spent all the same, but by the first candidates alone."""
        if self.durations:
            return statistics.median(self.durations)
        return self.plan.epoch_s * (self.halving.first() if self.halving else self.plan.recipe.epochs)

    # -- proposals ---------------------------------------------------------------------------------------------------

    def _start_jobs(self) -> bool:
        """Fill free slots: candidates that are measured first, then promoted ones, then new ones; whether there may be more."""
        for _ in range(PROPOSALS_A_TURN):
            if self.message or self.interrupted:
                return False
            if self.ready and self.executor.free:
                self._submit(self.ready.popleft(), "train")
            elif not self._room():
                return False
            elif self.again:
                self._begin(self.again.popleft())
            elif self.halving and self._can_start(new=False) and (number := self.halving.promote()) is not None:
                self.open[number].waits = False
                self.ready.append(self.open[number])
            elif not self._can_start():
                return False
            elif self.retry:
                self._try_again(self.study.records[self.retry.pop(0)])
            elif self._nothing_left():
                return False
            else:
                self._propose()
        return True

    def _room(self) -> bool:
        """Whether a new candidate can begin, without too many waiting for a training slot."""
        if self.measurer is self.executor or not self.payload["measure"]:
            return self.executor.free > 0
        return self.measurer.free > 0 and len(self.ready) < len(self.executor.resources)

    def _propose(self) -> None:
        """One proposal: of the strategy, or of random search for the baseline's share."""
        share = self.rules.shares.baseline
        baseline = self.rules.random is not None and int((self.begun + 1) * share) > int(self.begun * share)
        if baseline and self.rules.random is not None:
            self._admit(self.study.draft(self.rules.random), {"phase": "baseline"})
        else:
            self._admit(self.study.draft(self.sampler), {})

    def _try_again(self, record: Record) -> None:
        """A trial that a killed driver left running: evaluated once more under its number, failed the second time."""
        twin = self.study.find(record.identity)
        if twin is not None and twin is not record:
            return self._repeat(record, twin)
        if record.attrs.get("retried"):
            self.meter.count()
            return self.ledger.end(record, "failed", reason="interrupted twice", seconds=0.0)
        self.study.note(record.number, retried=True)
        return self._begin(self._candidate(record))

    def _candidate(self, record: Record) -> Candidate:
        architecture = self.study.space.architecture(record.decisions)
        return Candidate(record=record, architecture=architecture, graph=lower(architecture, self.plan.deploy))

    def _admit(self, draft: Draft, attrs: Mapping[str, Any]) -> None:
        """Begin with a proposal, unless it is impossible, known, or over a limit that is known without a job."""
        self.unproductive += 1
        self.proposed.add(_key(draft.architecture.decisions))
        try:
            graph = lower(draft.architecture, self.plan.deploy)
            if self.plan.proxy != self.plan.deploy:
                lower(draft.architecture, self.plan.proxy)
        except NasError as error:
            self.meter.count()
            self.begun += 1
            return self.ledger.note(self.study.add(draft, "failed", reason=str(error), attrs=attrs))
        name, seed = identity(graph), self.payload["seed"]
        if (twin := self.study.find(name)) is not None:
            if twin.state == "running":
                return self._repeat(self.study.add(draft, identity=name, seed=seed, attrs=attrs), twin)
            known = self.study.add(draft, "duplicate", identity=name, seed=seed, duplicate_of=twin.number, attrs=attrs)
            return self.ledger.note(known)
        self.begun += 1
        static: dict[str, float] = {"num_params": graph.num_params, "macs": graph.macs}
        if broken := self._broken(static) or self._foreseen(graph):
            over = self.study.add(draft, "stopped", identity=name, metrics=static, reason=broken, attrs=attrs)
            return self.ledger.note(over)
        self.unproductive = 0
        record = self.study.add(draft, identity=name, seed=seed, attrs=attrs)
        self._begin(Candidate(record=record, architecture=draft.architecture, graph=graph))

    def _broken(self, metrics: Mapping[str, float]) -> str:
        """The first limit that the metrics known so far break, as a sentence."""
        for limit in self.study.constraints:
            if limit.metric in metrics and limit.violation(metrics) > 0:
                return f"{limit.metric} {metrics[limit.metric]:,.6g} breaks {limit}"
        return ""

    def _foreseen(self, graph: Graph) -> str:
        """Why it is not worth a measurement: it is surely over a limit on latency, by what was measured before."""
        limits = [c.limit for c in self.study.constraints if c.metric == "latency" and c.op == "<="]
        if self.rules.foresight is None or not limits:
            return ""
        return self.rules.foresight.surely_over(graph, min(limits)) or ""

    # -- jobs --------------------------------------------------------------------------------------------------------

    def _begin(self, candidate: Candidate) -> None:
        candidate.metrics = {"num_params": candidate.graph.num_params, "macs": candidate.graph.macs}
        self.open[candidate.number] = candidate
        if self.payload["measure"]:
            self._submit(candidate, "measure")
        else:
            self._submit(candidate, "train")

    def _submit(self, candidate: Candidate, stage: Stage) -> None:
        number = candidate.number
        until = self.plan.recipe.epochs if self.halving is None else self.halving.after(candidate.trained)
        executor = self.measurer if stage == "measure" else self.executor
        weights, checkpoint = str(self.folder.weights_of(number)), str(self.folder.checkpoint_of(number))
        slot = executor.submit(Job(trial=number, timeout=self.timeout, files=(weights, checkpoint), payload={
            **self.payload, "page": to_page(candidate.architecture.spec), "weights": weights, "checkpoint": checkpoint,
            "stage": {"do": stage, "epochs": until},
        }))  # fmt: skip
        held = executor.resources[slot]
        if stage == "train" and held.kind == self.largest.kind and held.fraction > self.largest.fraction:
            self.largest = held
        self.meter.begin(number, held.kind, held.fraction, expected=max(0.0, self.expected_s - candidate.work_s))
        candidate.stage, candidate.phase, candidate.since = stage, "starting", self.meter.now()
        self.running[number] = candidate

    def _listen(self, seconds: float) -> None:
        events = self.executor.poll(seconds)
        if self.measurer is not self.executor:
            events += self.measurer.poll(0.0 if events else seconds / 4)
        for event in events:
            self._handle(event)
        self.ledger.save_often()
        if self.meter.now() - self._shown >= SHOW_EVERY_S:
            self._shown = self.meter.now()
            self.view(self.status())

    def _handle(self, event: Event) -> None:
        candidate = self.running.get(event.trial)
        if candidate is None:
            return
        match event:
            case Started():
                measuring = candidate.stage == "measure"
                candidate.phase = "measuring" if measuring else "training"
                candidate.device = (self.measurer if measuring else self.executor).resources[event.slot].device
            case Progress(values=values):
                candidate.epoch = values.get("epoch", candidate.epoch)
                candidate.metrics |= values.get("metrics", {})
            case Finished():
                candidate.work_s += event.seconds
                self._release(candidate)
                self._advance(candidate, dict(event.result))
            case Failed(kind="killed"):  # by the executor's end, the only one who kills: it stays open
                self._release(candidate)
            case Failed(kind=kind) if candidate.lost[kind] < RETRIES.get(kind, 0):
                self._release(candidate)
                self.ledger.log.warning("trial %d: %s; it is tried once more", event.trial, event.reason)
                candidate.lost[kind] += 1
                self.again.append(candidate)  # when there is a slot: its own may have gone with its machine
            case Failed():
                self._release(candidate)
                if event.detail:
                    self.ledger.log.error("trial %d: %s\n%s", event.trial, event.reason, event.detail)
                self._end(candidate, "failed", reason=f"{event.kind}: {event.reason}")

    def _release(self, candidate: Candidate) -> None:
        """The candidate's job is over."""
        del self.running[candidate.number]
        self.meter.end(candidate.number)
        candidate.seconds += self.meter.now() - candidate.since
        candidate.phase = "waiting"

    def _advance(self, candidate: Candidate, result: dict[str, Any]) -> None:
        """What a finished job leads to: the next one, a pause, or the candidate's end."""
        stopped, refused = result.pop("stopped", False), result.pop("refused", None)
        candidate.metrics |= result.pop("metrics", {})
        candidate.details |= result
        if refused:
            self.refused += 1
            return self._end(candidate, "stopped", reason=f"not measured: {refused}", unfinished=True)
        if stopped:
            return self._give_up(candidate)
        if candidate.stage == "measure":
            return self._measured(candidate)
        if "accuracy" not in candidate.metrics:
            return self._end(candidate, "failed", reason="its training told no accuracy")
        candidate.trained = result["epochs"]
        if candidate.trained >= self.plan.recipe.epochs or self.halving is None:
            return self._end(candidate, "completed")
        self._pause(candidate, self.halving)

    def _measured(self, candidate: Candidate) -> None:
        """Everything that needs no training is known: limits are kept before any epoch is paid for."""
        self.refused = 0
        if self.rules.foresight and "latency" in candidate.metrics:
            self.rules.foresight.add(candidate.graph, candidate.metrics["latency"])
        if broken := self._broken(candidate.metrics):
            return self._end(candidate, "stopped", reason=broken)
        if self.halving and hopeless(candidate.metrics, [m.metrics for m in self.ledger.front.members], self.study.objectives):
            return self._end(candidate, "stopped", reason="a perfect accuracy would not bring it to the front")
        # Strategies learn from it while it is trained.
        self.study.note(candidate.number, known=dict(candidate.metrics), **candidate.details)
        self.ready.append(candidate)

    def _pause(self, candidate: Candidate, halving: Halving) -> None:
        """At a rung: wait for a promotion, which may come at once."""
        judged = {**candidate.metrics, "accuracy": learnt(candidate.details["train_loss"])}
        rungs = {**candidate.record.attrs.get("rungs", {}), str(candidate.trained): judged["accuracy"]}
        self.study.note(candidate.number, rungs=rungs, known=dict(candidate.metrics), seconds=round(candidate.seconds, 3),
                        work_s=round(candidate.work_s, 3))  # fmt: skip
        if len(rungs) == 1:
            self.durations.append(candidate.work_s)
        candidate.waits = True
        halving.saw(candidate.number, candidate.trained, judged, waits=True)
        for number in halving.given_up():
            self._give_up(self.open[number])

    def _recall(self, record: Record) -> None:
        """What a rung knew of a trial of an earlier driver; one that was still open waits there again."""
        if self.halving is None or not (rungs := record.attrs.get("rungs")):
            return
        known = record.attrs["known"]
        last = max(rungs, key=int)
        for epochs, judged in rungs.items():
            waits = record.state == "running" and epochs == last
            self.halving.saw(record.number, int(epochs), {**known, "accuracy": judged}, waits=waits)
        if record.state == "running":
            candidate = self._candidate(record)
            candidate.trained, candidate.metrics, candidate.waits = int(last), dict(known), True
            candidate.seconds = record.attrs.get("seconds", 0.0)
            candidate.work_s = record.attrs.get("work_s", candidate.seconds)
            self.open[record.number] = candidate
            if not self.halving.compares(candidate.trained):  # the rungs were others then: it goes on to the next
                candidate.waits = False
                self.ready.append(candidate)

    # -- records -----------------------------------------------------------------------------------------------------

    def _give_up(self, candidate: Candidate) -> None:
        """Not finished and not to be: not promoted, or the search has ended."""
        if candidate.waits:
            reason = f"not promoted after {candidate.trained} epoch{'s' * (candidate.trained > 1)}"
            return self._end(candidate, "stopped", reason=reason)
        self._end(candidate, "stopped", reason=self.message or "the search ended", unfinished=True)

    def _end(self, candidate: Candidate, state: State, *, reason: str | None = None, unfinished: bool = False) -> None:
        """A candidate is over: count it, record it, and give its result to those that waited for it."""
        number = candidate.number
        del self.open[number]
        if self.halving:
            self.halving.leave(number)
        if state in {"completed", "failed"} or (candidate.waits and not unfinished):
            self.meter.count()
        marks = {"device": candidate.device or None, "work_s": round(candidate.work_s, 3) or None,
                 UNFINISHED: True if unfinished else None}  # fmt: skip
        details = {**candidate.details, **{key: value for key, value in marks.items() if value is not None}}
        self.ledger.end(candidate.record, state, seconds=candidate.seconds, reason=reason, metrics=candidate.metrics,
                        details=details)  # fmt: skip
        if state == "completed" and self.halving is None:
            self.durations.append(candidate.work_s)
        self.fruitless = 0 if candidate.record.state == "completed" or candidate.waits else self.fruitless + 1
        self.folder.drop_checkpoint(number)
        if candidate.record.state != "completed":
            self.folder.drop_weights(number)
        for follower in candidate.followers:
            self._repeat(follower, candidate.record)

    def _repeat(self, record: Record, twin: Record) -> None:
        """Link a stored duplicate with its original, now or when that has ended; it costs nothing and counts as nothing."""
        if twin.number in self.open:
            self.open[twin.number].followers.append(record)
        else:
            self.ledger.note(self.study.tell(record.number, "duplicate", duplicate_of=twin.number))

    def tell(self, doing: str, detail: str = "") -> None:
        """Show what is being done after the search, and how far the jobs in flight are."""
        self.doing, self.detail = doing, detail
        self.view(self.status())

    def status(self) -> Status:
        """What a view shows now."""
        return Status(
            elapsed_s=self.meter.spent("wall"), budget=self.meter.rows(), counts=dict(self.ledger.counts),
            running=tuple(self.running.values()), front=self.ledger.front.members, best=self.ledger.front.best,
            epochs=self.plan.recipe.epochs, message=self.doing or self.message, detail=self.detail,
            expected=self._expected, waiting=sum(c.waits for c in self.open.values()),
        )  # fmt: skip

    @property
    def _expected(self) -> int | None:
        completed, used = self.ledger.counts["completed"], self.meter.used(self.share)
        return round(completed / used) if completed >= FORESEEN and 0 < used < 1 else None


def _key(decisions: Decisions) -> int:
    """Different ones hash alike too seldom to matter, and the decisions of 100,000 proposals take half a gigabyte."""
    return hash(frozenset(decisions.items()))
