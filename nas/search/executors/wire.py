"""What crosses a process border: one JSON object a line.

JSON and not pickle, so that the driver never runs code or imports a library (torch) because a worker's result asks for
it. Hence *plain values*: tuples arrive as lists, keys as str; NaN and infinities are fine, and so is anything with an
``item()`` that gives a plain scalar (numpy and torch scalars).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nas.errors import UsageError


def encode(message: Mapping[str, Any], *, where: str) -> bytes:
    """One line of JSON; UsageError when a value is not plain, told from ``where``."""
    try:
        return json.dumps(message, default=_scalar, separators=(",", ":")).encode() + b"\n"
    except (TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise UsageError(f"only plain values can be sent: {error}", where=where,
                         expected="None, bool, int, float, str, and lists and dicts of them") from None  # fmt: skip


def _scalar(value: object) -> Any:
    item = getattr(value, "item", None)
    if item is None:
        raise TypeError(f"a value of type {type(value).__name__}")
    return item()


class Lines:
    """Puts received chunks together again and hands out complete messages."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Messages that ``chunk`` completes."""
        if b"\n" not in chunk:
            self._rest.append(chunk)
            return []
        *lines, rest = b"".join([*self._rest, chunk]).split(b"\n")
        self._rest = [rest]
        return [json.loads(line) for line in lines]
