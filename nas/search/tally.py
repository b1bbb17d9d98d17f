"""What a search has spent, on disk as of a moment ago: a few bytes that a thread overwrites in place.

The study has a copy of the meter that is up to ten seconds old (:mod:`.ledger`), which is a lot of a short search that is
killed. A thread writes whatever the driver is busy with; nothing waits for the disk, since what is written survives the death
of any process.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from contextlib import suppress
from pathlib import Path

from nas.search.budget import Kind, Meter
from nas.search.run import refusal

EVERY_S = 0.05
"""Seconds between two writings: what a killed driver forgets of each worker at most. They take half a percent of a core."""

KINDS: tuple[Kind, ...] = ("wall", "cpu", "gpu")
"""What is in a record, in seconds. Trials are not: the study counts those it holds."""

_SECONDS, _CHECK = struct.Struct(f"<{len(KINDS)}d"), struct.Struct("<I")


class Tally:
    """Writes what a meter holds to a file from when it is made until it is closed; a context manager.

    Raises RunError when the file cannot be written at first. Later the study's copy has to do.
    """

    def __init__(self, path: Path, meter: Meter) -> None:
        self._meter, self._over = meter, threading.Event()
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            self._write()
        except OSError as error:
            raise refusal(path, error) from None
        self._thread = threading.Thread(target=self._keep, name="tally", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._over.wait(EVERY_S):
            with suppress(OSError):
                self._write()

    def _write(self) -> None:
        spent = self._meter.to_mapping()
        seconds = _SECONDS.pack(*(spent[kind] for kind in KINDS))
        os.pwrite(self._file, seconds + _CHECK.pack(zlib.crc32(seconds)), 0)

    def close(self) -> None:
        """Write once more, and no more."""
        self._over.set()
        self._thread.join()
        with suppress(OSError):
            self._write()
        os.close(self._file)

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_tally(path: Path) -> dict[str, float]:
    """What was spent when the file was last written, for :meth:`.budget.Meter.remember`; nothing of one that is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    seconds, check = data[: _SECONDS.size], data[_SECONDS.size :]
    if check != _CHECK.pack(zlib.crc32(seconds)) or len(seconds) != _SECONDS.size:
        return {}
    return dict(zip(KINDS, _SECONDS.unpack(seconds), strict=True))
