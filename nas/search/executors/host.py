"""The far end of a slot on another machine: hosts one worker process and does what the driver says over a link.

Lines go both ways as :mod:`.wire` has them. From the driver come ``start``, ``kill`` and ``file`` for the host, ``job`` and
``stop`` for its worker; back go the worker's own messages, ``file``, and ``ended`` when the process has ended. The driver
says when the next process is to start, so no message for one process ever reaches another.
"""

from __future__ import annotations

import math
import os
import platform
import select
import shutil
import socket
import threading
import time
from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nas.search.executors.base import Resources
from nas.search.executors.carry import Scratch
from nas.search.executors.process import Program, WorkerProcess
from nas.search.executors.wire import Lines, encode

FILE_LIMIT = 256 * 2**20
"""Bytes of a file that a job may send back."""
CHUNK = 4 * 2**20
"""Bytes of a file that travel in one message."""
BACK_EVERY_S, BACK_PAUSE = 60.0, 9.0
"""Seconds between two times that the files of a job which goes on are brought back, and at least so many times what the last ones
took to leave: on a slow link they are under way for a tenth of the time."""
ARRIVING = ".arriving"
"""What the name of a file ends with that is not whole yet."""
LOOK, REAP = 0.25, 0.005
"""Seconds between looks at a process that says nothing, and at one that has closed its socket but is not reaped yet."""


def versions() -> dict[str, str]:
    """What driver and workers have to agree on. The local part of a version (``+cpu``) may differ."""
    found = {"python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("nas", "torch"):
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def file_lines(path: str, there: str) -> list[bytes]:
    """The file at ``path`` as messages, under the name it has at the other end; none where it does not exist."""
    lines: list[bytes] = []
    try:
        with open(path, "rb") as file:
            more = True
            while more:
                chunk = file.read(CHUNK)
                more = len(chunk) == CHUNK
                message = {"is": "file", "path": there, "first": not lines, "more": more, "data": b64encode(chunk).decode()}
                lines.append(encode(message, where=path))
    except FileNotFoundError:
        return []
    return lines


def write_chunk(message: Mapping[str, Any], path: Path) -> None:
    """Adds a ``file`` message to the file that it is part of, which appears at ``path`` when it is whole."""
    partial = path.with_name(path.name + ARRIVING)
    with partial.open("wb" if message["first"] else "ab") as file:
        file.write(b64decode(message["data"]))
    if not message["more"]:
        partial.replace(path)


class Host:
    """One worker process at the far end of a link. :meth:`feed` and :meth:`drain` are called from a thread each.

    ``copies``: paths of the driver's to those of their copies here, as payloads are rewritten.
    """

    def __init__(self, task: str, preload: str | None, resources: Resources, *, output: int,
                 copies: Mapping[str, str]) -> None:  # fmt: skip
        self._program = Program.here(task, preload, output)
        self._resources, self._copies = resources, dict(copies)
        self._scratch = Scratch()
        self._lines = Lines()
        self._worker: WorkerProcess | None = None
        self._files: dict[str, Path] = {}
        self._folders: dict[str, Path] = {}
        self._before: dict[str, tuple[int, ...] | None] = {}
        self._brought = self._due = 0.0
        self._out: deque[bytes] = deque()
        self._lock, self._draining = threading.Lock(), threading.Lock()
        self._closed, self._trouble = False, ""
        self._wake, self._waker = socket.socketpair()
        self._wake.setblocking(False)

    def feed(self, data: bytes) -> None:
        """Does what the driver says."""
        with self._lock:
            for message in self._lines.feed(data):
                if not self._closed:
                    try:
                        self._obey(message)
                    except OSError as error:
                        self._cannot(message, error)

    def _cannot(self, message: dict[str, Any], error: OSError) -> None:
        """This machine does not let the host do it: a disk is full, or there are too many processes."""
        reason = f"{error.strerror} ({error.filename})" if error.filename else str(error)
        match message["is"]:
            case "file":
                self._trouble = reason
            case "start":
                self._out.append(encode({"is": "broken", "reason": reason}, where="broken"))
            case "job":
                self._refuse(message["trial"], reason)
        self._waker.send(b".")

    def _refuse(self, trial: int, reason: str) -> None:
        self._out.append(encode({"is": "failed", "trial": trial, "kind": "error", "seconds": 0.0, "detail": "",
                                 "reason": f"its files cannot be written on its machine: {reason}"}, where="failed"))  # fmt: skip
        self._trouble = ""
        self._forget()

    def _obey(self, message: dict[str, Any]) -> None:
        match message["is"]:
            case "start":
                self._worker = WorkerProcess(self._program, self._resources)
                self._waker.send(b".")
            case "file":
                write_chunk(message, self._place(message["path"]))
            case "kill" if self._worker is not None:
                self._worker.kill()
            case "job" if self._trouble:
                self._refuse(message["trial"], self._trouble)
                self._waker.send(b".")
            case "job" if self._worker is not None:
                self._begin(message, self._worker)
            case "stop" if self._worker is not None:
                self._worker.send(encode(message, where="stop"))

    def _place(self, path: str) -> Path:
        """Where a file of the driver's lies here: those of one folder in one, as a payload may name that too."""
        if path not in self._files:
            there = str(Path(path).parent)
            folder = self._folders.setdefault(there, self._scratch.folder / str(len(self._folders)))
            folder.mkdir(exist_ok=True)
            self._files[path] = folder / Path(path).name
        return self._files[path]

    def _begin(self, job: dict[str, Any], worker: WorkerProcess) -> None:
        places = {path: self._place(path) for path in job.pop("files")}
        self._before = {path: _stamp(place) for path, place in places.items()}
        self._due = time.monotonic() + BACK_EVERY_S
        table = {**{path: str(place) for path, place in self._folders.items()}, **self._copies,
                 **{path: str(place) for path, place in places.items()}}  # fmt: skip
        worker.send(encode({**job, "payload": rewritten(job["payload"], table)}, where="job"))

    def drain(self, wait: float) -> bytes:
        """What there is to tell the driver; waits up to ``wait`` seconds for something."""
        with self._draining:
            return self._drain(time.monotonic() + wait)

    def _drain(self, deadline: float) -> bytes:
        while not self._out and not self._closed and (left := deadline - time.monotonic()) > 0:
            worker = self._worker
            ends = [self._wake] if worker is None else [self._wake, worker.socket]
            ready, _, _ = select.select(ends, [], [], min(left, LOOK))
            if self._wake in ready:
                self._wake.recv(64)
            if worker is not None:
                with self._lock:
                    ending = self._listen(worker, worker.socket in ready)
                if ending and not self._out:
                    time.sleep(REAP)
        frames, size = [], 0
        while self._out and size < CHUNK:
            frames.append(self._out.popleft())
            size += len(frames[-1])
        if self._due == math.inf and not self._out:
            now = time.monotonic()
            self._due = now + max(BACK_EVERY_S, BACK_PAUSE * (now - self._brought))
        return b"".join(frames)

    def _listen(self, worker: WorkerProcess, readable: bool) -> bool:
        """Takes what the worker says; whether it will say no more."""
        messages = worker.receive() if readable else []
        for message in messages or ():
            self._tell(message)
        # A child of the worker's may hold its socket open, so its end alone does not tell.
        if (status := worker.ended()) is not None:
            for message in worker.rest():
                self._tell(message)
            worker.close()
            self._worker = None
            self._bring_back()  # A checkpoint outlives the job that was killed.
            self._forget()
            self._out.append(encode({"is": "ended", "status": status}, where="ended"))
        return messages is None

    def _tell(self, message: dict[str, Any]) -> None:
        if message["is"] in ("finished", "failed"):
            large = self._bring_back()
            if large and message["is"] == "finished":
                message = {"is": "failed", "trial": message["trial"], "kind": "error", "reason": large,
                           "seconds": message["seconds"], "detail": ""}  # fmt: skip
            self._forget()
        self._out.append(encode(message, where="message"))
        if message["is"] == "progress" and time.monotonic() >= self._due:
            self._brought, self._due = time.monotonic(), math.inf  # until these have left
            self._bring_back()  # What is too large is told at the job's end.

    def _bring_back(self) -> str:
        """Queues what the job has written since the last time; why not, where a file is too large.

        They are read from the last to the first and sent from the first to the last. So the driver never has a file without those
        that were written before it, though the job writes on and the link may break.
        """
        read, stamps = list[list[bytes]](), dict[str, tuple[int, ...]]()
        for path, before in reversed(self._before.items()):
            place = self._files[path]
            now = _stamp(place)
            if now is None or now == before:
                continue
            if now[1] > FILE_LIMIT:
                return f"{place.name} has {now[1] / 2**20:.0f} MiB, more than the {FILE_LIMIT // 2**20} MiB that travel"
            read.append(file_lines(str(place), path))
            stamps[path] = now
        for lines in reversed(read):
            self._out.extend(lines)
        self._before |= stamps
        return ""

    def _forget(self) -> None:
        """Nothing of a job stays on this disk."""
        for folder in self._folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        self._files, self._folders, self._before = {}, {}, {}

    def close(self) -> None:
        """Kills the process and removes what it has written."""
        self._closed = True
        self._waker.send(b".")
        with self._draining, self._lock:
            if self._worker is not None:
                self._worker.close()
            self._wake.close()
            self._waker.close()
            self._scratch.close()


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What differs, with the size second, when a file was written again: the clock of a disk has steps of some milliseconds."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def rewritten(value: Any, table: Mapping[str, str]) -> Any:
    """A plain value in which every string that is a key of the table is replaced."""
    if isinstance(value, str):
        return table.get(value, value)
    if isinstance(value, list):
        return [rewritten(item, table) for item in value]
    if isinstance(value, dict):
        return {key: rewritten(item, table) for key, item in value.items()}
    return value
