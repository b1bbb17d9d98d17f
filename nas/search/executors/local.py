"""Processes on this machine: one warm worker a slot, replaced when it dies; and those of machines that join."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.search.executors.claims import take
from nas.search.executors.pool import Slot, WorkerPool
from nas.search.executors.process import Program, WorkerProcess
from nas.search.executors.remote import Endpoint, RemoteWorker
from nas.search.executors.slots import Machine
from nas.search.executors.task import check_path


class LocalExecutor(WorkerPool):
    """Runs the task ``package.module:function`` in worker processes that stay warm between jobs.

    Args:
        task: import path of the function; imported in the workers only.
        workers, threads, gpus_per_trial: how the machine is divided (see :func:`.slots.divide`); None fills what is free.
        gpus: ids of the GPUs to use, None for all that are visible.
        preload: ``package.module`` to import or ``package.module:function`` to call when a worker starts. What the function
            returns, if anything, becomes ``Resources.models``.
        log: file to which everything is appended that workers print; None discards it.
        endpoint: where processes of other machines may join with slots of their own, until they leave. Closed with the
            executor.
        claim: what the slots have is claimed, so that other searches of this user on this machine take something else;
            ``shared`` tells in a line which cores others use too. False: slots that hardly do anything, on any core.
        start_timeout: seconds within which a worker has to be ready, imports and preload included.

    Raises UsageError for what the machine does not have, RunError when the log cannot be written.
    """

    def __init__(self, task: str, *, workers: int | None = None, threads: int | None = None,
                 gpus_per_trial: float | None = None, gpus: Sequence[str] | None = None, preload: str | None = None,
                 log: Path | str | None = None, endpoint: Endpoint | None = None, claim: bool = True,
                 start_timeout: float = 300.0) -> None:  # fmt: skip
        hint = "Give the executor a log to see more." if log is None else f"The workers' log is {log}."
        super().__init__(check_path(task), start_timeout=start_timeout, log_hint=hint)
        machine = Machine.here(gpus_per_trial=gpus_per_trial, gpus=gpus)
        self._program = Program.here(task, preload, open_log(log))
        self._claim, self.shared = None, ""
        if claim:
            slots, self._claim, self.shared = take(machine, workers=workers, threads=threads, gpus_per_trial=gpus_per_trial)
        else:
            slots = machine.divide(workers=workers, threads=threads, gpus_per_trial=gpus_per_trial)
            slots = tuple(replace(held, cpus=()) for held in slots)
        self._resources += slots
        for index, held in enumerate(self._resources):
            slot = Slot(index, worker := WorkerProcess(self._program, held))
            self._slots.append(slot)
            self._attend(slot, worker.socket)
        self._endpoint = endpoint
        if endpoint is not None:
            self._door, rouse = socket.socketpair()
            self._door.setblocking(False)
            self._selector.register(self._door, selectors.EVENT_READ, self._open_door)
            self._rouse = rouse
            endpoint.serve(task, preload, self._resources[0].kind, lambda: rouse.sendall(b"."))

    def _open_door(self) -> None:
        """Gives those who have joined a slot: that of one who has gone, or a new one."""
        assert self._endpoint is not None
        with suppress(BlockingIOError):
            self._door.recv(64)
        while not self._endpoint.joined.empty():
            worker = self._endpoint.joined.get()
            slot = next((slot for slot in self._slots if not slot.open), None)
            if slot is None:
                slot = Slot(len(self._slots), worker)
                self._slots.append(slot)
                self._resources.append(worker.resources)
            slot.worker, slot.open, slot.failed_starts = worker, True, 0
            slot.heard = worker.heard = time.monotonic()
            self._resources[slot.index] = worker.resources
            self._attend(slot, worker.socket)
            worker.start()

    def _attend(self, slot: Slot, end: socket.socket) -> None:
        self._selector.register(end, selectors.EVENT_READ, partial(self._hear, slot, end))

    def _hear(self, slot: Slot, end: Any) -> None:
        if isinstance(slot.worker, RemoteWorker):
            slot.worker.look()
            if slot.worker.lost:
                self._selector.unregister(end)
            return self._listen(slot)
        self._listen(slot)
        if slot.leaving:  # At its end a socket is readable for ever.
            self._selector.unregister(end)

    def _watch(self, slot: Slot) -> None:
        if slot.open:  # The others belonged to machines that have gone.
            super()._watch(slot)

    def _cannot_start(self, slot: Slot, reason: str) -> None:
        if isinstance(slot.worker, RemoteWorker):
            slot.worker.lose(f"its worker cannot start: {reason}")  # That is no reason to end a search here.
        else:
            super()._cannot_start(slot, reason)

    def _renew(self, slot: Slot) -> None:
        old = slot.worker
        if isinstance(old, RemoteWorker) and not old.lost:
            return old.start()
        assert isinstance(old, WorkerProcess | RemoteWorker)
        if old.socket in self._selector.get_map():
            self._selector.unregister(old.socket)
        old.close()
        if isinstance(old, RemoteWorker):
            slot.open = False
            return None
        slot.worker = worker = WorkerProcess(self._program, self._resources[slot.index])
        self._attend(slot, worker.socket)

    def _release(self) -> None:
        if self._endpoint is not None:
            self._endpoint.close()
            self._selector.unregister(self._door)
            self._door.close()
            self._rouse.close()
        if self._claim is not None:
            self._claim.close()
        os.close(self._program.output)


def open_log(log: Path | str | None) -> int:
    """Descriptor for the workers' output; appending keeps lines of several workers whole."""
    try:
        return os.open(log if log is not None else os.devnull, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"the workers' log cannot be written: {error.strerror}", where=str(log)) from None
