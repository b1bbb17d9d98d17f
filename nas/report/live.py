"""A search while it runs: a live panel in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nas.report.text import count, duration, figure, milliseconds, percent
from nas.search.candidate import Status, View
from nas.search.objectives import ALWAYS

LINE_EVERY_S, QUIET_S = 10.0, 60.0
"""Without a terminal: seconds between two lines at least, and at most where nothing has ended meanwhile."""
FRONT_ROWS = 8
COUNTED = ("completed", "failed", "duplicate", "stopped")


@contextmanager
def view(stream: TextIO | None = None) -> Iterator[View]:
    """A view on ``stream`` (default stdout) for as long as the block lasts."""
    stream = stream or sys.stdout
    console = Console(file=stream)
    if not console.is_terminal:
        yield _Lines(stream)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        yield lambda status: live.update(panel(status))


class _Lines:
    """A line of progress every ten seconds while trials end, every minute while none does, and for every message."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.last, self.told, self.message = clock(), dict[str, int](), ""

    def __call__(self, status: Status) -> None:
        counts = {state: status.counts.get(state, 0) for state in COUNTED}
        waited = self.clock() - self.last
        if status.message != self.message or waited >= (LINE_EVERY_S if counts != self.told else QUIET_S):
            self.last, self.told, self.message = self.clock(), counts, status.message
            print(summary_line(status), file=self.stream, flush=True)


def summary_line(status: Status) -> str:
    """Budget, counts and the best so far in one line."""
    parts = [budget_text(status), counts_text(status)]
    if status.best is not None:
        metrics = status.best.metrics
        best = f"best {percent(metrics.get('accuracy'))}"
        parts.append(best + (f" at {milliseconds(metrics['latency'])}" if "latency" in metrics else ""))
    return " | ".join([*parts, *([said] if (said := message_text(status)) else [])])


def message_text(status: Status) -> str:
    """What is being done, and how far it is."""
    return f"{status.message} ({status.detail})" if status.detail else status.message


def budget_text(status: Status) -> str:
    """Spent of asked, for every part of the budget."""
    return ", ".join(f"{_short(row['spent'])} of {row['asked']:g}{row['unit']}" for row in status.budget)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.2f}"


def counts_text(status: Status) -> str:
    """How many trials ended how."""
    counts = {name: status.counts.get(name, 0) for name in COUNTED}
    said = ", ".join(f"{n} {name}" for name, n in counts.items() if n or name == "completed")
    said += f", about {status.expected} in all" if status.expected else ""
    return said + (f", {status.waiting} waiting to go on" if status.waiting else "")


def panel(status: Status) -> Group:
    """The live panel: budget, running trials, the front."""
    head = Text.assemble(("nas ", "bold"), budget_text(status), "   ", counts_text(status), "   ", duration(status.elapsed_s))
    running = Table(box=None, padding=(0, 2, 0, 0), show_header=True, header_style="dim")
    for name in ("trial", "phase", "epoch", "val accuracy", "latency", "params"):
        running.add_column(name, justify="left" if name == "phase" else "right")
    for trial in status.running:
        known = trial.metrics
        running.add_row(str(trial.record.number), trial.phase, f"{trial.epoch}/{status.epochs}", percent(known.get("accuracy")),
                        milliseconds(known.get("latency")), count(trial.graph.num_params))  # fmt: skip
    front = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    more = [name for name in (status.front[0].metrics if status.front else ()) if name not in ALWAYS]
    for name in ("front: trial", "val accuracy", "latency", "params", "MACs", *more):
        front.add_column(name, justify="right")
    for record in status.front[:FRONT_ROWS]:
        m = record.metrics
        front.add_row(str(record.number), percent(m.get("accuracy")), milliseconds(m.get("latency")), count(m.get("num_params")),
                      count(m.get("macs")), *(figure(name, m[name]) for name in more))  # fmt: skip
    rest = Text(f"... and {len(status.front) - FRONT_ROWS} more", style="dim") if len(status.front) > FRONT_ROWS else Text("")
    return Group(head, Text(""), running, Text(""), front, rest,
                 Text(message_text(status) or "Ctrl-C ends the search and keeps everything.", style="dim"))
