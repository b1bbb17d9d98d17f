"""A run's archive, read without disturbing a driver that may be writing it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nas.errors import RunError, UsageError
from nas.net.graph import Size
from nas.search.config import SearchConfig
from nas.search.evaluator import size_of
from nas.search.loop import best_of, sorted_front
from nas.search.objectives import Constraint, Objective, front, parse_constraint, parse_objectives
from nas.search.run import RunFolder
from nas.search.storage import open_storage
from nas.search.study import Record, SearchStudy
from nas.space.parse import parse_page
from nas.space.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class Archive:
    """What a run has found so far."""

    folder: RunFolder
    config: SearchConfig
    study: SearchStudy
    deploy: Size
    proxy: Size
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]

    @property
    def counts(self) -> Counter[str]:
        return Counter(record.state for record in self.study.records)

    def front(self, limits: tuple[Constraint, ...] = ()) -> list[Record]:
        """Completed trials within the run's limits and these that no other dominates, most accurate first."""
        records = self.within(limits)
        return sorted_front([records[i] for i in front([r.metrics for r in records], self.objectives)])

    def within(self, limits: tuple[Constraint, ...]) -> list[Record]:
        """Completed trials within the run's limits and these."""
        completed = [r for r in self.study.records if r.state == "completed"]
        return [r for r in completed if all(c.violation(r.metrics) <= 0 for c in (*self.constraints, *limits))]

    def pick(self, trial: str) -> Record:
        """The best trial, or the completed one of that number. Raises RunError."""
        if trial == "best":
            if (best := best_of(self.within(()))) is None:
                raise RunError("no trial of this run is completed and within its limits", where=str(self.folder.path))
            return best
        known = {str(r.number): r for r in self.study.records if r.state == "completed"}
        if trial not in known:
            raise RunError("no completed trial of that number", where=str(self.folder.path), got=trial,
                           hint=f"{self.folder.trials} lists them.")  # fmt: skip
        return known[trial]


@contextmanager
def open_archive(name: str) -> Iterator[Archive]:
    """The archive of a run by name or path. Raises RunError."""
    folder = RunFolder.find(name)
    stored: dict[str, Any] = folder.read_config()
    words = {k: v for k, v in stored.items() if k not in {"device", "page", "data_fingerprint", "plan"}}
    config = SearchConfig.from_words(words)
    objectives, constraints = parse_objectives(config.objectives), tuple(map(parse_constraint, config.constraint))
    with open_storage(config.storage or folder.study, reading=True) as storage:
        study = SearchStudy(storage, SearchSpace(parse_page(stored["page"])), objectives, constraints, name=folder.path.name)
        plan = stored["plan"]
        yield Archive(folder, config, study, size_of(plan["deploy"]), size_of(plan["proxy"]), objectives, constraints)


def parse_limits(words: tuple[str, ...], objectives: tuple[Objective, ...]) -> tuple[Constraint, ...]:
    """Limits from a command line. Raises UsageError for a metric that runs without it do not measure."""
    limits = tuple(map(parse_constraint, words))
    measured = {"accuracy", "num_params", "macs", *(o.metric for o in objectives)}
    for limit in limits:
        if limit.metric not in measured:
            raise UsageError(f"this run did not measure {limit.metric}", got=str(limit), expected="one of " + ", ".join(sorted(measured)))
    return limits
