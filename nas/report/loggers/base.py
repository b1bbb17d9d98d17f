"""What every logger logs of a trial: its metrics and decisions, the front's hypervolume, the budget spent."""

from __future__ import annotations

import importlib.util
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from nas.errors import UsageError
from nas.report.run.hypervolume import hypervolume
from nas.search.callbacks import Beginning, Moment
from nas.search.study import Record

SECONDS = ("seconds", "train_s", "measure_s")


class TrialLogger(ABC):
    """A :class:`nas.search.callbacks.Callback` that logs to another program. Trials that ended before a resume are not repeated.

    The hypervolume is the share of a box that is fixed with the first completed trial: accuracy from 0 to 1, every other
    objective from 0 to its limit, or to twice that trial's value where there is no limit.
    """

    package: str
    install: str

    def __init__(self) -> None:
        """Raises UsageError where the package is not installed, before anything is trained."""
        if importlib.util.find_spec(self.package) is None:
            raise UsageError(f"{self.package} is not installed", hint=f"Type: {self.install}")
        self._box: dict[str, float] = {}

    @abstractmethod
    def open(self, beginning: Beginning) -> None:
        """Begin, or go on with what an earlier driver of the run began."""

    @abstractmethod
    def log(self, record: Record, values: Mapping[str, float]) -> None:
        """Log an ended trial; ``values`` are finite, by name."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""

    def on_search_start(self, beginning: Beginning) -> None:
        """Open, with the box that the run's first completed trial fixed."""
        self._goals, self._limits = tuple(beginning.objectives), tuple(beginning.constraints)
        for record in beginning.records:
            self._fix(record)
        self.open(beginning)

    def on_trial_end(self, record: Record, moment: Moment) -> None:
        """Log the trial."""
        self._fix(record)
        values: dict[str, float] = {name: float(value) for name, value in record.metrics.items()}
        values |= {f"time/{name}": float(record.attrs[name]) for name in SECONDS if record.attrs.get(name) is not None}
        values |= {f"budget/{row['unit']}": float(row["spent"]) for row in moment.budget}
        values |= {f"trials/{state}": float(count) for state, count in moment.counts.items()}
        values["front/size"] = float(len(moment.front))
        if self._box:
            values["front/hypervolume"] = self._volume(moment)
        self.log(record, {name: value for name, value in values.items() if math.isfinite(value)})

    def on_search_end(self, message: str) -> None:
        """Close."""
        self.close()

    def _fix(self, record: Record) -> None:
        if self._box or record.state != "completed":
            return
        limits = {c.metric: c.limit for c in self._limits if c.op == "<="}
        self._box = {o.name: 1.0 if o.name == "accuracy" else limits.get(o.name, 2 * record.metrics[o.name]) or 1.0
                     for o in self._goals}  # fmt: skip

    def _volume(self, moment: Moment) -> float:
        def loss(record: Record, metric: str, direction: str) -> float:
            share = record.metrics[metric] / self._box[metric]
            return 1 - share if direction == "maximize" else share

        rows = [[loss(r, o.name, o.direction) for o in self._goals] for r in moment.front]
        return hypervolume(np.array(rows, dtype=float).reshape(len(rows), len(self._goals)), np.ones(len(self._goals)))
