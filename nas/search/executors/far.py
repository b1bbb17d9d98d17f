"""A worker on another machine, as the driver sees it: a :class:`~.host.Host` at the other end of a link."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.search.executors.host import ARRIVING, file_lines, versions, write_chunk
from nas.search.executors.wire import Lines, encode

BEAT_S = 2.0
"""Seconds after which a host that has nothing to say says so."""
LOST_S = 10.0
"""Seconds without a sign of life after which a host counts as lost."""


def disagreement(theirs: Mapping[str, str], who: str) -> RunError | None:
    """What is wrong when driver and worker differ in versions that matter."""
    own = versions()
    differ = [name for name in own if own[name] != theirs.get(name)]
    if not differ:
        return None
    return RunError("driver and worker have different versions", where=who,
                    expected=", ".join(f"{name} {own[name]}" for name in differ),
                    got=", ".join(f"{name} {theirs.get(name)}" for name in differ),
                    hint="Install the same versions on every machine.")  # fmt: skip


class FarWorker(ABC):
    """Subclasses move bytes: they call :meth:`feed` with what comes and :meth:`lose` when nothing more will."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._inbox: list[dict[str, Any]] = []
        self._status: str | None = None
        self.why_lost = ""
        self.hopeless = False
        self._killed = False
        self._files: tuple[str, ...] = ()
        self.heard = time.monotonic()

    @abstractmethod
    def transmit(self, data: bytes) -> None:
        """Moves bytes to the host, without waiting for it."""

    @abstractmethod
    def close(self) -> None:
        """Ends the host, or its part for this driver."""

    @property
    def lost(self) -> bool:
        return bool(self.why_lost)

    def lose(self, why: str, *, hopeless: bool = False) -> None:
        """Nothing more will come; ``hopeless``: nor would it from another one."""
        self.hopeless = self.hopeless or hopeless
        self.why_lost = self.why_lost or why
        for path in self._files:
            Path(path + ARRIVING).unlink(missing_ok=True)
        self._files = ()  # They are another's now.

    def start(self) -> None:
        """Has the host start a process, the first one or the next."""
        self._status, self._killed = None, False
        self.send(encode({"is": "start"}, where="start"))

    def feed(self, data: bytes) -> None:
        """Takes what has come from the host."""
        self.heard = time.monotonic()
        for message in self._lines.feed(data):
            match message["is"]:
                case "ended":
                    self._status = message["status"]
                case "file":
                    self._keep(message)
                case "beat":
                    pass
                case _:
                    self._inbox.append(message)

    def _keep(self, message: dict[str, Any]) -> None:
        """A file of the present job; a host writes no other."""
        if message["path"] in self._files:
            path = Path(message["path"])
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_chunk(message, path)
            except OSError as error:
                raise RunError(f"a file from a worker cannot be written: {error.strerror}", where=message["path"]) from None

    def send(self, line: bytes) -> None:
        if not self.lost:
            self.transmit(line)

    def submit(self, line: bytes, files: tuple[str, ...]) -> None:
        self._files = files
        for path in files:
            for chunk in file_lines(path, path):
                self.send(chunk)
        self.send(encode({**json.loads(line), "files": list(files)}, where="job"))

    def receive(self) -> list[dict[str, Any]] | None:
        messages, self._inbox = self._inbox, []
        return None if self.lost and not messages else messages

    def rest(self) -> list[dict[str, Any]]:
        messages, self._inbox = self._inbox, []
        return messages

    def ended(self) -> str | None:
        if self.lost:
            return f"the loss of its machine: {self.why_lost}"
        return self._status

    def kill(self) -> None:
        if not self._killed:
            self._killed = True
            self.send(encode({"is": "kill"}, where="kill"))
