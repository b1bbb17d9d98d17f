"""Asking another machine to measure: a measuring server over HTTP, or a worker at the other end of ``ssh``."""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
import re
import shlex
import ssl
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit

from nas.errors import MeasureError, UsageError
from nas.measure.wire import PROTOCOL, answer_of, end_process, write_frame

PORT = 8764
SCHEMES = ("http", "https", "ssh")
CONTENT_TYPE = "application/x-nas-measure"
"""Not a type that a web page may send elsewhere unasked."""

CONNECT_S, ANSWER_S = 15.0, 300.0
"""How long a connection and, after the wait for the device, a measurement may take."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """``http[s]://host[:port][?device=cuda:0]`` or ``ssh://[user@]host[:port][/path/to/nas][?device=cuda:0]``."""

    text: str
    scheme: str
    host: str
    port: int | None
    user: str | None
    command: str
    device: str | None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError for anything else; a name never begins with a dash, which ``ssh`` would take for an option."""
        try:
            parts = urlsplit(text)
            port, words = parts.port, parse_qs(parts.query, strict_parsing=bool(parts.query))
        except ValueError as error:
            raise UsageError(f"this is no target: {error}", got=f"target={text}") from None
        host, ssh = parts.hostname or "", parts.scheme == "ssh"
        fine = parts.scheme in SCHEMES and (_NAME.fullmatch(host) or _is_address(host)) and not parts.fragment
        fine = fine and {*words} <= {"device"} and (ssh or parts.path in {"", "/"}) and not parts.password
        if not fine or (parts.username and not (ssh and _NAME.fullmatch(parts.username))):
            raise UsageError("this is no target to measure on", got=f"target={text}",
                             expected="http://HOST:PORT or ssh://USER@HOST[/PATH/TO/nas], perhaps with ?device=cuda:0")
        command = parts.path if ssh and len(parts.path) > 1 else "nas"
        return cls(text=text, scheme=parts.scheme, host=host, port=port, user=parts.username, command=command,
                   device=words["device"][-1] if words else None)  # fmt: skip


def _is_address(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether only this machine is reached by that name."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def find_token(file: str | None = None) -> str | None:
    """The server's token: of the file, else of NAS_TOKEN, else of the file that NAS_TOKEN_FILE names; None without one.

    Raises UsageError for a file that cannot be read or is empty.
    """
    if file is None and (token := os.environ.get("NAS_TOKEN")):
        return token
    file = file or os.environ.get("NAS_TOKEN_FILE")
    if file is None:
        return None
    try:
        token = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise UsageError(f"the token cannot be read: {getattr(error, 'strerror', None) or error}", where=file) from None
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError("a token is one line of plain characters", where=file, hint="openssl rand -hex 32 makes a good one.")
    return token


class Remote(Protocol):
    """One that answers questions; ``seconds`` is how long an answer may take."""

    def ask(self, head: Mapping[str, Any], body: bytes, seconds: float) -> dict[str, Any]:
        """The answer. Raises the other side's error, and MeasureError when there is no answer."""
        ...


def connect(address: Address) -> Remote:
    """The one at that address; an ssh connection is kept as long as this process lives, and made again when it broke."""
    return _ssh(address) if address.scheme == "ssh" else Http(address)


class Http:
    """A server; every question is a connection of its own, which the server takes for our still being interested."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def ask(self, head: Mapping[str, Any], body: bytes, seconds: float) -> dict[str, Any]:
        """See :class:`Remote`."""
        where = self._address.text
        with tempfile.SpooledTemporaryFile(max_size=1 << 24) as frame:
            write_frame(frame, head, body)
            length = frame.tell()
            frame.seek(0)
            headers = {"Content-Type": CONTENT_TYPE, "Content-Length": str(length)}
            if token := find_token():
                headers["Authorization"] = f"Bearer {token}"
            connection = self._connection(CONNECT_S)
            try:
                connection.connect()
                connection.sock.settimeout(seconds)
                connection.request("POST", "/", body=frame, headers=headers)
                line = connection.getresponse().read()
            except TimeoutError:
                raise MeasureError("the measuring server did not answer in time", where=where,
                                   expected=f"within {seconds:g} s") from None  # fmt: skip
            except (OSError, http.client.HTTPException) as error:
                raise MeasureError(f"the measuring server cannot be reached: {error or type(error).__name__}", where=where,
                                   hint="Start it there with nas measure-server.") from None  # fmt: skip
            finally:
                connection.close()
        return answer_of(line, where)

    def _connection(self, seconds: float) -> http.client.HTTPConnection:
        host, port = self._address.host, self._address.port
        if self._address.scheme == "https":
            return http.client.HTTPSConnection(host, port or 443, timeout=seconds, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port or PORT, timeout=seconds)


@lru_cache(maxsize=8)
def _ssh(address: Address) -> Ssh:
    return Ssh(address)


class Ssh:
    """A worker that ``ssh`` starts on the other machine, and that ends with the connection.

    It may be sent sources: who can log in can run code there anyhow. NAS_SSH_COMMAND replaces ``ssh`` (as
    GIT_SSH_COMMAND does for git), e.g. ``ssh -F FILE``; keys and hosts come from the user's own configuration.
    """

    def __init__(self, address: Address) -> None:
        self._address, self._turn = address, threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._said: deque[bytes] = deque(maxlen=5)

    def ask(self, head: Mapping[str, Any], body: bytes, seconds: float) -> dict[str, Any]:
        """See :class:`Remote`."""
        with self._turn:
            if self._process is None or self._process.poll() is not None:
                self.close()
                self._process = self._start()
            return answer_of(self._exchange(self._process, head, body, seconds), self._address.text)

    def close(self) -> None:
        """End the connection, where there is one."""
        if self._process is not None:
            end_process(self._process)
            self._process = None

    def _start(self) -> subprocess.Popen[bytes]:
        a = self._address
        ssh = shlex.split(os.environ.get("NAS_SSH_COMMAND", "ssh"))
        words = [*ssh, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_S:g}", "-o", "ServerAliveInterval=15",
                 *(["-p", str(a.port)] if a.port else []), "--", f"{a.user}@{a.host}" if a.user else a.host,
                 f"{shlex.quote(a.command)} measure-server --stdio --allow"]  # fmt: skip
        try:
            process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except OSError as error:
            raise MeasureError(f"ssh cannot be started: {error.strerror}", where=a.text) from None
        assert process.stderr is not None
        self._said.clear()
        self._listener = threading.Thread(target=self._said.extend, args=(process.stderr,), daemon=True)
        self._listener.start()
        greeting = {"ask": "hello", **({"device": a.device} if a.device else {})}
        answer_of(self._exchange(process, greeting, b"", CONNECT_S + 60), a.text)
        return process

    def _exchange(self, process: subprocess.Popen[bytes], head: Mapping[str, Any], body: bytes, seconds: float) -> bytes:
        """One question and the line of its answer; what a login script prints before is skipped."""
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(seconds, process.kill)
        clock.start()
        try:
            write_frame(process.stdin, head, body)
            while line := process.stdout.readline():
                if line.startswith(b"{"):
                    return line
        except BrokenPipeError:
            pass
        finally:
            late = not clock.is_alive()
            clock.cancel()
        process.kill()
        self._listener.join(1)
        end_process(process)
        said = self._said[-1].decode("utf-8", "replace").strip() if self._said else "it ended without a word"
        reason = f"no answer within {seconds:g} s" if late else said
        raise MeasureError(f"nas does not answer over ssh: {reason}", where=self._address.text,
                           hint="ssh must log in without a password, and find nas there: ssh://HOST/PATH/TO/nas names it.")


def remote_status(address: Address) -> dict[str, Any]:
    """What is there: device, its name, runtimes, formats taken, and of a server the length of its queue.

    Raises MeasureError when it cannot be reached, refuses the token, or speaks another protocol.
    """
    question = {"ask": "hello", **({"device": address.device} if address.device else {})}
    status = connect(address).ask(question, b"", CONNECT_S + 60)
    if status.get("protocol") != PROTOCOL:
        raise MeasureError("the two sides speak different protocols", where=address.text, expected=f"protocol {PROTOCOL}",
                           got=json.dumps(status)[:80], hint="Install the same version of nas on both.")  # fmt: skip
    return status
