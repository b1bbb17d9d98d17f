"""The search loop: propose, recognise, submit, listen, record. The only writer of the study."""

from __future__ import annotations

import statistics
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.samplers import BaseSampler

from nas.errors import NasError
from nas.net.graph import Graph
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.budget import Device, Meter
from nas.search.executors.base import Event, Executor, Failed, Finished, Job, Progress, Started
from nas.search.front import Front
from nas.search.interrupt import on_interrupt
from nas.search.planner import Plan
from nas.search.run import TRIAL_COLUMNS, RunFolder
from nas.search.study import UNFINISHED, Draft, Record, SearchStudy, State
from nas.space.decide import Decisions
from nas.space.search_space import Architecture
from nas.space.unparse import to_page

UNPRODUCTIVE = 300
"""Proposals in a row that lead to no training (duplicates, over a limit), or candidates in a row that fail or turn out
to be over a limit, after which the search ends."""

SAVE_EVERY_S = 5.0
"""Seconds between two writings of what was spent: what a killed driver forgets at most."""

PROPOSALS_A_TURN = 20
"""Proposals made before the loop looks at its workers again."""

HANG_S, HANG_EPOCHS = 600.0, 60
"""A candidate that says nothing for this long, and for this many times the planned epoch, counts as hung."""


@dataclass(slots=True)
class Running:
    """A trial in flight, as far as its worker has told."""

    record: Record
    architecture: Architecture
    graph: Graph
    phase: str = "starting"
    epoch: int = 0
    val_accuracy: float | None = None
    latency_ms: float | None = None
    device: str = ""
    followers: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Status:
    """What a view shows of a search at a moment."""

    elapsed_s: float
    budget: list[dict[str, Any]]
    counts: Mapping[str, int]
    running: tuple[Running, ...]
    front: tuple[Record, ...]
    best: Record | None
    epochs: int
    message: str


View = Callable[[Status], None]


class SearchLoop:
    """Runs one search to its end. Everything it needs is made by :mod:`nas.search.start`."""

    def __init__(
        self, *, study: SearchStudy, sampler: BaseSampler, executor: Executor, meter: Meter, folder: RunFolder, plan: Plan,
        payload: Mapping[str, Any], view: View,
    ) -> None:  # fmt: skip
        self.study, self.sampler, self.executor, self.meter = study, sampler, executor, meter
        self.folder, self.plan, self.payload, self.view = folder, plan, payload, view
        self.constraints = study.constraints
        self.device, self.cost = _slot(executor)
        self.retry = list(study.left_running)
        self.log = folder.logger()
        self.running: dict[int, Running] = {}
        self.front = Front(folder, study.objectives, study.constraints)
        self.counts: Counter[str] = Counter()
        self.durations: deque[float] = deque(maxlen=30)
        self.size, self.proposed = study.space.size(), set[frozenset[tuple[str, Any]]]()
        self.unproductive = self.fruitless = 0
        self.message = ""
        self.interrupted = False
        self._saved = time.monotonic()
        for record in study.records:
            if not record.unfinished:
                self.proposed.add(_key(record.decisions))
            if record.state != "running":
                self._remember(record)
        folder.keep_weights(member.number for member in self.front.members)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Search until the budget is spent, the space is exhausted, or Ctrl-C."""
        self._save()  # planning was spent already
        try:
            with on_interrupt(self._interrupt):
                while not self._ended():
                    self._propose()
                    self._listen(0.2)
        finally:
            for event in self.executor.close(grace=0.0):
                self._handle(event)
            self._save()
        self.view(self.status())

    def _interrupt(self) -> None:
        self.interrupted = True

    def _ended(self) -> bool:
        if self.interrupted:
            lost = len(self.running)
            self.message = "interrupted: every finished candidate is saved" + (f", {lost} in flight given up" if lost else "")
            return True
        if self.message:
            for trial in self.running:
                self.executor.stop(trial)
            return not self.running
        if part := self.meter.exhausted:
            self.message = f"the budget of {part} is spent"
        elif not self.running and not self.retry:
            self.message = self._nothing_left() or ("" if self._can_start() else "the budget has no room for another candidate")
        elif not self.running and not self._can_start():
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
        return ""

    def _can_start(self) -> bool:
        return self.meter.can_start(self.expected_s, self.device, self.cost)

    @property
    def expected_s(self) -> float:
        """Seconds that a candidate is expected to take: the median of the latest, or the plan's estimate."""
        if self.durations:
            return statistics.median(self.durations)
        return self.plan.epoch_s * self.plan.recipe.epochs

    def _propose(self) -> None:
        for _ in range(PROPOSALS_A_TURN):
            if self.message or self.interrupted or not self.executor.free or not self._can_start():
                return
            if self.retry:
                self._try_again(self.study.records[self.retry.pop(0)])
            elif self._nothing_left():
                return
            else:
                self._admit(self.study.draft(self.sampler))

    def _try_again(self, record: Record) -> None:
        """A trial that a killed driver left running: evaluated once more under its number, failed the second time."""
        twin = self.study.find(record.identity)
        if twin is not None and twin is not record:
            return self._repeat(record, twin)
        retried = self.study.metadata.get("retried", [])
        if record.number in retried:
            self.meter.count()
            return self._record(record, "failed", reason="interrupted twice", seconds=0.0)
        self.study.set_metadata(retried=[*retried, record.number])
        architecture = self.study.space.architecture(record.decisions)
        return self._submit(record, architecture, lower(architecture, self.plan.deploy))

    def _admit(self, draft: Draft) -> None:
        """Submit a proposal, unless it is impossible, known, or over a limit that is known without training."""
        self.unproductive += 1
        self.proposed.add(_key(draft.architecture.decisions))
        try:
            graph = lower(draft.architecture, self.plan.deploy)
            if self.plan.proxy != self.plan.deploy:
                lower(draft.architecture, self.plan.proxy)
        except NasError as error:
            self.meter.count()
            return self._note(self.study.add(draft, "failed", reason=str(error)))
        name, seed = identity(graph), self.payload["seed"]
        if (twin := self.study.find(name)) is not None:
            if twin.state == "running":
                return self._repeat(self.study.add(draft, identity=name, seed=seed), twin)
            return self._note(self.study.add(draft, "duplicate", identity=name, seed=seed, duplicate_of=twin.number))
        static: dict[str, float] = {"num_params": graph.num_params, "macs": graph.macs}
        broken = [c for c in self.constraints if c.metric in static and c.violation(static) > 0]
        if broken:
            reason = f"{broken[0].metric} {static[broken[0].metric]:,} breaks {broken[0]}"
            return self._note(self.study.add(draft, "stopped", identity=name, metrics=static, reason=reason))
        self.unproductive = 0
        return self._submit(self.study.add(draft, identity=name, seed=seed), draft.architecture, graph)

    def _submit(self, record: Record, architecture: Architecture, graph: Graph) -> None:
        self.meter.begin(record.number, self.device, self.cost, expected=self.expected_s)
        self.running[record.number] = Running(record, architecture, graph)
        timeout = max(HANG_S, HANG_EPOCHS * self.plan.epoch_s)
        self.executor.submit(Job(trial=record.number, payload=self._payload(record.number, architecture), timeout=timeout))

    def _payload(self, number: int, architecture: Architecture) -> dict[str, Any]:
        return {**self.payload, "page": to_page(architecture.spec), "weights": str(self.folder.weights_of(number))}

    def _listen(self, seconds: float) -> None:
        for event in self.executor.poll(seconds):
            self._handle(event)
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self._save()
        self.view(self.status())

    def _handle(self, event: Event) -> None:
        if event.trial not in self.running:
            return
        running = self.running[event.trial]
        match event:
            case Started():
                running.phase = "measuring" if self.payload["measure"] else "training"
                running.device = self.executor.resources[event.slot].device
            case Progress():
                self._progress(running, event.values)
            case Finished():
                self._finished(running, dict(event.result))
            case Failed(kind="killed"):  # by the executor's end, the only one who kills
                self._end(event.trial, "stopped", reason=self.message or "the search ended", unfinished=True)
            case Failed():
                if event.detail:
                    self.log.error("trial %d: %s\n%s", event.trial, event.reason, event.detail)
                self._end(event.trial, "failed", reason=f"{event.kind}: {event.reason}")

    def _progress(self, running: Running, values: Mapping[str, Any]) -> None:
        running.latency_ms = values.get("latency_ms", running.latency_ms)
        if "refused" not in values:  # a measurement that is tried again
            running.phase = "training"
        running.epoch = values.get("epoch", running.epoch)
        running.val_accuracy = values.get("val_accuracy", running.val_accuracy)

    def _finished(self, running: Running, result: dict[str, Any]) -> None:
        metrics: dict[str, Any] = {"num_params": running.graph.num_params, "macs": running.graph.macs}
        if "latency_ms" in result:
            metrics["latency"] = result.pop("latency_ms")
        if "val_accuracy" in result:
            metrics["accuracy"] = result.pop("val_accuracy")
        over = result.pop("over", None)
        if result.pop("stopped"):
            return self._end(running.record.number, "stopped", metrics=metrics, details=result, reason=over or self.message,
                             unfinished=over is None)  # fmt: skip
        self._end(running.record.number, "completed", metrics=metrics, details=result)

    # -- records -----------------------------------------------------------------------------------------------------

    def _end(self, number: int, state: State, *, reason: str | None = None, metrics: Mapping[str, Any] | None = None,
             details: Mapping[str, Any] | None = None, unfinished: bool = False) -> None:  # fmt: skip
        """A submitted trial is over: meter it, record it, and give its result to those that waited for it."""
        running = self.running.pop(number)
        seconds = self.meter.end(number, counts=state in {"completed", "failed"}) / self.cost
        marks = {"device": running.device or None, UNFINISHED: True if unfinished else None}
        details = {**(details or {}), **{key: value for key, value in marks.items() if value is not None}}
        self._record(running.record, state, seconds=seconds, reason=reason, metrics=metrics, details=details)
        self.fruitless = 0 if running.record.state == "completed" else self.fruitless + 1
        if running.record.state != "completed":
            self.folder.drop_weights(number)
        for follower in running.followers:
            self._repeat(follower, running.record)

    def _repeat(self, record: Record, twin: Record) -> None:
        """Link a stored duplicate with its original, now or when that has ended; it costs nothing and counts as nothing."""
        if twin.number in self.running:
            self.running[twin.number].followers.append(record)
        else:
            self._note(self.study.tell(record.number, "duplicate", duplicate_of=twin.number))

    def _record(self, record: Record, state: State, *, seconds: float, reason: str | None = None,
                metrics: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None) -> None:  # fmt: skip
        attrs = {**(details or {}), "seconds": round(seconds, 3)}
        self._note(self.study.tell(record.number, state, metrics=metrics, reason=reason or None, attrs=attrs,
                                   metadata={"meter": self.meter.to_mapping()}))  # fmt: skip

    def _note(self, record: Record) -> None:
        """A trial has ended: count it, and write it where people look."""
        changed = self._remember(record)
        self.folder.append_row(self.folder.trials, TRIAL_COLUMNS, row_of(record))
        if changed:
            self.front.write(self.study.space, self.plan.deploy)
        self.log.info("trial %d %s %s %s", record.number, record.state, dict(record.metrics), record.reason or "")

    def _remember(self, record: Record) -> bool:
        """Count an ended trial; whether it is on the front now."""
        self.counts[record.state] += 1
        if record.state != "completed":
            return False
        if "seconds" in record.attrs:
            self.durations.append(record.attrs["seconds"])
        return self.front.add(record)

    def _save(self) -> None:
        self.study.set_metadata(meter=self.meter.to_mapping())
        self._saved = time.monotonic()

    def status(self) -> Status:
        """What a view shows now."""
        return Status(
            elapsed_s=self.meter.spent("wall"), budget=self.meter.rows(), counts=dict(self.counts),
            running=tuple(self.running.values()), front=self.front.members, best=self.front.best,
            epochs=self.plan.recipe.epochs, message=self.message,
        )  # fmt: skip


def _slot(executor: Executor) -> tuple[Device, float]:
    """What a slot holds, for the meter: so many GPUs, or so many cores."""
    slot = executor.resources[0]
    if slot.kind == "gpu":
        return "gpu", slot.fraction
    cores = {core for other in executor.resources for core in other.cpus}
    return "cpu", slot.fraction * max(1, len(cores))


def _key(decisions: Decisions) -> frozenset[tuple[str, Any]]:
    return frozenset(decisions.items())


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row of trials.csv."""
    metrics, attrs = record.metrics, record.attrs
    return {
        "trial": record.number, "state": record.state, "val_accuracy": metrics.get("accuracy"),
        "latency_ms": metrics.get("latency"),
        "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "seed": record.seed, "identity": record.identity,
        "seconds": attrs.get("seconds"), "duplicate_of": record.duplicate_of, "reason": record.reason,
        **{k: attrs.get(k) for k in ("latency_low_ms", "latency_high_ms", "epochs", "measure_s", "train_s")},
    }  # fmt: skip
