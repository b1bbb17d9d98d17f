"""What may listen to a search: a small protocol, and a list of listeners of which none can end the search."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from nas.search.objectives import Constraint, Objective
from nas.search.study import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """A search that begins or goes on. ``config`` is plain data; ``records`` are the trials that have ended before."""

    folder: Path
    name: str
    config: Mapping[str, Any]
    objectives: Sequence[Objective]
    constraints: Sequence[Constraint]
    records: Sequence[Record]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What a search has come to when a trial has ended: the budget's rows (asked, spent, unit), trials by state, the front."""

    budget: Sequence[Mapping[str, Any]]
    counts: Mapping[str, int]
    front: Sequence[Record]


class Callback(Protocol):
    """A listener. It is called in the driver's process, between two turns of the loop: what takes long delays the search."""

    def on_search_start(self, beginning: Beginning) -> None:
        """Before the first trial; also when a run goes on."""

    def on_trial_end(self, record: Record, moment: Moment) -> None:
        """A trial has ended and is stored: completed, failed, stopped or a duplicate. One that was stopped at the budget's end
        is told again when a larger budget has ended it."""

    def on_search_end(self, message: str) -> None:
        """The search is over, for the reason that ``message`` tells; also after Ctrl-C."""


class Callbacks:
    """Listeners as one. A listener that raises is told of once, in the run's log and by ``say``, and not called again."""

    def __init__(self, callbacks: Sequence[Callback], log: logging.Logger, say: Callable[[str], None]) -> None:
        self._callbacks, self._log, self._say = list(callbacks), log, say

    def on_search_start(self, beginning: Beginning) -> None:
        """Tell all."""
        self._each("on_search_start", beginning)

    def on_trial_end(self, record: Record, moment: Moment) -> None:
        """Tell all."""
        self._each("on_trial_end", record, moment)

    def on_search_end(self, message: str) -> None:
        """Tell all."""
        self._each("on_search_end", message)

    def _each(self, method: str, *words: Any) -> None:
        for callback in tuple(self._callbacks):
            try:
                getattr(callback, method)(*words)
            except Exception as error:  # a foreign service's trouble is no reason to lose a search
                self._callbacks.remove(callback)
                self._log.exception("%s ended", type(callback).__name__)
                self._say(f"note: {type(callback).__name__} failed and logs no more: {error}")
