"""The process that runs jobs, one after another. Started by :mod:`.process` with its end of a socket as stdin.

The main thread runs the task. A second thread listens: it takes jobs and stop requests, and when the driver is gone it
takes the whole process group down, in the middle of whatever the task does. Stdout and stderr are the log.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from queue import SimpleQueue
from typing import Any, NoReturn, cast

from nas.search.executors.base import Task, Values
from nas.search.executors.task import call, failure, load
from nas.search.executors.wire import Lines, encode


def main(settings: str) -> None:
    """Serves until the driver goes away. ``settings``: JSON of ``driver`` (pid), ``cpus``, ``task``, ``preload``."""
    told = json.loads(settings)
    _settle(told["cpus"])
    link = Link(_take_socket(), told["driver"])
    try:
        models = _preload(told["preload"])
        task = cast(Task, load(told["task"]))
        link.send({"is": "ready", "models": models})
    except BaseException as error:
        failed = failure(error)
        _log(failed.detail)
        link.send({"is": "broken", "reason": failed.reason})
        leave()
    while _run(task, link.jobs.get(), link):
        pass
    leave()


def _settle(cpus: Sequence[int]) -> None:
    """Makes the process a quiet member of the machine."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which then stops or ends its workers.
    for stream in (sys.stdout, sys.stderr):
        cast(Any, stream).reconfigure(line_buffering=True)
    faulthandler.enable()
    if cpus and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, cpus)
    # When memory runs out the kernel should take a worker, which is replaced, and not the driver.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")


def _take_socket() -> socket.socket:
    """The socket moved away from stdin, where a task that reads input would meet it."""
    link = socket.socket(fileno=os.dup(0))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    return link


def _preload(path: str | None) -> Mapping[str, str]:
    """Imports a module, or calls a function; what that tells of the models here."""
    if not path:
        return {}
    if ":" in path:
        return load(path)() or {}
    import_module(path)
    return {}


class Link:
    """The worker's end of the socket, and the thread that listens on it."""

    def __init__(self, end: socket.socket, driver: int) -> None:
        self.jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.asked_to_stop: set[int] = set()
        self._socket, self._driver = end, driver
        self._sending = threading.Lock()
        threading.Thread(target=self._listen, daemon=True, name="driver").start()

    def send(self, message: Values) -> None:
        """Sends one message; UsageError when it is not plain. Ends the process when nobody is there to read it."""
        line = encode(message, where="a message of the task to its driver")
        try:
            with self._sending:
                self._socket.sendall(line)
        except OSError:
            leave()

    def _listen(self) -> None:
        lines = Lines()
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        try:
            # The parent is asked for too: a fork of the driver may hold the driver's end open after its death.
            while os.getppid() == self._driver:
                if readable.poll(1000):
                    chunk = self._socket.recv(1 << 16)
                    if not chunk:
                        break
                    for message in lines.feed(chunk):
                        self._take(message)
        finally:
            leave()

    def _take(self, message: dict[str, Any]) -> None:
        if message["is"] == "stop":
            self.asked_to_stop.add(message["trial"])
        else:
            self.asked_to_stop.discard(message["trial"])  # A late request to an earlier run of the same trial.
            self.jobs.put(message)


def leave() -> NoReturn:
    """Ends this process and all it has started, at once."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _run(task: Task, job: dict[str, Any], link: Link) -> bool:
    """Runs one job and tells how it ended; False when the process should not take another."""
    trial = job["trial"]

    def report(values: Values) -> bool:
        link.send({"is": "progress", "trial": trial, "values": dict(values)})
        return trial in link.asked_to_stop

    link.send({"is": "started", "trial": trial, "time": time.time()})
    begin = time.perf_counter()
    try:
        result = call(task, job["payload"], report)
        seconds = time.perf_counter() - begin
        link.send({"is": "finished", "trial": trial, "result": dict(result), "seconds": seconds})
    except BaseException as error:
        failed = failure(error)
        seconds = time.perf_counter() - begin
    else:
        return True
    _log(f"trial {trial} failed after {seconds:.1f} s\n{failed.detail}")
    link.send({"is": "failed", "trial": trial, "kind": failed.kind, "reason": failed.reason, "seconds": seconds,
               "detail": failed.detail, "spoilt": failed.spoilt})  # fmt: skip
    _tidy()
    return not failed.spoilt


def _tidy() -> None:
    """Gives back what the frames of a failed job held, so that the next one, or a neighbour on the GPU, can have it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _log(text: str) -> None:
    sys.stderr.write(f"[worker {os.getpid()}] {text.rstrip()}\n")
