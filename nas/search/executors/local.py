"""Processes on this machine: one warm worker a slot, replaced when it dies."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.search.executors.base import Event, Executor, Failed, FailureKind, Finished, Job, Progress, Resources, Started
from nas.search.executors.process import Program, WorkerProcess
from nas.search.executors.slots import cpu_quota, divide, usable_cpus, visible_gpus
from nas.search.executors.task import check_path
from nas.search.executors.wire import encode

LOOK = 0.25
"""Seconds between looks at processes and clocks while no worker says anything."""
REAP = 0.01
"""The same while a worker is on its way out."""
START_ATTEMPTS = 3
"""Starts in a row that may fail before the executor gives up."""


@dataclass(slots=True)
class _Slot:
    """One slot, its present worker, and the job that it holds. Times are seconds of the monotonic clock."""

    index: int
    worker: WorkerProcess
    job: Job | None = None
    line: bytes = b""  # the job as it is sent
    ready: bool = False
    leaving: bool = False
    stopping: bool = False
    verdict: tuple[FailureKind, str] | None = None  # why the driver killed the worker
    sent: float = 0.0
    heard: float = field(default_factory=time.monotonic)
    failed_starts: int = 0


class LocalExecutor(Executor):
    """Runs the task ``package.module:function`` in worker processes that stay warm between jobs.

    Args:
        task: import path of the function; imported in the workers only.
        workers, threads, gpus_per_trial: how the machine is divided (see :func:`.slots.divide`); None fills it.
        gpus: ids of the GPUs to use, None for all that are visible.
        preload: ``package.module`` to import or ``package.module:function`` to call when a worker starts.
        log: file to which everything is appended that workers print; None discards it.
        start_timeout: seconds within which a worker has to be ready, imports and preload included.

    Raises UsageError for what the machine does not have, RunError when the log cannot be written.
    """

    def __init__(self, task: str, *, workers: int | None = None, threads: int | None = None,
                 gpus_per_trial: float | None = None, gpus: Sequence[str] | None = None, preload: str | None = None,
                 log: Path | str | None = None, start_timeout: float = 300.0) -> None:  # fmt: skip
        check_path(task)
        if gpus is None:
            gpus = () if gpus_per_trial == 0 else visible_gpus()
        self._resources = divide(workers=workers, threads=threads, gpus_per_trial=gpus_per_trial, gpus=gpus,
                                 cpus=usable_cpus(), quota=cpu_quota())  # fmt: skip
        self._log = log
        self._start_timeout = start_timeout
        self._program = Program.here(task, preload, _open_log(log))
        self._events: list[Event] = []
        self._selector = selectors.DefaultSelector()
        self._slots = [_Slot(index, self._spawn(index)) for index in range(len(self._resources))]
        for slot in self._slots:
            self._selector.register(slot.worker.socket, selectors.EVENT_READ, slot)
        self._closed = False
        self._broken: RunError | None = None

    @property
    def resources(self) -> tuple[Resources, ...]:
        return self._resources

    @property
    def free(self) -> int:
        return 0 if self._closed else sum(1 for _ in self._open_slots())

    def submit(self, job: Job) -> None:
        line = encode({"is": "job", "trial": job.trial, "payload": job.payload}, where=f"payload of trial {job.trial}")
        if self._slot_of(job.trial) is not None:
            raise RunError("the trial is running already", where=f"trial {job.trial}")
        # A slot whose worker still starts takes a job too, which then waits; a worker that is there comes first.
        slot = min(self._open_slots(), key=lambda slot: not slot.ready, default=None)
        if slot is None or self._closed:
            raise RunError("no slot is free", where=f"trial {job.trial}", hint="Look at `free` before you submit.")
        slot.job, slot.line, slot.stopping, slot.verdict = job, line, False, None
        if slot.ready:
            self._send_job(slot)

    def poll(self, timeout: float) -> list[Event]:
        deadline = time.monotonic() + timeout
        wait, free = 0.0, self.free
        while not self._closed:
            for key, _ in self._selector.select(wait):
                self._listen(key.data)
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
        for slot in self._slots:
            slot.worker.kill()
        for slot in self._slots:
            for message in slot.worker.rest():
                self._take(slot, message)
            if slot.job is not None:
                self._fail(slot, *(slot.verdict or ("killed", "the executor was closed")))
            slot.worker.close()
        self._selector.close()
        os.close(self._program.output)
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

    def _open_slots(self) -> Iterator[_Slot]:
        return (slot for slot in self._slots if slot.job is None and not slot.leaving)

    def _slot_of(self, trial: int) -> _Slot | None:
        return next((slot for slot in self._slots if slot.job is not None and slot.job.trial == trial), None)

    def _spawn(self, index: int) -> WorkerProcess:
        return WorkerProcess(self._program, self._resources[index])

    def _send_job(self, slot: _Slot) -> None:
        slot.sent = slot.heard = time.monotonic()
        slot.worker.send(slot.line)
        slot.line = b""
        if slot.stopping and slot.job is not None:
            self._send_stop(slot, slot.job.trial)

    def _send_stop(self, slot: _Slot, trial: int) -> None:
        slot.worker.send(encode({"is": "stop", "trial": trial}, where="stop"))

    def _listen(self, slot: _Slot) -> None:
        messages = slot.worker.receive()
        if messages is None:
            self._selector.unregister(slot.worker.socket)
            self._dismiss(slot)
            return
        for message in messages:
            self._take(slot, message)

    def _take(self, slot: _Slot, message: dict[str, Any]) -> None:
        slot.heard = time.monotonic()
        match message["is"]:
            case "ready":
                slot.ready, slot.failed_starts = True, 0
                if slot.job is not None and not slot.leaving:
                    self._send_job(slot)
            case "broken":
                self._cannot_start(message["reason"])
            case kind if slot.job is not None and slot.job.trial == message["trial"]:
                self._events.append(_event(kind, slot.index, message))
                if kind in ("finished", "failed"):
                    self._empty(slot)
                    if message.get("spoilt"):
                        self._dismiss(slot)

    def _watch(self, slot: _Slot) -> None:
        """Notices a worker that has ended, and a job or a start that has gone silent."""
        status = slot.worker.ended()
        if status is not None:
            self._replace(slot, status)
        elif slot.leaving:
            slot.worker.kill()
            return
        silence = time.monotonic() - slot.heard
        if not slot.ready:
            if silence > self._start_timeout:
                self._dismiss(slot)
        elif slot.job is not None and slot.job.timeout is not None and silence > slot.job.timeout:
            self._condemn(slot, "hang", f"no progress for {slot.job.timeout:g} s")

    def _condemn(self, slot: _Slot, kind: FailureKind, reason: str) -> None:
        slot.verdict = slot.verdict or (kind, reason)
        self._dismiss(slot)

    def _dismiss(self, slot: _Slot) -> None:
        """Kills the worker; the rest follows when the system says that it has ended."""
        slot.leaving = True
        slot.worker.kill()

    def _replace(self, slot: _Slot, status: str) -> None:
        for message in slot.worker.rest():
            self._take(slot, message)
        if slot.worker.socket in self._selector.get_map():
            self._selector.unregister(slot.worker.socket)
        slot.worker.close()
        if not slot.ready and slot.verdict is None:  # A job that waits for the worker waits for the next one.
            slot.failed_starts += 1
            if slot.failed_starts == START_ATTEMPTS:
                self._cannot_start(f"{START_ATTEMPTS} times in a row the process ended by {status}")
        elif slot.job is not None:
            self._fail(slot, *(slot.verdict or ("died", _death(status))))
        slot.ready = slot.leaving = False
        slot.heard = time.monotonic()
        slot.worker = self._spawn(slot.index)
        self._selector.register(slot.worker.socket, selectors.EVENT_READ, slot)

    def _fail(self, slot: _Slot, kind: FailureKind, reason: str) -> None:
        assert slot.job is not None
        seconds = time.monotonic() - slot.sent if slot.sent else 0.0
        self._events.append(Failed(trial=slot.job.trial, kind=kind, reason=reason, seconds=seconds))
        self._empty(slot)

    def _empty(self, slot: _Slot) -> None:
        slot.job, slot.verdict, slot.sent, slot.line = None, None, 0.0, b""

    def _cannot_start(self, reason: str) -> None:
        hint = f"The workers' log is {self._log}." if self._log is not None else "Give the executor a log to see more."
        self._broken = RunError(f"a worker cannot start: {reason}", where=self._program.task, hint=hint)


def _open_log(log: Path | str | None) -> int:
    """Descriptor for the workers' output; appending keeps lines of several workers whole."""
    try:
        return os.open(log if log is not None else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"the workers' log cannot be written: {error.strerror}", where=str(log)) from None


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
