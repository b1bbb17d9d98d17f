"""``nas measure-server``: a queue in front of workers that measure exported networks, one at a time on every device.

Requests are the frames of :mod:`nas.measure.wire` in a POST; a child process (:mod:`nas.measure.worker`) answers each, so
that a crashing engine takes nothing else down. A client that goes is forgotten: its turn is given up, its measurement ended.
"""

from __future__ import annotations

import hmac
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

import nas
from nas.errors import MeasureError, NasError, UnsupportedError, UsageError
from nas.measure.remote import ANSWER_S, CONTENT_TYPE, is_loopback
from nas.measure.wire import CHUNK, answer_of, end_process, error_words, read_head, wait_of, write_frame

SILENCE_S, FINISH_S, POLL_S = 30.0, 10.0, 0.2
"""How long a client may take to send its next bytes, and to send all once it is refused; how often a waiting one is seen to."""

Gone = Callable[[], bool]


class Desk:
    """One device: who waits for it, in order, and the worker that measures there."""

    def __init__(self, device: str, *, allow: bool, most_waiting: int, seconds: float = ANSWER_S) -> None:
        self.device, self.measured = device, 0
        self._allow, self._most, self._seconds = allow, most_waiting, seconds
        self._tickets: deque[object] = deque()
        self._changed = threading.Condition()
        self._worker: subprocess.Popen[bytes] | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue, the one that is being answered included."""
        return len(self._tickets)

    def answer(self, head: Mapping[str, Any], frame: IO[bytes], gone: Gone) -> bytes | None:
        """The worker's answer to a frame when its turn has come; None when the client has ``gone``.

        Raises MeasureError when the queue is full, and when the worker ended or took too long.
        """
        ticket = object()
        with self._changed:
            if len(self._tickets) >= self._most:
                raise MeasureError("too many measurements are waiting", got=f"{len(self._tickets)} on {self.device}",
                                   hint="Try again later, or start the server with a longer queue=.")  # fmt: skip
            self._tickets.append(ticket)
        try:
            while True:
                if gone():
                    return None
                with self._changed:
                    if self._tickets[0] is ticket or self._changed.wait_for(lambda: self._tickets[0] is ticket, POLL_S):
                        break
            line = self._ask(frame, gone, self._seconds + wait_of(head))
            self.measured += line is not None and head.get("ask") == "measure"
            return line
        finally:
            with self._changed:
                self._tickets.remove(ticket)
                self._changed.notify_all()

    def _ask(self, frame: IO[bytes], gone: Gone, seconds: float) -> bytes | None:
        if self._worker is None or self._worker.poll() is not None:
            self.close()
            words = [sys.executable, "-m", "nas.measure.worker", *["--allow"] * self._allow, self.device]
            there = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part]
            path = os.pathsep.join([str(Path(nas.__file__).parents[1]), *map(os.path.abspath, there)])
            self._folder = tempfile.TemporaryDirectory(prefix="nas-worker-")  # with nothing in it that a network could name
            self._worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
                                            cwd=self._folder.name, env=os.environ | {"PYTHONPATH": path})  # fmt: skip
        worker, lines = self._worker, list[bytes]()
        exchange = threading.Thread(target=_exchange, args=(worker, frame, lines), daemon=True)
        exchange.start()
        end = time.monotonic() + seconds
        while exchange.is_alive() and time.monotonic() < end and not gone():
            exchange.join(POLL_S)
        if lines and lines[0].endswith(b"\n"):
            return lines[0]
        ended, late = worker.poll() if exchange.is_alive() else worker.wait(), time.monotonic() >= end
        worker.kill()
        exchange.join()
        self.close()
        if late or ended is not None:
            raise MeasureError("the worker took too long" if late else f"the worker ended while it measured (code {ended})",
                               where=self.device, expected=f"within {seconds:g} s" if late else None)  # fmt: skip
        return None

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            end_process(self._worker)
            self._folder.cleanup()
            self._worker = None


def _exchange(worker: subprocess.Popen[bytes], frame: IO[bytes], lines: list[bytes]) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        while chunk := frame.read(CHUNK):
            worker.stdin.write(chunk)
        worker.stdin.flush()
        lines.append(worker.stdout.readline())
    except (OSError, ValueError):  # it has ended; the caller sees that
        pass


class MeasureServer(ThreadingHTTPServer):
    """Listens on ``host:port`` (0: any free one) for who brings the ``token``; the first of ``devices`` is the default.

    Raises UsageError for another host than a loopback one without a token, for ``allow`` without a token, and where it
    cannot listen; MeasureError when there is no such device here.
    """

    daemon_threads = True

    def __init__(self, host: str, port: int, devices: Sequence[str], *, token: str | None = None, allow: bool = False,
                 most_bytes: int = 256 << 20, most_waiting: int = 64) -> None:  # fmt: skip
        if token is None and not is_loopback(host):
            raise UsageError("a server that others can reach needs a token", got=f"host={host}",
                             hint="Set NAS_TOKEN or token_file=FILE here and at the clients; openssl rand -hex 32 makes one.")
        if allow and token is None:
            raise UsageError("--allow lets clients run code here, so they need a token", hint="Set NAS_TOKEN or token_file=FILE.")
        if not 0 <= port < 1 << 16:
            raise UsageError("this is no port", expected="0 to 65535", got=port)
        self.token, self.allow, self.most_bytes = token, allow, most_bytes
        self.desks = {device: Desk(device, allow=allow, most_waiting=most_waiting) for device in devices}
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"the server cannot listen there: {reason}", got=f"{host}:{port}") from None
        try:
            self.about = {device: self._hello(desk) for device, desk in self.desks.items()}
        except NasError:
            self.server_close()
            raise

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = str(self.server_address[0]), self.server_address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _hello(self, desk: Desk) -> dict[str, Any]:
        with tempfile.TemporaryFile() as frame:
            write_frame(frame, {"ask": "hello"})
            frame.seek(0)
            return answer_of(desk.answer({}, frame, lambda: False) or b"", desk.device)

    def server_close(self) -> None:
        """Stop listening, and end the workers."""
        super().server_close()
        for desk in self.desks.values():
            desk.close()

    def reply(self, head: Mapping[str, Any], frame: IO[bytes], gone: Gone) -> bytes | None:
        """The answer to a request; None when nobody waits for it any more."""
        device = head.get("device", next(iter(self.desks)))
        desk = self.desks.get("cuda:0" if device == "cuda" and "cuda:0" in self.desks else str(device))
        if desk is None:
            raise MeasureError("this server does not measure there", expected=" or ".join(self.desks), got=str(device))
        if head.get("ask") == "hello":
            return _line({**self.about[desk.device], "waiting": desk.waiting, "measured": desk.measured})
        return desk.answer(head, frame, gone)


class _Handler(BaseHTTPRequestHandler):
    server: MeasureServer
    timeout = SILENCE_S
    server_version, sys_version = "nas", ""

    def do_POST(self) -> None:
        try:
            self._check()
            with tempfile.SpooledTemporaryFile(max_size=CHUNK) as frame:
                head = self._receive(frame)
                line = self.server.reply(head, frame, self._gone)
        except NasError as error:
            self._send(400, _line({"error": error_words(error)}))
            self._let_finish()
        except (TimeoutError, ConnectionError):
            self.close_connection = True
        else:
            if line is not None:
                self._send(422 if b'"error"' in line[:9] else 200, line)

    def _check(self) -> None:
        """Who asks, before anything that they sent is read."""
        brought = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.server.token is not None and not hmac.compare_digest(brought.encode(), self.server.token.encode()):
            raise MeasureError("the measuring server wants its token",
                               hint="Set NAS_TOKEN, or NAS_TOKEN_FILE to a file that holds it.")  # fmt: skip
        if self.headers.get("Content-Type") != CONTENT_TYPE:
            raise MeasureError("this is a measuring server", expected=CONTENT_TYPE, got=self.headers.get("Content-Type"))

    def _receive(self, frame: IO[bytes]) -> dict[str, Any]:
        """The whole request into the file, its head parsed."""
        text = self.headers.get("Content-Length", "")
        length = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # Python reads no longer ones
        if not 0 < length <= self.server.most_bytes:
            raise UnsupportedError("the network is too large for this server", got=f"{text[:20]} bytes",
                                   expected=f"at most {self.server.most_bytes}",
                                   hint="Start the server with a larger max_mb=.")  # fmt: skip
        left = length
        while left and (chunk := self.rfile.read(min(left, CHUNK))):
            frame.write(chunk)
            left -= len(chunk)
        frame.seek(0)
        head = read_head(frame)
        if head is None or frame.tell() + head["size"] != length:
            raise MeasureError("the request did not arrive whole", got=f"{length - left} of {length} bytes")
        frame.seek(0)
        return head

    def _gone(self) -> bool:
        """Whether the client has closed its side; it sends nothing after its request."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        try:
            return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def _send(self, status: int, line: bytes) -> None:
        self.close_connection = True
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(line)))
            self.end_headers()
            self.wfile.write(line)
        except OSError:  # gone meanwhile
            pass

    def _let_finish(self) -> None:
        """Take what is still being sent, for a while: a client hears of nothing before it has sent all."""
        end = time.monotonic() + FINISH_S
        try:
            self.connection.shutdown(socket.SHUT_WR)
            while time.monotonic() < end and self.rfile.read1(CHUNK):
                pass
        except OSError:
            pass

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what is worth telling is in the answers."""


def _line(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
