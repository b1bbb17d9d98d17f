"""What a measuring worker is asked and answers: one line of JSON, and after a question the bytes of a network.

JSON and not pickle, so that neither side runs code because the other asks for it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from typing import IO, Any

import nas.errors
from nas.errors import MeasureError, NasError, UsageError

PROTOCOL = 3
"""Grows whenever an older side would misunderstand."""

HEAD_BYTES, CHUNK, MOST_WAIT_S = 1 << 16, 1 << 20, 3600


def write_frame(stream: IO[bytes], head: Mapping[str, Any], body: bytes = b"") -> None:
    """Send a head and a body, whose length the head tells as ``size``."""
    stream.write(json.dumps({**head, "size": len(body)}, separators=(",", ":"), allow_nan=False).encode() + b"\n")
    stream.write(body)
    stream.flush()


def read_head(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next head; None at the end. Raises MeasureError for anything else than a line of JSON with a plausible size."""
    line = stream.readline(HEAD_BYTES)
    if not line:
        return None
    head = _object(line) if line.endswith(b"\n") else None
    if head is None or type(head.get("size")) is not int or head["size"] < 0:
        raise MeasureError("this is not a question to a measuring worker", expected="a line of JSON with a size", got=line[:80])
    return head


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # the latter is for nesting without end
        return None
    return found if isinstance(found, dict) else None


def wait_of(head: Mapping[str, Any]) -> float:
    """How many seconds a question may wait for the device. Raises UsageError."""
    value = head.get("wait_s", 60.0)
    if not isinstance(value, int | float) or not value >= 0:
        raise UsageError("wait_s is a number of seconds", got=str(value)[:80])
    return float(min(value, MOST_WAIT_S))


def read_body(stream: IO[bytes], size: int) -> bytes:
    """So many bytes. Raises MeasureError when the stream ends before."""
    parts = []
    while size and (part := stream.read(min(size, CHUNK))):
        parts.append(part)
        size -= len(part)
    if size:
        raise MeasureError("the network did not arrive whole", got=f"{size} bytes too few")
    return b"".join(parts)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker, and close what led to it."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


def error_words(error: NasError) -> dict[str, Any]:
    """An error's parts as JSON holds them."""
    got = error.got if isinstance(error.got, str | int | float | None) else str(error.got)
    return {"kind": type(error).__name__, "message": error.message, "where": error.where, "expected": error.expected, "got": got,
            "hint": error.hint}  # fmt: skip


def answer_of(line: bytes, where: str) -> dict[str, Any]:
    """A worker's answer. Raises the error that it tells, from ``where``, and MeasureError when it is none."""
    answer = _object(line)
    if answer is None:
        raise MeasureError("this is no measuring server", where=where, expected="a line of JSON",
                           got=line[:80].decode("utf-8", "replace"))  # fmt: skip
    if not isinstance(told := answer.get("error"), dict):
        return answer
    kind = getattr(nas.errors, str(told.get("kind")), MeasureError)
    kind = kind if isinstance(kind, type) and issubclass(kind, NasError) else MeasureError
    words = {name: told[name] for name in ("expected", "hint") if isinstance(told.get(name), str)}
    place = f"{where}: {told['where']}" if isinstance(told.get("where"), str) else where
    raise kind(str(told.get("message")), where=place, got=told.get("got"), **words)
