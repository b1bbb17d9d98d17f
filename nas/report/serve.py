"""A run's report while the run goes on: a page on this machine alone that asks for news by itself."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nas.errors import NasError, UsageError
from nas.report.page import Pictures, page
from nas.report.run.document import run_document
from nas.search.archive import open_archive
from nas.search.config import whole_number

HOST, PORT = "127.0.0.1", 8571
EVERY_S, SHARE = 5.0, 0.1
"""Seconds between two readings of a run at least, and the share of one core that reading may take."""


class News:
    """The latest state of a run, read anew when it is asked for and old enough."""

    def __init__(self, name: str, every_s: float) -> None:
        self._name, self._every_s, self._pictures, self._lock = name, every_s, Pictures(), threading.Lock()
        self._until, self._latest = 0.0, dict[str, Any]()

    def data(self) -> dict[str, Any]:
        """``document`` and ``pictures``. Raises RunError while the run cannot be read."""
        with self._lock:
            if time.monotonic() >= self._until:
                start = time.monotonic()
                with open_archive(self._name) as archive:
                    document = run_document(archive)
                    self._latest = {"document": document, "pictures": self._pictures.of(archive, document)}
                now = time.monotonic()
                self._until = now + max(self._every_s, (now - start) / SHARE)
            return self._latest


def server(name: str, port: int, every_s: float = EVERY_S) -> ThreadingHTTPServer:
    """A server for a run on the loopback address; port 0 takes a free one. Raises UsageError where the port is taken."""
    news = News(name, every_s)

    class Handler(BaseHTTPRequestHandler):
        """Two documents, read only."""

        def do_GET(self) -> None:
            if (self.headers.get("Host") or "").rpartition(":")[0] not in (HOST, "localhost"):  # another name led here
                return self._answer(403, "text/plain", "only for this machine")
            try:
                if self.path == "/":
                    data = news.data()
                    return self._answer(200, "text/html", page(data["document"], data["pictures"], every_s=every_s))
                if self.path == "/data.json":
                    return self._answer(200, "application/json", json.dumps(news.data(), allow_nan=False))
            except NasError as error:
                return self._answer(503, "text/plain", str(error))
            return self._answer(404, "text/plain", "not found")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            for key, value in (("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))),
                               ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")):  # fmt: skip
                self.send_header(key, value)
            with suppress(ConnectionError):  # a browser may go before it has all
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing is printed of a request."""

    try:
        return ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        hint = "Choose another with port=N; port=0 takes a free one."
        raise UsageError("the port cannot be served", got=str(port), hint=hint) from error


def serve(name: str, port: str | None) -> None:
    """Serve until Ctrl-C."""
    number = whole_number("port", PORT if port is None else port, least=0)
    with server(name, number or 0) as running:
        url = f"http://{HOST}:{running.server_address[1]}/"
        print(f"{url} shows {name} while it goes on; Ctrl-C ends this page, not the run", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
