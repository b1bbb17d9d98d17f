"""What a search came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nas.search.agreement import Agreement
from nas.search.config import SearchConfig
from nas.search.final import TOLD, FinalResult
from nas.search.front import Checks, front_row
from nas.search.run import RunFolder
from nas.search.study import STATES, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search found. ``front`` holds (record, test accuracy), most accurate on validation first."""

    folder: RunFolder
    config: SearchConfig
    strategy: str
    counts: Mapping[str, int]
    budget: list[dict[str, Any]]
    wall_s: float
    front: tuple[tuple[Record, float | None], ...]
    best: Record | None
    message: str
    interrupted: bool
    checks: Checks
    ties: Mapping[int, list[int]]
    finals: tuple[tuple[Record, FinalResult], ...]
    agreement: Agreement | None

    def document(self) -> dict[str, Any]:
        """The JSON of ``nas search --json``; its keys are a contract (docs/cli.md)."""
        front = [front_row(record, test, self.checks, self.ties[record.number]) for record, test in self.front]
        return {
            "run": str(self.folder.path), "space": self.config.space, "strategy": self.strategy,
            "trials": {state: self.counts.get(state, 0) for state in STATES if state != "running"},
            "budget": self.budget, "wall_s": self.wall_s,
            "front": front, "best": next((r for r in front if self.best and r["trial"] == self.best.number), None),
            "message": self.message, "interrupted": self.interrupted,
            "final": [{"trial": record.number, "folder": str(final.folder)} | {word: (final.metrics or {})[word] for word in TOLD}
                      for record, final in self.finals],
            "rank_correlation": self.agreement and self.agreement.tau, "rank_chance": self.agreement and self.agreement.chance,
        }  # fmt: skip
