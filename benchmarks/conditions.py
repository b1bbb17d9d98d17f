"""What a benchmark's figures were taken under, and where they are written."""

from __future__ import annotations

import csv
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from nas.measure.device import processor_name

Row = dict[str, object]
FIGURES = Path(__file__).resolve().parents[1] / "results" / "benchmarks"


def conditions() -> Row:
    """The machine, the versions, and how busy the machine is now (load average of the last minute)."""
    return {"cpu": processor_name(), "cores": len(os.sched_getaffinity(0)), "python": platform.python_version(),
            "torch": version("torch"), "optuna": version("optuna"), "load": round(os.getloadavg()[0], 1)}  # fmt: skip


def write_rows(name: str, rows: Sequence[Mapping[str, object]], key: Sequence[str] = ()) -> None:
    """Replace a table of published figures, or where there is a ``key`` of columns, its rows of the same key."""
    path, new, kept = FIGURES / name, {_values(row, key) for row in rows}, list[Mapping[str, object]]()
    if key:
        with path.open(newline="", encoding="utf-8") as file:
            kept = [row for row in csv.DictReader(file) if _values(row, key) not in new]
    columns = list(dict.fromkeys(column for row in [*kept, *rows] for column in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *rows])


def _values(row: Mapping[str, object], key: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(row[column]) for column in key)


def rss() -> int:
    """Bytes of memory that this process has now."""
    if sys.platform != "linux":
        raise OSError("the memory of a process is read from /proc")
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
