"""A candidate between its proposal and its end, and what a view shows of a search at a moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from nas.net.graph import Graph
from nas.search.executors.base import FailureKind
from nas.search.study import Record
from nas.space.search_space import Architecture

Stage = Literal["measure", "train"]
"""What one job does with a candidate. A trial is measured, then trained in one job or, with early stopping, in several."""


@dataclass(slots=True, kw_only=True)
class Candidate:
    """A trial that has begun, as far as its workers have told.

    ``seconds`` that its jobs took which are over, the start of their worker included, and ``work_s`` that they ran;
    ``since`` when the present one runs; ``trained``: epochs that its checkpoint has; ``waits`` for a promotion; ``lost``: how
    often its worker died or was lost already.
    """

    record: Record
    architecture: Architecture
    graph: Graph
    stage: Stage = "measure"
    phase: str = "waiting"
    epoch: int = 0
    trained: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    work_s: float = 0.0
    since: float = 0.0
    device: str = ""
    waits: bool = False
    lost: Counter[FailureKind] = field(default_factory=Counter)
    followers: list[Record] = field(default_factory=list)

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.record.number


@dataclass(frozen=True, slots=True)
class Status:
    """What a view shows of a search at a moment. ``expected``: candidates completed in all when the budget is spent, at the
    pace so far; ``waiting``: those that early stopping keeps for later; ``detail``: how far the jobs are that ``message`` is
    about."""

    elapsed_s: float
    budget: list[dict[str, Any]]
    counts: Mapping[str, int]
    running: tuple[Candidate, ...]
    front: tuple[Record, ...]
    best: Record | None
    epochs: int
    message: str
    expected: int | None = None
    waiting: int = 0
    detail: str = ""


View = Callable[[Status], None]
