"""`nas` in a process of its own, and what becomes of its workers."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
NAS = [sys.executable, "-c", "import sys; from nas.cli import main; sys.exit(main())"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}


def nas(*argv: object, cwd: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end."""
    return subprocess.run([*NAS, *map(str, argv)], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=timeout)


def begin(*argv: object, cwd: Path) -> subprocess.Popen[str]:
    """Start a command line in a process group of its own, as a terminal does."""
    return subprocess.Popen([*NAS, *map(str, argv)], cwd=cwd, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True,
                            process_group=0)  # fmt: skip


def workers(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(driver.pid).children(recursive=True)


def wait_until(condition, driver: subprocess.Popen[str], timeout: float = 60) -> None:
    """Until the condition holds; AssertionError when the driver ends before, or nothing comes of it."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)


def gone(processes: list[psutil.Process], timeout: float = 5) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=timeout)
    return not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def rows(run: Path) -> list[dict[str, str]]:
    """The table of trials; a line that is just being written is left out."""
    try:
        text = (run / "trials.csv").read_text()
    except OSError:
        return []
    return list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))
