"""The process that joins a running search from another machine: offers slots, runs what the driver says, beats."""

from __future__ import annotations

import hmac
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from nas.errors import RunError
from nas.search.executors.base import Resources
from nas.search.executors.carry import Copies, is_whole
from nas.search.executors.far import BEAT_S
from nas.search.executors.host import Host, versions, write_chunk
from nas.search.executors.remote import SHAKE_S, Talk, proof, resources_of
from nas.search.executors.wire import encode

BEAT = encode({"is": "beat"}, where="beat")
KEEPALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""A driver's machine that is gone without a word is noticed after 25 s."""


def join(address: tuple[str, int], token: str, slots: Sequence[Resources], *, output: int,
         say: Callable[[str], None] = lambda _: None) -> None:  # fmt: skip
    """Offers the slots to the search at ``address`` and runs its jobs until it ends, or this process is interrupted.

    Raises RunError when nobody is there, the token is refused, the driver cannot prove that it knows it, or versions differ.
    """
    guests: list[Guest] = []
    try:
        for slot in slots:  # One after another: the first one's files are there for the others.
            guest = Guest(address, token, slot, output)
            guests.append(guest)
            guest.run()
        say(f"joined {address[0]}:{address[1]} with {len(slots)} slot{'s' * (len(slots) > 1)}")
        for guest in guests:
            guest.wait()
        say("the search has ended, or has let this machine go")
    finally:
        for guest in guests:
            guest.close()


class Guest:
    """One slot's connection, and the host of its worker process."""

    def __init__(self, address: tuple[str, int], token: str, held: Resources, output: int) -> None:
        self._where = f"{address[0]}:{address[1]}"
        try:
            self._end = socket.create_connection(address, timeout=SHAKE_S)
        except OSError as error:
            raise RunError(f"no search answers: {error.strerror or error}", where=self._where) from None
        talk = Talk(self._end)
        try:
            welcome = self._greet(talk, token, held)
            self._copies = self._copy(talk, welcome)
            talk.say(**{"is": "ready"})
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._end.close()
            raise RunError("the search does not take this machine", where=self._where, got=str(error)) from None
        except RunError:
            self._end.close()
            raise
        self._end.settimeout(None)
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            if hasattr(socket, option):
                self._end.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        self._host = Host(welcome["task"], welcome["preload"], held, output=output, copies=self._copies.table)
        self._begun, self._ended = threading.Event(), threading.Event()

    def _greet(self, talk: Talk, token: str, held: Resources) -> dict[str, Any]:
        theirs, ours = talk.hear("nas")["nonce"], secrets.token_hex(16)
        talk.say(**{"is": "join", "nonce": ours, "proof": proof(token, "worker", theirs, ours), "versions": versions(),
                    "resources": resources_of(held), "name": socket.gethostname()})  # fmt: skip
        welcome = talk.hear("welcome")
        if not hmac.compare_digest(welcome["proof"], proof(token, "driver", theirs, ours)):
            raise RunError("what answers there does not know the token", where=self._where)
        return welcome

    def _copy(self, talk: Talk, welcome: dict[str, Any]) -> Copies:
        """The files that the search needs everywhere, sent unless this machine has them."""
        files: list[list[str]] = welcome["files"]
        needed = bool(files) and not is_whole(welcome["digest"])
        talk.say(**{"is": "need", "files": needed})
        talk.limit = None
        coming = Path(tempfile.mkdtemp(prefix="nas-coming-"))
        try:
            for index in range(len(files) if needed else 0):
                more = True
                while more:
                    chunk = talk.hear("file")
                    more = chunk["more"]
                    write_chunk(chunk, coming / str(index))
            fetched = [(path, name, partial((coming / str(i)).read_bytes)) for i, (path, name) in enumerate(files)]
            return Copies(welcome["digest"], fetched)
        finally:
            shutil.rmtree(coming, ignore_errors=True)

    def run(self) -> None:
        """Serves the driver in two threads, one a direction."""
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def wait(self) -> None:
        """Until the driver has gone."""
        self._ended.wait()

    def _read(self) -> None:
        with suppress(OSError):
            while data := self._end.recv(1 << 20):
                self._host.feed(data)
                self._begun.set()
        self._ended.set()
        self._begun.set()

    def _write(self) -> None:
        self._begun.wait()  # Until the driver is past the greeting, and reads on.
        with suppress(OSError):
            while not self._ended.is_set():
                self._end.sendall(self._host.drain(BEAT_S) or BEAT)
        self._ended.set()

    def close(self) -> None:
        """Leaves the search, and ends what runs."""
        self._ended.set()
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
        self._host.close()
        self._copies.close()
