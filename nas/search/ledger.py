"""Where the end of a trial is written: the study, trials.csv, the front's files, the log, and whoever listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from nas.net.graph import Size
from nas.search.budget import Meter
from nas.search.callbacks import Callbacks, Moment
from nas.search.front import Checks, Front
from nas.search.objectives import ALWAYS, further
from nas.search.run import TRIAL_COLUMNS, RunFolder
from nas.search.study import Record, SearchStudy, State

SAVE_EVERY_S = 10.0
"""Seconds between two writings of what was spent to the study: what is lost with a :mod:`.tally` at most."""


class Ledger:
    """What a running search has reached and spent, in memory and on disk; made anew from the study when it is gone on with.

    ``size`` is that of deployment. ``counts``: ended trials by state. ``remarks``: what the user is told at the end.
    """

    def __init__(self, study: SearchStudy, meter: Meter, folder: RunFolder, size: Size,
                 callbacks: Callbacks | None = None) -> None:  # fmt: skip
        self.study, self.meter, self.folder, self.size, self.callbacks = study, meter, folder, size, callbacks
        self.front = Front(folder, study.objectives, study.constraints)
        self.front.checks = Checks.from_metadata(study.metadata)
        self.counts: Counter[str] = Counter()
        self.remarks: list[str] = []
        self.log = folder.logger()
        self._columns, self._saved = (*TRIAL_COLUMNS, *further(study.objectives, study.constraints)), meter.now()
        self._reopen()
        ended = [record for record in study.records if record.state != "running"]
        for record in ended:
            self._count(record)
        folder.write_table(folder.trials, self._columns, [row_of(record) for record in ended])
        folder.keep_weights(member.number for member in self.front.members)
        folder.keep_checkpoints([*study.left_running, *(record.number for record in study.stopped_for_now)])

    def _reopen(self) -> None:
        """Have what was stopped for now run again, if there is budget for it; it counts when it ends."""
        counted = sum(record.counts for record in self.study.stopped_for_now)
        self.meter.count(-counted)
        if self.meter.exhausted() is None:
            self.study.reopen()
        else:
            self.meter.count(counted)

    def end(self, record: Record, state: State, *, seconds: float, reason: str | None = None,
            metrics: Mapping[str, Any] | None = None, details: Mapping[str, Any] | None = None,
            for_now: bool = False) -> None:  # fmt: skip
        """End a trial, for good or for now, and store what was spent, in one write."""
        attrs = {**(details or {}), "seconds": round(seconds, 3)}
        self.note(self.study.tell(record.number, state, metrics=metrics, reason=reason or None, attrs=attrs, for_now=for_now,
                                  metadata={"meter": self.meter.to_mapping()}))  # fmt: skip

    def repeat(self, record: Record, original: Record) -> None:
        """End a stored duplicate of what has ended; it costs nothing and counts as nothing."""
        self.note(self.study.tell(record.number, "duplicate", duplicate_of=original.number))

    def note(self, record: Record) -> None:
        """The study holds a trial's end: count it, and write it where people look."""
        changed = self._count(record)
        self.folder.append_row(self.folder.trials, self._columns, row_of(record))
        if changed:
            self.write_front()
        if self.callbacks:
            moment = Moment(budget=self.meter.rows(), counts=dict(self.counts), front=self.front.members)
            self.callbacks.on_trial_end(record, moment)
        self.log.info("trial %d %s %s %s", record.number, record.state, dict(record.metrics), record.reason or "")

    def _count(self, record: Record) -> bool:
        """Count an ended trial; whether it is on the front now."""
        self.counts[record.state] += 1
        return record.state == "completed" and self.front.add(record)

    def write_front(self, tested: Mapping[int, float | None] | None = None) -> None:
        """The front's files, with accuracies on the test split by trial where they are known."""
        self.front.write(self.study.space, self.size, tested)

    def remark(self, text: str) -> None:
        """Something that was asked for and has not come about: for the log, and for the user at the end."""
        self.log.warning("%s", text)
        self.remarks.append(text)

    def save(self) -> None:
        """Store what was spent."""
        self.study.set_metadata(meter=self.meter.to_mapping())
        self._saved = self.meter.now()

    def save_often(self) -> None:
        """Store what was spent, unless that was done a moment ago."""
        if self.meter.now() - self._saved >= SAVE_EVERY_S:
            self.save()

    def save_checks(self) -> None:
        """Store what was found when the front was looked at again, and what was spent on it."""
        self.study.set_metadata(meter=self.meter.to_mapping(), **self.front.checks.to_metadata())


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row of trials.csv."""
    metrics, attrs = record.metrics, record.attrs
    return {
        "trial": record.number, "state": record.state, "val_accuracy": metrics.get("accuracy"),
        "latency_ms": metrics.get("latency"),
        "num_params": metrics.get("num_params"), "macs": metrics.get("macs"), "seed": record.seed, "identity": record.identity,
        "seconds": attrs.get("seconds"), "duplicate_of": record.duplicate_of, "reason": record.reason,
        **{k: attrs.get(k) for k in ("phase", "latency_low_ms", "latency_high_ms", "epochs", "measure_s", "train_s")},
        **{name: value for name, value in metrics.items() if name not in ALWAYS},
    }  # fmt: skip
