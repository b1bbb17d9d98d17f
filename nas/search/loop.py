"""The search loop: it proposes, has measured and trained, decides what goes on, and records. The only writer of the study."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from optuna.samplers import BaseSampler

from nas.errors import NasError
from nas.search.bench import Bench
from nas.search.candidate import Candidate, Stage, Status, View
from nas.search.executors.base import Executor, Failed, Finished
from nas.search.garbage import rare_collections
from nas.search.halving import Halving, learnt
from nas.search.interrupt import on_interrupt
from nas.search.jobs import Jobs
from nas.search.ledger import Ledger
from nas.search.objectives import broken
from nas.search.outlook import SPARED, Outlook
from nas.search.planner import Plan
from nas.search.proposals import Proposals
from nas.search.shares import Shares
from nas.search.study import UNFINISHED, Record, State

FRUITLESS = 300
"""Candidates in a row that fail or turn out to be over a limit, after which the search ends."""

REFUSED = 10
"""Measurements in a row that were refused, after which the search ends: the device is too busy."""

PROPOSALS_A_TURN = 20
"""Proposals made before the loop looks at its workers again."""

SHOW_EVERY_S = 0.1
"""Seconds between two looks of the view at least: what it is shown holds every worker."""

FORESEEN = 3
"""Completed candidates from which on it is told how many there will be."""

HANG_S, HANG_EPOCHS = 600.0, 60
"""A candidate that says nothing for this long, and for this many times the planned epoch, counts as hung."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a search does beside its strategy. ``random`` draws the baseline; ``timeout``: see :data:`HANG_S`; ``outlook``
    spares what is surely over a limit or dominated."""

    shares: Shares = field(default_factory=Shares)
    random: BaseSampler | None = None
    halving: Halving | None = None
    timeout: float | None = None
    outlook: Outlook | None = None


class SearchLoop:
    """Runs one search to its end. Everything it needs is made by :mod:`nas.search.start`.

    ``executor`` trains; ``measurer`` measures, and is the same one where latency is measured on the training devices. A
    candidate is ``open`` from its proposal to its end; those that are ``ready`` wait for a slot to be trained in. ``model``: see
    :class:`~.bench.Bench`.
    """

    def __init__(self, *, ledger: Ledger, sampler: BaseSampler, executor: Executor, plan: Plan, payload: Mapping[str, Any],
                 view: View, measurer: Executor | None = None, rules: Rules | None = None, model: str = "") -> None:  # fmt: skip
        self.ledger, self.study, self.meter, self.folder = ledger, ledger.study, ledger.meter, ledger.folder
        self.executor, self.measurer = executor, measurer or executor
        self.plan, self.payload, self.view, self.rules = plan, payload, view, rules or Rules()
        self.halving, self.outlook = self.rules.halving, self.rules.outlook
        self.timeout = self.rules.timeout or max(HANG_S, HANG_EPOCHS * plan.epoch_s)
        self.proposals = Proposals(ledger, sampler, plan, seed=payload["seed"], random=self.rules.random,
                                   baseline=self.rules.shares.baseline, outlook=self.outlook)  # fmt: skip
        self.bench = Bench(self.measurer, executor, self.study, self.meter, payload["measure"], model=model)
        self.jobs = Jobs(executor, self.bench, meter=self.meter, folder=self.folder, payload=payload, timeout=self.timeout,
                         log=ledger.log)  # fmt: skip
        self.open: dict[int, Candidate] = {}
        self.ready: deque[Candidate] = deque()
        self.durations: deque[float] = deque(maxlen=30)
        self.fruitless = self.refused = 0
        self.message = self.doing = self.detail = self.refusal = ""
        self.interrupted = False
        self._shown = -math.inf
        for record in self.study.records:
            if record.state == "completed" and self.halving is None:
                self.durations.append(record.attrs.get("work_s", record.attrs["seconds"]))
            self._recall(record)
        self.retry = [n for n in self.study.left_running if n not in self.open]

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Search until the search's share of the budget is spent, the space is exhausted, or Ctrl-C.

        The executors live on, unless the search was interrupted or an error ended it.
        """
        self.ledger.save()  # planning was spent already
        try:
            with rare_collections(), on_interrupt(self.interrupt):
                while not self._ended():
                    self._listen(0.0 if self._start_jobs() else 0.2)
        except BaseException:
            with suppress(NasError):  # where nothing can be stored any more, the first error has told that
                self._abandon()
                self.ledger.save()
            raise
        if self.interrupted:
            self._abandon()
        else:
            self._give_up_all()
        self.ledger.save()
        self.view(self.status())

    def close(self) -> None:
        """End all workers."""
        for candidate, end in self.jobs.close():
            self._hear(candidate, end)

    def interrupt(self) -> None:
        """End soon, and keep everything."""
        self.interrupted = True

    def _ended(self) -> bool:
        if self.interrupted:
            left = f", {len(self.jobs.running)} in flight can be gone on with" if self.jobs.running else ""
            self.message = f"interrupted: every finished candidate is saved{left}"
            return True
        if self.message:
            self.jobs.stop()
            return not self.jobs.running
        if part := self.meter.exhausted(self.share):
            self.message = f"the {'search share of the ' if self.share < 1 else ''}budget of {part} is spent"
        elif not self.jobs.running and not self.ready and not self.jobs.again:
            if not self.retry and not self._promotable() and self._nothing_left():
                self.message = self._nothing_left()
            elif not self._can_start(new=not self._promotable()):
                self.message = "the budget has no room for another candidate"
        if not (self.message or self.jobs.running or self.ready):
            self.bench.insist()
        return bool(self.message) and not self.jobs.running

    def _nothing_left(self) -> str:
        """Why nothing more is to be proposed; empty while there may be something."""
        if reason := self.proposals.nothing_left():
            return reason
        if self.fruitless >= FRUITLESS:
            return f"ended early: the last {FRUITLESS} candidates failed or were over a limit"
        if self.refused >= REFUSED:
            return f"ended early: the last {REFUSED} measurements were refused ({self.refusal}); `nas resume` goes on"
        return ""

    def _promotable(self) -> bool:
        return self.halving is not None and self.halving.promotable() is not None

    def _can_start(self, *, new: bool = True) -> bool:
        """Whether the budget has room for a new candidate, or for one of those begun to go on."""
        held = self.jobs.largest
        return self.meter.can_start(self.expected_s, held.kind, held.fraction, share=self.share,
                                    open_trials=len(self.open) - (not new))  # fmt: skip

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

    def _start_jobs(self) -> bool:
        """Fill free slots: candidates that are measured first, then promoted ones, then new ones; whether there may be more."""
        for _ in range(PROPOSALS_A_TURN):
            if self.message or self.interrupted:
                return False
            can_train = bool(self.ready) and self.executor.free > 0
            if can_train and self.bench.spared(len(self.ready)):
                self._submit(self.ready.popleft(), "train")
            elif self._begin_another():
                pass
            elif can_train:
                self._submit(self.ready.popleft(), "train")
            else:
                self.proposals.all_busy = True
                return False
        return True

    def _begin_another(self) -> bool:
        """Begin with a candidate or go on with a promoted one; whether there was one, and room for it."""
        room, idle = self.jobs.room(len(self.ready)), self.executor.free > 0 and not self.ready
        if room and self.jobs.again:
            self._begin(self.jobs.again.popleft())
        elif (room or idle) and self.halving and self._can_start(new=False) and (number := self.halving.promote()) is not None:
            self.open[number].waits = False
            self.ready.append(self.open[number])
        elif not room or not self._can_start():
            return False
        elif self.retry:
            self._begin(self.proposals.again(self.study.records[self.retry.pop(0)], self.open))
        elif self._nothing_left():
            return False
        else:
            self._begin(self.proposals.propose(self.open))
        return True

    def _listen(self, seconds: float) -> None:
        for candidate, end in self.jobs.listen(seconds):
            self._hear(candidate, end)
        self.ledger.save_often()
        if self.meter.now() - self._shown >= SHOW_EVERY_S:
            self._shown = self.meter.now()
            self.view(self.status())

    # -- what goes on ------------------------------------------------------------------------------------------------

    def _begin(self, candidate: Candidate | None) -> None:
        """The first job of a candidate, if a proposal has led to one."""
        if candidate is not None:
            candidate.metrics = {"num_params": candidate.graph.num_params, "macs": candidate.graph.macs}
            self.open[candidate.number] = candidate
            self._submit(candidate, "measure" if self.payload["measure"] else "train")

    def _submit(self, candidate: Candidate, stage: Stage) -> None:
        until = self.plan.recipe.epochs if self.halving is None else self.halving.after(candidate.trained)
        self.jobs.submit(candidate, stage, epochs=until, expected_s=max(0.0, self.expected_s - candidate.work_s))

    def _hear(self, candidate: Candidate, end: Finished | Failed) -> None:
        """What a job's end leads to: the next one, a pause, or the candidate's end."""
        if isinstance(end, Failed):
            return self._end(candidate, "failed", reason=f"{end.kind}: {end.reason}")
        result = dict(end.result)
        stopped, refused = result.pop("stopped", False), result.pop("refused", None)
        if candidate.stage == "measure":
            self.bench.note(result)
        candidate.metrics |= result.pop("metrics", {})
        candidate.details |= result
        if refused:
            self.refused, self.refusal = self.refused + 1, refused
            return self._end(candidate, "stopped", reason=f"not measured: {refused}", unfinished=True)
        if stopped:
            return self._give_up(candidate, for_now=True)
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
        if self.outlook:
            self.outlook.measured(candidate.graph, candidate.metrics)
        if reason := broken(self.study.constraints, candidate.metrics):
            return self._end(candidate, "stopped", reason=reason)
        record = candidate.record
        if reason := self.proposals.dominated(record.identity, candidate.graph, candidate.metrics, record.attrs):
            self.proposals.spare()
            candidate.details[SPARED] = True
            return self._end(candidate, "stopped", reason=reason, unfinished=True)
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
            self._give_up(self.open[number], for_now=False)

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
            candidate = self.proposals.candidate(record)
            candidate.trained, candidate.metrics, candidate.waits = int(last), dict(known), True
            self.open[record.number] = candidate
            if not self.halving.compares(candidate.trained):  # the rungs were others then: it goes on to the next
                candidate.waits = False
                self.ready.append(candidate)

    # -- what ends ---------------------------------------------------------------------------------------------------

    def _give_up_all(self) -> None:
        """The search has ended: a larger budget goes on with those that are open, if it could promote any."""
        self.open |= {number: self.proposals.candidate(self.study.records[number]) for number in self.retry}
        due = self._promotable() or not all(candidate.waits for candidate in self.open.values())
        for candidate in list(self.open.values()):
            self._give_up(candidate, for_now=due or not self.proposals.exhausted)

    def _abandon(self) -> None:
        """The search was interrupted, or an error ends it: those that are open are gone on with from their checkpoints."""
        self.close()
        for candidate in self.open.values():
            if self.interrupted and "retried" in candidate.record.attrs:
                self.study.note(candidate.number, retried=False)  # it did nothing to be failed for the next time

    def _give_up(self, candidate: Candidate, *, for_now: bool) -> None:
        """Not finished: not promoted, or the search has ended. For now: a larger budget goes on with it from its checkpoint."""
        if candidate.waits:
            reason = f"not promoted after {candidate.trained} epoch{'s' * (candidate.trained > 1)}"
            return self._end(candidate, "stopped", reason=reason, for_now=for_now)
        self._end(candidate, "stopped", reason=self.message or "the search ended", unfinished=True, for_now=for_now)

    def _end(self, candidate: Candidate, state: State, *, reason: str | None = None, unfinished: bool = False,
             for_now: bool = False) -> None:  # fmt: skip
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
        if for_now and "retried" in candidate.record.attrs:
            details["retried"] = False  # it did nothing to be failed for the next time
        self.ledger.end(candidate.record, state, seconds=candidate.seconds, reason=reason, metrics=candidate.metrics,
                        details=details, for_now=for_now)  # fmt: skip
        if state == "completed" and self.halving is None:
            self.durations.append(candidate.work_s)
        if candidate.record.state == "completed" and self.outlook:
            self.outlook.trained(candidate.graph, candidate.metrics)
        self.fruitless = 0 if candidate.record.state == "completed" or candidate.waits else self.fruitless + 1
        if not for_now:
            self.folder.drop_checkpoint(number)
        if candidate.record.state != "completed":
            self.folder.drop_weights(number)
        for follower in candidate.followers:
            self.ledger.repeat(follower, candidate.record)

    # -- what is shown -----------------------------------------------------------------------------------------------

    def tell(self, doing: str, detail: str = "") -> None:
        """Show what is being done after the search, and how far the jobs in flight are."""
        self.doing, self.detail = doing, detail
        self.view(self.status())

    def status(self) -> Status:
        """What a view shows now."""
        return Status(
            elapsed_s=self.meter.spent("wall"), budget=self.meter.rows(), counts=dict(self.ledger.counts),
            running=tuple(self.jobs.running.values()), front=self.ledger.front.members, best=self.ledger.front.best,
            epochs=self.plan.recipe.epochs, message=self.doing or self.message or self.bench.waiting, detail=self.detail,
            expected=self._expected, waiting=sum(c.waits for c in self.open.values()),
        )  # fmt: skip

    @property
    def _expected(self) -> int | None:
        completed, used = self.ledger.counts["completed"], self.meter.used(self.share)
        return round(completed / used) if completed >= FORESEEN and 0 < used < 1 else None
