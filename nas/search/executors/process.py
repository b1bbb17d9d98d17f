"""The driver's handle of one worker process: start it, talk to it, end it, and say how it ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nas.search.executors.base import Resources
from nas.search.executors.wire import Lines

BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from nas.search.executors.worker import main
main(sys.argv[2])
"""
SEND_TIMEOUT = 10.0
"""Seconds after which a worker that does not take a message counts as lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a worker process runs, and where its output goes (a file descriptor)."""

    task: str
    preload: str | None
    output: int
    folder: str
    path: tuple[str, ...]

    @classmethod
    def here(cls, task: str, preload: str | None, output: int) -> Program:
        """With this process's working folder and import path, as they are now."""
        return cls(task=task, preload=preload, output=output, folder=os.getcwd(),
                   path=tuple(os.path.abspath(entry) for entry in sys.path))  # fmt: skip


def environment(resources: Resources) -> dict[str, str]:
    """Variables that have to be set before a numeric library is imported."""
    threads = str(resources.threads)
    own = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    if resources.threads > 1:
        own["OMP_WAIT_POLICY"] = "PASSIVE"  # Spinning threads of one worker slow its neighbours 5-100 times.
    own["CUDA_VISIBLE_DEVICES"] = ",".join(resources.gpus)
    return {**os.environ, **own}


class WorkerProcess:
    """A fresh interpreter in a process group of its own, at the other end of a socket.

    Not a child of `multiprocessing`: that would run the user's main module again in every worker. The own group
    keeps the terminal's Ctrl-C away, and lets whatever a job has started be ended together with it.
    """

    lost = False

    def __init__(self, program: Program, resources: Resources) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(SEND_TIMEOUT)
        self._lines = Lines()
        settings = {"driver": os.getpid(), "cpus": resources.cpus, "task": program.task, "preload": program.preload}
        command = [sys.executable, "-c", BOOT, json.dumps(program.path), json.dumps(settings)]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=program.output, stderr=program.output, cwd=program.folder,
                env=environment(resources), process_group=0)  # fmt: skip
        self.pid = self._process.pid

    def send(self, line: bytes) -> None:
        """Sends an encoded message; a worker that does not take it is killed."""
        try:
            self.socket.sendall(line)
        except OSError:
            self.kill()

    def submit(self, line: bytes, files: tuple[str, ...]) -> None:
        """Sends an encoded job; its files lie where it looks for them."""
        self.send(line)

    def receive(self) -> list[dict[str, Any]] | None:
        """Messages that have come, without waiting; None when there will be no more."""
        chunk = self._chunk()
        return None if chunk == b"" else self._lines.feed(chunk or b"")

    def rest(self) -> list[dict[str, Any]]:
        """All that a worker which has ended had sent. A child of it may hold the socket open, so nobody waits."""
        messages: list[dict[str, Any]] = []
        while chunk := self._chunk():
            messages += self._lines.feed(chunk)
        return messages

    def _chunk(self) -> bytes | None:
        try:
            return self.socket.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def kill(self) -> None:
        """SIGKILL to the worker and all it has started; nothing once it has been reaped."""
        if self._process.returncode is None:
            self._kill_group()

    def ended(self) -> str | None:
        """How the process ended (``exit status 3``, ``SIGSEGV``), reaping it; None while it lives."""
        if self._process.returncode is None and self._process.poll() is not None:
            self._kill_group()  # Its children shall not outlive it; while there are any, no other group gets its id.
        status = self._process.returncode
        if status is None:
            return None
        return f"exit status {status}" if status >= 0 else signal_name(-status)

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self, timeout: float = 5.0) -> None:
        """Kills and reaps. What the kernel cannot end (stuck in a device) is left behind after ``timeout``."""
        self.kill()
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)


def signal_name(number: int) -> str:
    """``SIGSEGV`` for 11; the bare number for a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
