"""The report while a run goes on: on this machine alone, two documents, read anew now and then."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from nas.errors import UsageError
from nas.report.serve import HOST, server
from tests.report.browser import chromium, opened


@pytest.fixture(scope="module")
def port(scripted) -> Iterator[int]:
    with server(scripted, 0, every_s=0.2) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


def get(port: int, path: str, host: str = HOST) -> tuple[int, str, str]:
    connection = HTTPConnection(HOST, port)
    connection.request("GET", path, headers={"Host": f"{host}:{port}"})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers["Content-Type"], text


def test_the_page_asks_its_own_server_for_news(port) -> None:
    status, kind, text = get(port, "/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "connect-src 'self'" in text
    status, kind, text = get(port, "/data.json")
    assert (status, kind) == (200, "application/json; charset=utf-8")
    assert set(json.loads(text)) == {"document", "pictures"}


@pytest.mark.parametrize(("path", "host", "status"), [
    ("/../config.yaml", HOST, 404), ("/config.yaml", HOST, 404), ("/", "evil.test", 403), ("/", "localhost", 200),
])  # fmt: skip
def test_nothing_else_is_served_and_to_nobody_else(port, path, host, status) -> None:
    assert get(port, path, host)[0] == status


def test_a_taken_port_is_told(port, scripted) -> None:
    with pytest.raises(UsageError, match="another with port=N"):
        server(scripted, port)
    with pytest.raises(UsageError, match="another with port=N"):
        server(scripted, 99_999)


def test_a_run_that_cannot_be_read_is_told(tmp_path) -> None:
    with server(str(tmp_path / "none"), 0) as running:
        thread = threading.Thread(target=running.handle_request)
        thread.start()
        status, _, text = get(running.server_address[1], "/data.json")
        thread.join()
    assert status == 503
    assert "no such run" in text


def test_a_browser_that_goes_in_the_middle_is_no_matter(scripted, capsys) -> None:
    with server(scripted, 0) as running:
        running.daemon_threads = False  # closing then waits for the answer
        client = socket.create_connection((HOST, running.server_address[1]))
        client.sendall(f"GET / HTTP/1.0\r\nHost: {HOST}:1\r\n\r\n".encode())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets the connection
        threading.Timer(0.05, client.close).start()
        running.handle_request()
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_browser_gets_the_news(port) -> None:
    with chromium() as browser, opened(browser, f"http://{HOST}:{port}/", local=False) as shown:
        with shown.expect_response("**/data.json", timeout=20_000) as news:
            pass
        assert news.value.ok
        assert shown.locator("#trials tbody tr").count() > 0
