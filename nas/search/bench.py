"""Where candidates are measured: on slots of one model of processor or GPU, so that all latencies of a run have one unit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import RunError
from nas.measure.target import is_remote
from nas.search.budget import Meter
from nas.search.executors.base import Executor
from nas.search.study import SearchStudy

MEASURED_ON = "measured_on"
"""Under which the study keeps the model that its latencies were measured on."""

STARTING_S, ABSENT_S = 30.0, 600.0
"""Seconds without a slot of that model after which it is told (a worker that starts has not said what it has), and after which a
search that has nothing else to do ends."""


class Bench:
    """The slots of ``measurer`` that measure. ``trainer`` trains, and may be the same executor.

    ``how`` is what the evaluator is told of measuring. ``model``: of the processor or GPU that measures, where it is known; else
    it is the run's, or that of the first slot that tells. An address measures by itself: any slot may ask it.
    """

    def __init__(self, measurer: Executor, trainer: Executor, study: SearchStudy, meter: Meter, how: Mapping[str, Any] | None, *,
                 model: str = "") -> None:  # fmt: skip
        self.measurer, self.trainer, self.study, self._now = measurer, trainer, study, meter.now
        self._kind = None if how is None or is_remote(how["target"]) else str(how["target"])
        self._kept: str = study.metadata.get(MEASURED_ON, "")
        self._model = model or self._kept
        self._seen = meter.now()
        self.waiting = ""

    @property
    def needs(self) -> str | None:
        """What a measurement needs of its slot (``Job.needs``); empty while no slot has told its model, None when any will do."""
        if self._kind is not None and not self._model:
            told = (held.models[self._kind] for held in self.measurer.resources if self._kind in held.models)
            self._model = next(told, "")
        return None if self._kind is None else self._model

    @property
    def free(self) -> int:
        """Slots that can measure now."""
        return self.measurer.free if (needs := self.needs) is None else self.measurer.free_on(needs)

    @property
    def there(self) -> bool:
        """Whether a slot can measure, now or when its job is over."""
        needs = self.needs
        return needs is None or any(needs in held.models.values() for held in self.measurer.resources)

    def room(self, ready: int) -> bool:
        """Whether another candidate is to be measured while so many that have been wait for their training."""
        return self.free > 0 and ready < max(1, self._trainers)

    def spared(self, ready: int) -> bool:
        """Whether a free slot may train: it cannot measure, or enough is measured for those that only train."""
        only_train = self.trainer.free - (self.free if self.measurer is self.trainer else 0)
        return only_train > 0 or ready >= max(1, self._trainers)

    @property
    def _trainers(self) -> int:
        """Slots that train and cannot measure."""
        slots, needs = self.trainer.resources, self.needs
        if self.measurer is not self.trainer:
            return len(slots)
        return 0 if needs is None else sum(bool(held.models) and needs not in held.models.values() for held in slots)

    def note(self, result: Mapping[str, Any]) -> None:
        """A measurement has come. The study keeps what the first was made on; RunError when this one was made on another."""
        if not (latency := result.get("latency")):
            return
        name = latency["device_name"]
        if not self._kept:
            self.study.set_metadata(**{MEASURED_ON: name})
            self._kept = name
        elif name != self._kept:
            raise RunError("a latency was measured on another processor or GPU than this run's", expected=self._kept, got=name,
                           hint="Nothing of it is kept. " + mend(self._kept))  # fmt: skip

    def look(self) -> str:
        """See whether a slot can measure; what is waited for in vain, when that has lasted for :data:`STARTING_S`."""
        if self.there:
            self._seen, self.waiting = self._now(), ""
        elif not self.waiting and self._model and self._now() - self._seen > STARTING_S:
            self.waiting = f"waiting for a machine with {self._model}, on which this run's latencies are measured"
            return self.waiting
        return ""

    def insist(self) -> None:
        """There is nothing to do but to measure. Raises RunError when for too long no slot could."""
        if not self.there and self._now() - self._seen > ABSENT_S:
            others = {model for held in self.measurer.resources for model in held.models.values()}
            raise RunError(f"for {ABSENT_S / 60:g} min no worker could measure", got=", ".join(sorted(others)) or "no worker",
                           expected=self._model or "one that tells its model", hint=mend(self._model))  # fmt: skip


def mend(model: str) -> str:
    """What a user can do when the run's model is not there."""
    return (f"Latencies of different machines do not compare: go on with `nas resume` where there is a machine with {model}, or "
            "begin another run= here.")  # fmt: skip
