"""What executors share: slots with one warm worker each, jobs handed to them, and what can happen to both."""

from __future__ import annotations

import selectors
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nas.errors import RunError
from nas.search.executors.base import Event, Executor, Failed, FailureKind, Finished, Job, Progress, Resources, Started
from nas.search.executors.wire import encode

LOOK = 0.25
"""Seconds between looks at processes and clocks while no worker says anything."""
REAP = 0.01
"""The same while a worker is on its way out."""
START_ATTEMPTS = 3
"""Starts in a row that may fail before the executor gives up."""


class Worker(Protocol):
    """A process that runs jobs, here or elsewhere, as the driver sees it. It speaks as :mod:`.worker` does."""

    @property
    def lost(self) -> bool:
        """Whether its machine is gone, or cannot be reached any more."""

    def send(self, line: bytes) -> None:
        """Sends an encoded message; a worker that does not take it ends."""

    def submit(self, line: bytes, files: tuple[str, ...]) -> None:
        """Sends an encoded job, and brings it its files."""

    def receive(self) -> list[dict[str, Any]] | None:
        """Messages that have come, without waiting; None when there will be no more."""

    def rest(self) -> list[dict[str, Any]]:
        """All that a worker which has ended had sent."""

    def ended(self) -> str | None:
        """How it ended (``exit status 3``, ``SIGSEGV``); None while it lives."""

    def kill(self) -> None:
        """Ends it by force; may be said again and again."""

    def close(self) -> None:
        """Kills it and gives back what it holds here."""


@dataclass(slots=True)
class Slot:
    """One slot, its present worker, and the job that it holds. Times are seconds of the monotonic clock.

    ``open``: takes jobs, also while its worker starts; a slot that waits for a machine, or has lost it, does not.
    """

    index: int
    worker: Worker
    open: bool = True
    job: Job | None = None
    line: bytes = b""  # the job as it is sent
    ready: bool = False
    leaving: bool = False
    stopping: bool = False
    verdict: tuple[FailureKind, str] | None = None  # why the driver killed the worker
    sent: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    failed_starts: int = 0


class WorkerPool(Executor):
    """Slots, each with a worker of its own. Subclasses make the workers, and register with the selector whatever can wake
    the driver, together with the function to call then."""

    def __init__(self, task: str, *, start_timeout: float, log_hint: str) -> None:
        self._task, self._start_timeout, self._log_hint = task, start_timeout, log_hint
        self._events: list[Event] = []
        self._selector = selectors.DefaultSelector()
        self._resources: list[Resources] = []
        self._slots: list[Slot] = []
        self._closed = self._was_ready = False
        self._broken: RunError | None = None

    @abstractmethod
    def _renew(self, slot: Slot) -> None:
        """Gives the slot another worker in place of one that has ended, or closes the slot for want of one."""

    def _release(self) -> None:
        """Gives back what the pool holds beside its workers; called once, at the end."""

    def _tend(self) -> None:
        """Looks after what is no slot (yet); called with every look at the slots."""

    @property
    def resources(self) -> tuple[Resources, ...]:
        return tuple(self._resources)

    @property
    def free(self) -> int:
        return 0 if self._closed else sum(1 for _ in self._open_slots())

    def free_on(self, model: str) -> int:
        return 0 if self._closed else sum(1 for _ in self._open_slots(model))

    def submit(self, job: Job) -> int:
        line = encode({"is": "job", "trial": job.trial, "payload": job.payload}, where=f"payload of trial {job.trial}")
        if self._slot_of(job.trial) is not None:
            raise RunError("the trial is running already", where=f"trial {job.trial}")
        # A slot whose worker still starts takes a job too, which then waits; a worker that is there comes first.
        slot = min(self._open_slots(job.needs), key=lambda slot: (self._has(slot, job.spares), not slot.ready), default=None)
        if slot is None or self._closed:
            raise RunError("no slot is free", where=f"trial {job.trial}", expected=job.needs,
                           hint="Look at `free` and `free_on` before you submit.")  # fmt: skip
        slot.job, slot.line, slot.stopping, slot.verdict = job, line, False, None
        if slot.ready:
            self._send_job(slot)
        return slot.index

    def poll(self, timeout: float) -> list[Event]:
        deadline = time.monotonic() + timeout
        wait, free = 0.0, self.free
        while not self._closed:
            for key, _ in self._selector.select(wait):
                heard: Callable[[], None] = key.data
                heard()
            self._tend()
            for slot in self._slots:
                self._watch(slot)
            if self._broken is not None:
                raise self._broken
            left = deadline - time.monotonic()
            if self._events or left <= 0 or self.free > free:
                break
            wait = min(left, REAP if any(slot.leaving for slot in self._slots) else LOOK)
        events, self._events = self._events, []
        return events

    def stop(self, trial: int) -> None:
        slot = self._slot_of(trial)
        if slot is not None and not slot.stopping:
            slot.stopping = True
            if slot.sent:
                self._send_stop(slot, trial)

    def kill(self, trial: int) -> None:
        slot = self._slot_of(trial)
        if slot is not None:
            self._condemn(slot, "killed", "killed on request")

    def close(self, grace: float = 0.0) -> list[Event]:
        if self._closed:
            return []
        events: list[Event] = []
        if grace > 0:
            with suppress(RunError):  # Workers that cannot start are no reason to leave others behind.
                self._wind_down(grace, events)
        self._closed = True
        try:
            for slot in self._slots:
                slot.worker.kill()
            for slot in self._slots:
                for message in slot.worker.rest():
                    self._take(slot, message)
                if slot.job is not None:
                    self._fail(slot, *(slot.verdict or ("killed", "the executor was closed")))
                slot.worker.close()
        finally:
            self._release()
            self._selector.close()
        rest, self._events = self._events, []
        return events + rest

    def _wind_down(self, grace: float, events: list[Event]) -> None:
        """Lets running jobs come to an end for up to ``grace`` seconds, collecting what happens."""
        deadline = time.monotonic() + grace
        for slot in self._slots:
            if slot.job is not None:
                self.stop(slot.job.trial)
        while any(slot.job is not None for slot in self._slots) and (left := deadline - time.monotonic()) > 0:
            events += self.poll(left)

    def _open_slots(self, model: str | None = None) -> Iterator[Slot]:
        return (slot for slot in self._slots if slot.job is None and slot.open and not slot.leaving
                and (model is None or self._has(slot, model)))  # fmt: skip

    def _has(self, slot: Slot, model: str | None) -> bool:
        return model in self._resources[slot.index].models.values()

    def _tell_models(self, slot: Slot, models: Mapping[str, str]) -> None:
        self._resources[slot.index] = replace(self._resources[slot.index], models=models)

    def _slot_of(self, trial: int) -> Slot | None:
        return next((slot for slot in self._slots if slot.job is not None and slot.job.trial == trial), None)

    def _send_job(self, slot: Slot) -> None:
        slot.sent = slot.heard = time.monotonic()
        slot.worker.submit(slot.line, slot.job.files if slot.job else ())
        slot.line = b""
        if slot.stopping and slot.job is not None:
            self._send_stop(slot, slot.job.trial)

    def _send_stop(self, slot: Slot, trial: int) -> None:
        slot.worker.send(encode({"is": "stop", "trial": trial}, where="stop"))

    def _listen(self, slot: Slot) -> None:
        messages = slot.worker.receive()
        if messages is None:
            self._dismiss(slot)
            return
        for message in messages:
            self._take(slot, message)

    def _take(self, slot: Slot, message: dict[str, Any]) -> None:
        slot.heard = time.monotonic()
        match message["is"]:
            case "ready":
                slot.ready, slot.failed_starts, self._was_ready = True, 0, True
                self._tell_models(slot, message["models"])
                if slot.job is not None and not slot.leaving:
                    self._send_job(slot)
            case "broken":
                self._cannot_start(slot, message["reason"])
            case kind if slot.job is not None and slot.job.trial == message["trial"]:
                self._events.append(_event(kind, slot.index, message))
                if kind in ("finished", "failed"):
                    self._empty(slot)
                    if message.get("spoilt"):
                        self._dismiss(slot)

    def _watch(self, slot: Slot) -> None:
        """Notices a worker that has ended, and a job or a start that has gone silent."""
        status = slot.worker.ended()
        if status is not None:
            self._replace(slot, status)
        elif slot.leaving:
            slot.worker.kill()
            return
        elif not slot.open:
            return
        silence = time.monotonic() - slot.heard
        if not slot.ready:
            if silence > self._start_timeout:
                self._dismiss(slot)
        elif slot.job is not None and slot.job.timeout is not None and silence > slot.job.timeout:
            self._condemn(slot, "hang", f"no progress for {slot.job.timeout:g} s")

    def _condemn(self, slot: Slot, kind: FailureKind, reason: str) -> None:
        slot.verdict = slot.verdict or (kind, reason)
        self._dismiss(slot)

    def _dismiss(self, slot: Slot) -> None:
        """Kills the worker; the rest follows when the system says that it has ended."""
        slot.leaving = True
        slot.worker.kill()

    def _replace(self, slot: Slot, status: str) -> None:
        for message in slot.worker.rest():
            self._take(slot, message)
        waits = not slot.ready and slot.verdict is None  # A job that waits for the worker waits for the next one.
        if waits:
            slot.failed_starts += not slot.worker.lost
            if slot.failed_starts == START_ATTEMPTS:
                self._cannot_start(slot, f"{START_ATTEMPTS} times in a row the process ended by {status}")
        death: FailureKind = "lost" if slot.worker.lost else "died"
        status = slot.worker.ended() or status
        if not waits and slot.job is not None:
            self._fail(slot, *(slot.verdict or (death, _death(status))))
        if slot.worker.lost:
            self._tell_models(slot, {})  # The next machine may be another.
        slot.ready = slot.leaving = False
        slot.heard = time.monotonic()
        self._renew(slot)
        if slot.job is not None and not slot.open:
            self._fail(slot, death, _death(status))

    def _fail(self, slot: Slot, kind: FailureKind, reason: str) -> None:
        assert slot.job is not None
        seconds = time.monotonic() - slot.sent if slot.sent else 0.0
        self._events.append(Failed(trial=slot.job.trial, kind=kind, reason=reason, seconds=seconds))
        self._empty(slot)

    def _empty(self, slot: Slot) -> None:
        slot.job, slot.verdict, slot.sent, slot.line = None, None, 0.0, b""

    def _cannot_start(self, slot: Slot, reason: str) -> None:
        self._broken = self._trouble(reason)

    def _trouble(self, reason: str) -> RunError:
        return RunError(f"a worker cannot start: {reason}", where=self._task, hint=self._log_hint)


def _event(kind: str, slot: int, message: dict[str, Any]) -> Event:
    trial: int = message["trial"]
    match kind:
        case "started":
            return Started(trial=trial, slot=slot, time=message["time"])
        case "progress":
            return Progress(trial=trial, values=message["values"])
        case "finished":
            return Finished(trial=trial, result=message["result"], seconds=message["seconds"])
    return Failed(trial=trial, kind=message["kind"], reason=message["reason"], seconds=message["seconds"],
                  detail=message["detail"])  # fmt: skip


def _death(status: str) -> str:
    hint = " (from outside, or the system ran out of memory)" if status == "SIGKILL" else ""
    return f"the worker process ended by {status}{hint}"
