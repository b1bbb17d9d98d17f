"""The driver's door for processes of other machines that join a running search, and their workers as slots see them.

Only who knows the token comes in, and only a driver that knows it is let to say what runs there: both ends prove it by an
HMAC over each other's random numbers, so the token itself never travels. What is said afterwards is not encrypted: over a
network that others can read, take an SSH tunnel (``ssh -L``) or a VPN.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nas.errors import NasError, RunError, UsageError
from nas.search.executors.base import Resources
from nas.search.executors.carry import digest, pieces
from nas.search.executors.far import LOST_S, FarWorker, disagreement
from nas.search.executors.host import file_lines
from nas.search.executors.process import SEND_TIMEOUT
from nas.search.executors.wire import Lines, encode

TOKEN = "NAS_TOKEN"
"""Environment variable that may hold the token."""
SHAKE_S = 20.0
"""Seconds within which a guest has to prove itself."""
GREETING_LIMIT = 1 << 16
"""Bytes that a guest may send before it has."""


def proof(token: str, who: str, *nonces: str) -> str:
    """What only somebody with the token can answer to these numbers."""
    return hmac.new(token.encode(), "/".join((who, *nonces)).encode(), hashlib.sha256).hexdigest()


def read_token(given: str | None) -> str | None:
    """A token as it was typed, or from ``@FILE``, or from the environment; None where there is none. Raises UsageError."""
    if given is not None and given.startswith("@"):
        try:
            given = Path(given[1:]).expanduser().read_text().strip()
        except OSError as error:
            raise UsageError(f"the token's file cannot be read: {error.strerror}", where=given) from None
    token = given or os.environ.get(TOKEN) or None
    if token is not None and len(token) < 16:
        raise UsageError("the token is too short to protect anything", expected="16 characters or more")
    return token


def parse_address(text: str, *, host: str | None = None) -> tuple[str, int]:
    """``HOST:PORT``; with ``host``, ``PORT`` alone means that host. Raises UsageError."""
    name, _, port = text.rpartition(":")
    name = name.strip("[]") or host or ""
    if not (name and port.isdigit() and int(port) < 65536):
        raise UsageError("not an address", expected="HOST:PORT", got=text)
    return name, int(port)


class Talk:
    """Messages over a socket, one after another, for as long as two ends get to know each other."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._lines = Lines()
        self._come: list[dict[str, Any]] = []
        self.limit: int | None = GREETING_LIMIT

    def say(self, **message: Any) -> None:
        """Sends a message."""
        self.end.sendall(encode(message, where="greeting"))

    def hear(self, what: str) -> dict[str, Any]:
        """The next message, which has to be ``what``. Raises OSError or ValueError for anything else."""
        while not self._come:
            chunk = self.end.recv(1 << 16)
            if not chunk:
                raise ConnectionResetError("the other end has closed the connection")
            if self.limit is not None:
                self.limit -= len(chunk)
                if self.limit < 0:
                    raise ValueError("too much is said")
            self._come = self._lines.feed(chunk)
        message = self._come.pop(0)
        if not isinstance(message, dict) or message.get("is") != what:
            raise ValueError(str(message.get("reason", message))[:300] if isinstance(message, dict) else "no message")
        return message


class RemoteWorker(FarWorker):
    """A slot of a joined process: a connection of its own."""

    def __init__(self, end: socket.socket, resources: Resources) -> None:
        super().__init__()
        self.socket, self.resources = end, resources
        end.settimeout(SEND_TIMEOUT)

    def look(self) -> None:
        """Takes what has come, without waiting."""
        try:
            data = self.socket.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError as error:
            return self.lose(error.strerror or "the connection broke")
        if data:
            self.feed(data)
        else:
            self.lose("it has left")

    def ended(self) -> str | None:
        if not self.lost and time.monotonic() - self.heard > LOST_S:
            self.lose(f"no sign of life for {LOST_S:g} s")
        return super().ended()

    def transmit(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError as error:
            self.lose(error.strerror or "the connection broke")

    def close(self) -> None:
        self.lose("it was closed")
        self.socket.close()


class Endpoint:
    """Listens for processes that join, greets them in threads, and hands the executor workers that are ready to start.

    ``carry``: files and folders of files that payloads name, brought to every joining machine once. ``token``: None takes
    ``$NAS_TOKEN``, or draws one. Raises RunError when the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, *, token: str | None = None, carry: Sequence[Path | str] = ()) -> None:
        self.token = read_token(token) or secrets.token_urlsafe(24)
        self._pieces = pieces(carry)
        self._digest = digest(self._pieces)
        self.joined: SimpleQueue[RemoteWorker] = SimpleQueue()
        self.task: tuple[str, str | None] = ("", None)
        self.kind = ""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._listener = socket.create_server((host, port), family=family)
        except OSError as error:
            raise RunError(f"cannot listen there: {error.strerror}", where=f"endpoint={host}:{port}",
                           hint="Another process may have the port; port 0 takes a free one.") from None  # fmt: skip
        self.host, self.port = host, int(self._listener.getsockname()[1])
        self._rouse: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, address: str, *, carry: Sequence[Path | str] = ()) -> Endpoint:
        """At ``HOST:PORT``, or ``PORT`` on this machine's loopback."""
        return cls(*parse_address(address, host="127.0.0.1"), carry=carry)

    @property
    def command(self) -> str:
        """What to type on the machine that is to join."""
        host = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        return f"nas worker connect={f'[{host}]' if ':' in host else host}:{self.port} token={self.token}"

    def serve(self, task: str, preload: str | None, kind: str, rouse: Callable[[], None]) -> None:
        """Begins to listen for slots of a ``kind`` (cpu, gpu); ``rouse`` is called, from another thread, when one has joined."""
        self.task, self.kind, self._rouse = (task, preload), kind, rouse
        threading.Thread(target=self._accept, daemon=True, name="endpoint").start()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                end, _ = self._listener.accept()
                threading.Thread(target=self._greet, args=(end,), daemon=True, name="guest").start()

    def _greet(self, end: socket.socket) -> None:
        end.settimeout(SHAKE_S)
        talk = Talk(end)
        try:
            worker = self._admit(talk)
        except NasError as error:
            with suppress(OSError):
                talk.say(**{"is": "refused", "reason": str(error)})
            end.close()
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):  # A stranger; he is told nothing.
            end.close()
        else:
            self.joined.put(worker)
            self._rouse()

    def _admit(self, talk: Talk) -> RemoteWorker:
        ours = secrets.token_hex(16)
        talk.say(**{"is": "nas", "nonce": ours})
        guest = talk.hear("join")
        theirs, name = str(guest["nonce"]), str(guest["name"])[:100]
        if not hmac.compare_digest(str(guest["proof"]), proof(self.token, "worker", ours, theirs)):
            raise UsageError("the token is not this search's")
        if wrong := disagreement(guest["versions"], name):
            raise wrong
        held = Resources(**{**guest["resources"], "gpus": tuple(guest["resources"]["gpus"]), "cpus": ()})
        if held.kind != self.kind:
            raise UsageError(f"the search trains on {self.kind.upper()}s", got=f"slots with a {held.kind.upper()}",
                             hint="Join with gpus_per_trial=0." if self.kind == "cpu" else None)  # fmt: skip
        task, preload = self.task
        talk.say(**{"is": "welcome", "proof": proof(self.token, "driver", ours, theirs), "task": task, "preload": preload,
                    "digest": self._digest, "files": [[piece.path, piece.name] for piece in self._pieces]})  # fmt: skip
        if talk.hear("need")["files"]:
            for index, piece in enumerate(self._pieces):
                for line in file_lines(str(piece.source), str(index)):
                    talk.end.sendall(line)
        talk.hear("ready")
        return RemoteWorker(talk.end, replace(held, device=f"{held.device}@{name}"))

    def close(self) -> None:
        """Nobody comes in any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def resources_of(held: Resources) -> Mapping[str, Any]:
    """What a joining slot says that it holds."""
    return {"device": held.device, "kind": held.kind, "fraction": held.fraction, "gpus": list(held.gpus),
            "threads": held.threads}  # fmt: skip
