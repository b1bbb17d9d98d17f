"""One training while it runs: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nas.report.text import percent
from nas.train.fit import EpochResult

LINE_EVERY_S = 5.0
Show = Callable[[EpochResult, int], None]
"""Shows an epoch of so many."""


@contextmanager
def training_view(stream: TextIO | None = None) -> Iterator[Show]:
    """A view on ``stream`` (default stdout) for as long as the block lasts."""
    stream = stream or sys.stdout
    console = Console(file=stream)
    if not console.is_terminal:
        yield Lines(stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[said]}"))  # fmt: skip
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("epochs", total=None, said="")
        yield lambda epoch, epochs: progress.update(task, total=epochs, completed=epoch.epoch + 1, said=_figures(epoch))


class Lines:
    """A line for the first epoch, for one every five seconds at most, and for the last."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.next = clock()

    def __call__(self, epoch: EpochResult, epochs: int) -> None:
        if self.clock() >= self.next or epoch.epoch + 1 == epochs:
            self.next = self.clock() + LINE_EVERY_S
            print(f"epoch {epoch.epoch + 1} of {epochs}: {_figures(epoch)}, {epoch.seconds:.3g} s", file=self.stream, flush=True)


def _figures(epoch: EpochResult) -> str:
    return f"loss {epoch.train_loss:.4g}, validation {percent(epoch.val_accuracy)}"
