"""A run's archive, read without disturbing a driver that may be writing it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from nas.errors import RunError, UsageError
from nas.net.graph import Size
from nas.search.config import SearchConfig
from nas.search.front import Checks, best_of, sorted_front
from nas.search.objectives import Constraint, Objective, front, judged_by, parse_constraint
from nas.search.run import RunFolder
from nas.search.settled import Settled
from nas.search.storage import open_storage
from nas.search.study import Record, SearchStudy


@dataclass(frozen=True, slots=True)
class Archive:
    """What a run has found so far. ``fingerprint`` is that of the data it began with."""

    folder: RunFolder
    config: SearchConfig
    study: SearchStudy
    deploy: Size
    proxy: Size
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    fingerprint: str

    @property
    def counts(self) -> Counter[str]:
        """How many trials ended how."""
        return Counter(record.state for record in self.study.records)

    @property
    def checks(self) -> Checks:
        """What was found when the front was looked at again."""
        return Checks.from_metadata(self.study.metadata)

    @property
    def tested(self) -> dict[int, float]:
        """Accuracy on the test split of the trials that were on the front when the search last ended, by number."""
        try:
            rows = list(csv.DictReader(self.folder.front.read_text(encoding="utf-8").splitlines()))
            return {int(row["trial"]): float(row["test_accuracy"]) for row in rows if row["test_accuracy"]}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def front(self, limits: tuple[Constraint, ...] = ()) -> list[Record]:
        """Completed trials within the run's limits and these that no other dominates, most accurate first."""
        records = self.within(limits)
        members = [records[i] for i in front([r.metrics for r in records], self.objectives)]
        return sorted_front(members, self.objectives)

    def within(self, limits: tuple[Constraint, ...]) -> list[Record]:
        """Completed trials within the run's limits and these."""
        completed = [r for r in self.study.records if r.state == "completed"]
        return [r for r in completed if all(c.violation(r.metrics) <= 0 for c in (*self.constraints, *limits))]

    def pick(self, trial: str) -> Record:
        """The best trial, or the completed one of that number. Raises RunError."""
        if trial == "best":
            if (best := best_of(self.within(()), self.objectives, self.checks, self.constraints)) is None:
                raise RunError("no trial of this run is completed and within its limits", where=str(self.folder.path))
            return best
        found = next((r for r in self.study.records if str(r.number) == trial), None)
        if found is None:
            raise RunError("this run has no such trial", where=str(self.folder.path), expected="best, or a trial's number",
                           got=trial, hint=f"{self.folder.trials} lists them.")  # fmt: skip
        if found.state != "completed":
            raise RunError(f"trial {trial} has not been completed", where=str(self.folder.path),
                           got=": ".join(filter(None, (found.state, found.reason))),
                           hint=f"{self.folder.trials} lists those that were.")  # fmt: skip
        return found


@contextmanager
def open_archive(name: str) -> Iterator[Archive]:
    """The archive of a run by name or path. Raises RunError."""
    folder = RunFolder.find(name)
    settled = Settled.read(folder)
    config, plan = settled.config, settled.plan
    objectives, constraints = settled.objectives, settled.constraints
    with open_storage(config.storage or folder.study, reading=True) as storage:
        study = SearchStudy(storage, settled.space, objectives, constraints, name=settled.name, there=True)
        yield Archive(folder, config, study, plan.deploy, plan.proxy, objectives, constraints, settled.fingerprint)


def parse_limits(words: Sequence[str], archive: Archive) -> tuple[Constraint, ...]:
    """Limits from a command line. Raises UsageError for a metric that the run did not measure."""
    limits = tuple(map(parse_constraint, words))
    measured = {"accuracy", "num_params", "macs", *judged_by(archive.objectives, archive.constraints)}
    for limit in limits:
        if limit.metric not in measured:
            raise UsageError(f"this run did not measure {limit.metric}", got=str(limit),
                             expected="one of " + ", ".join(sorted(measured)))
    return limits
