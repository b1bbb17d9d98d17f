"""The search loop: propose, recognise, submit, listen, record. The only writer of the study."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.samplers import BaseSampler

from nas.errors import NasError
from nas.net.graph import Graph, Size
from nas.net.identity import identity
from nas.net.lower import lower
from nas.search.budget import Meter
from nas.search.executors.base import Event, Executor, Failed, Finished, Job, Progress, Started
from nas.search.objectives import dominates
from nas.search.planner import Plan
from nas.search.run import TRIAL_COLUMNS, RunFolder
from nas.search.study import Draft, Record, SearchStudy, State
from nas.space.search_space import Architecture
from nas.space.unparse import to_page

UNPRODUCTIVE = 300
"""Proposals in a row that lead to no training (duplicates, over a limit) after which the search ends."""

SAVE_EVERY_S = 30.0
"""Seconds between two writings of what was spent."""

PROPOSALS_A_TURN = 20
"""Proposals made before the loop looks at its workers again."""


@dataclass(slots=True)
class Running:
    """A trial in flight, as far as its worker has told."""

    record: Record
    architecture: Architecture
    graph: Graph
    since: float
    phase: str = "starting"
    epoch: int = 0
    val_accuracy: float | None = None
    latency_ms: float | None = None
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
        self.study, self.sampler, self.executor, self.meter, self.folder, self.plan = study, sampler, executor, meter, folder, plan
        self.payload, self.view = payload, view
        self.objectives, self.constraints = study.objectives, study.constraints
        self.retry = list(study.left_running)
        self.log = folder.logger()
        self.running: dict[int, Running] = {}
        self.front: list[Record] = []
        self.counts: Counter[str] = Counter()
        self.durations: list[float] = []
        self.unproductive = 0
        self.message = ""
        self.interrupted = False
        self._saved = time.monotonic()
        for record in study.records:
            if record.state != "running":
                self._remember(record)

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Search until the budget is spent, the space is exhausted, or Ctrl-C."""
        try:
            while not self._ended():
                self._propose()
                self._listen(0.2)
        except KeyboardInterrupt:
            self.interrupted = True
            self.message = "interrupted: everything evaluated so far is saved"
        finally:
            for event in self.executor.close(grace=0.0):
                self._handle(event)
            for trial in list(self.running):
                self._end(trial, "stopped", reason=self.message or "the search ended")
            self._save()
        self.view(self.status())

    def _ended(self) -> bool:
        if self.message:
            for trial in self.running:
                self.executor.stop(trial)
            return not self.running
        if part := self.meter.exhausted:
            self.message = f"the budget of {part} is spent"
        elif self.unproductive >= UNPRODUCTIVE:
            self.message = f"ended early: the last {UNPRODUCTIVE} proposals were duplicates or over a limit"
        elif not self.running and self.executor.free and not self._can_start():
            self.message = "the budget has no room for another candidate"
        return False

    def _can_start(self) -> bool:
        resources = self.executor.resources[0]
        return self.meter.can_start(self.expected_s, resources.kind, resources.fraction)

    @property
    def expected_s(self) -> float:
        """Seconds that a candidate is expected to take: the median of the latest, or the plan's estimate."""
        if self.durations:
            return statistics.median(self.durations[-30:])
        return self.plan.epoch_s * self.plan.recipe.epochs

    def _propose(self) -> None:
        for _ in range(PROPOSALS_A_TURN):
            if self.message or not self.executor.free or not self._can_start() or self.unproductive >= UNPRODUCTIVE:
                return
            if self.retry:
                self._try_again(self.study.records[self.retry.pop(0)])
            else:
                self._admit(self.study.draft(self.sampler))

    def _try_again(self, record: Record) -> None:
        """A trial that a killed driver left running: evaluated once more under its number, failed the second time."""
        retried = self.study.metadata.get("retried", [])
        if record.number in retried:
            return self._record(record, "failed", reason="interrupted twice", seconds=0.0)
        self.study.set_metadata(retried=[*retried, record.number])
        architecture = self.study.space.architecture(record.decisions)
        graph = lower(architecture, self.plan.deploy)
        twin = self.study.find(record.identity)
        if twin is not None and twin.number < record.number and twin.state != "running":
            return self._copy(record, twin)
        return self._submit(record, architecture, graph)

    def _admit(self, draft: Draft) -> None:
        """Submit a proposal, unless it is impossible, known, or over a limit that is known without training."""
        try:
            graph = lower(draft.architecture, self.plan.deploy)
            lower(draft.architecture, self.plan.proxy)
        except NasError as error:
            return self._note(self.study.add(draft, "failed", reason=str(error)))
        name, seed = identity(graph), self.payload["seed"]
        static: dict[str, float] = {"num_params": graph.num_params, "macs": graph.macs}
        if (twin := self.study.find(name)) is not None:
            self.unproductive += 1
            if twin.number in self.running:
                self.running[twin.number].followers.append(self.study.add(draft, identity=name, seed=seed))
            else:
                self._note(self.study.add(draft, "duplicate", identity=name, seed=seed, duplicate_of=twin.number))
            return None
        broken = [c for c in self.constraints if c.metric in static and c.violation(static) > 0]
        if broken:
            self.unproductive += 1
            reason = f"{broken[0].metric} {static[broken[0].metric]:,} breaks {broken[0]}"
            return self._note(self.study.add(draft, "stopped", identity=name, metrics=static, reason=reason))
        self.unproductive = 0
        return self._submit(self.study.add(draft, identity=name, seed=seed), draft.architecture, graph)

    def _submit(self, record: Record, architecture: Architecture, graph: Graph) -> None:
        resources = self.executor.resources[0]
        self.meter.begin(record.number, resources.kind, resources.fraction, expected=self.expected_s)
        self.running[record.number] = Running(record, architecture, graph, time.monotonic())
        self.executor.submit(Job(trial=record.number, payload=self._payload(record.number, architecture)))

    def _payload(self, number: int, architecture: Architecture) -> dict[str, Any]:
        return {**self.payload, "page": to_page(architecture.spec), "weights": str(self.folder.weights / f"{number}.pt")}

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
            case Progress():
                self._progress(running, event.values)
            case Finished():
                self._finished(running, dict(event.result))
            case Failed():
                if event.detail:
                    self.log.error("trial %d: %s\n%s", event.trial, event.reason, event.detail)
                self._end(event.trial, "failed", reason=f"{event.kind}: {event.reason}")

    def _progress(self, running: Running, values: Mapping[str, Any]) -> None:
        running.latency_ms = values.get("latency_ms", running.latency_ms)
        running.phase = "training"
        running.epoch = values.get("epoch", running.epoch)
        running.val_accuracy = values.get("val_accuracy", running.val_accuracy)

    def _finished(self, running: Running, result: dict[str, Any]) -> None:
        metrics: dict[str, Any] = {"num_params": running.graph.num_params, "macs": running.graph.macs}
        if "latency_ms" in result:
            metrics["latency"] = result["latency_ms"]
        if "val_accuracy" in result:
            metrics["accuracy"] = result["val_accuracy"]
        reason = result.pop("reason", None)
        if result.pop("stopped"):
            return self._end(running.record.number, "stopped", metrics=metrics, details=result, reason=reason or self.message)
        self.durations.append(time.monotonic() - running.since)
        self._end(running.record.number, "completed", metrics=metrics, details=result)

    # -- records -----------------------------------------------------------------------------------------------------

    def _end(self, number: int, state: State, **what: Any) -> None:
        """A submitted trial is over: meter it, record it, and give its result to those that waited for it."""
        running = self.running.pop(number)
        seconds = self.meter.end(number, counts=state in {"completed", "failed"})
        self._record(running.record, state, seconds=seconds, **what)
        for follower in running.followers:
            if state == "completed":
                self._copy(follower, running.record)
            else:
                self._record(follower, "stopped", reason=f"the same network as trial {number}, which {state}", seconds=0.0)

    def _copy(self, record: Record, original: Record) -> None:
        """Record a running duplicate with its original's figures; it costs nothing and counts as nothing."""
        self._note(self.study.tell(record.number, "duplicate", duplicate_of=original.number))

    def _record(self, record: Record, state: State, *, seconds: float, reason: str | None = None,
                metrics: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None) -> None:  # fmt: skip
        attrs = {**(details or {}), "seconds": round(seconds, 3)}
        self._note(self.study.tell(record.number, state, metrics=metrics, reason=reason or None, attrs=attrs,
                                   metadata={"meter": self.meter.to_mapping()}))  # fmt: skip

    def _note(self, record: Record) -> None:
        """A trial has ended: count it, and write it where people look."""
        self._remember(record)
        self.folder.append_row(self.folder.trials, TRIAL_COLUMNS, row_of(record))
        self.log.info("trial %d %s %s %s", record.number, record.state, dict(record.metrics), record.reason or "")

    def _remember(self, record: Record) -> None:
        self.counts[record.state] += 1
        if record.state == "completed":
            self._update_front(record)

    def _update_front(self, record: Record) -> None:
        """Keep the front and the weights of its members; those of the others are deleted."""
        weights = self.folder.weights / f"{record.number}.pt"
        feasible = all(c.violation(record.metrics) <= 0 for c in self.constraints if c.metric in record.metrics)
        if not feasible or any(dominates(other.metrics, record.metrics, self.objectives) for other in self.front):
            weights.unlink(missing_ok=True)
            return
        for other in [o for o in self.front if dominates(record.metrics, o.metrics, self.objectives)]:
            self.front.remove(other)
            (self.folder.weights / f"{other.number}.pt").unlink(missing_ok=True)
        self.front.append(record)

    def _save(self) -> None:
        self.study.set_metadata(meter=self.meter.to_mapping())
        self._saved = time.monotonic()

    @property
    def best(self) -> Record | None:
        """The most accurate network within all limits; of equally accurate ones the faster."""
        return best_of(self.front)

    def status(self) -> Status:
        return Status(
            elapsed_s=self.meter.spent("wall"), budget=self.meter.rows(), counts=dict(self.counts),
            running=tuple(self.running.values()), front=tuple(sorted_front(self.front)), best=self.best,
            epochs=self.plan.recipe.epochs, message=self.message,
        )  # fmt: skip


def best_of(records: list[Record]) -> Record | None:
    """The most accurate record; ties go to lower latency, then to fewer parameters."""
    def key(record: Record) -> tuple[float, float, float]:
        metrics = record.metrics
        return metrics.get("accuracy", 0.0), -metrics.get("latency", 0.0), -metrics.get("num_params", 0)

    return max(records, key=key, default=None)


def sorted_front(records: list[Record]) -> list[Record]:
    """By accuracy, best first."""
    return sorted(records, key=lambda r: (-r.metrics.get("accuracy", 0.0), r.metrics.get("latency", 0.0)))


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row of trials.csv."""
    metrics, attrs = record.metrics, record.attrs
    return {
        "trial": record.number, "state": record.state, "val_accuracy": metrics.get("accuracy"), "latency_ms": metrics.get("latency"),
        "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "seed": record.seed, "identity": record.identity,
        "seconds": attrs.get("seconds"), "duplicate_of": record.duplicate_of, "reason": record.reason,
        **{k: attrs.get(k) for k in ("latency_low_ms", "latency_high_ms", "epochs", "measure_s", "train_s")},
    }  # fmt: skip


def size_words(size: Size) -> dict[str, Any]:
    """A size as plain words, for payloads and the configuration."""
    return {"width": size.width, "depth": size.depth, "input": list(size.input or ()), "num_classes": size.num_classes}
