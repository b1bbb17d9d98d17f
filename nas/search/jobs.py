"""The jobs of candidates: given to the executors, metered while they hold a slot, and listened to until they end."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from logging import Logger
from typing import Any

from nas.search.bench import Bench
from nas.search.budget import Meter
from nas.search.candidate import Candidate, Stage
from nas.search.executors.base import Event, Executor, Failed, FailureKind, Finished, Job, Progress, Started
from nas.search.run import RunFolder
from nas.space.unparse import to_page

RETRIES: Mapping[FailureKind, int] = {"died": 1, "lost": 10}
"""How often a job is tried again whose process died (by its own doing or not: the second time tells), or whose machine was
lost, which is hardly its doing."""


def tried_again(lost: Counter[FailureKind], end: Failed) -> bool:
    """Whether a job that has ended like this is to be tried again; ``lost``, how often it was lost before, counts it then."""
    if lost[end.kind] >= RETRIES.get(end.kind, 0):
        return False
    lost[end.kind] += 1
    return True


Ended = tuple[Candidate, Finished | Failed]
"""A candidate's job that is over, and what came of it."""


class Jobs:
    """What is in flight. ``executor`` trains; the ``bench`` measures, on the same executor where latency is measured on the
    training devices.

    ``payload``: what every job is told; ``timeout``: seconds without a word after which one is hung. ``again``: candidates
    whose process or machine was lost, to be begun with once more. ``largest``: the slot that a training is to find room for.
    """

    def __init__(self, executor: Executor, bench: Bench, *, meter: Meter, folder: RunFolder, payload: Mapping[str, Any],
                 timeout: float, log: Logger) -> None:  # fmt: skip
        self.executor, self.bench, self.meter, self.folder = executor, bench, meter, folder
        self.measurer = bench.measurer
        self.payload, self.timeout, self.log = payload, timeout, log
        self.largest = executor.largest
        self.running: dict[int, Candidate] = {}
        self.again: deque[Candidate] = deque()

    def room(self, ready: int) -> bool:
        """Whether a new candidate can begin, with so many that wait for a slot to be trained in."""
        return self.bench.room(ready) if self.payload["measure"] else self.executor.free > 0

    def submit(self, candidate: Candidate, stage: Stage, *, epochs: int, expected_s: float) -> None:
        """Give the candidate's job to a free slot: to be measured, or trained until it has so many epochs."""
        number = candidate.number
        executor = self.measurer if stage == "measure" else self.executor
        weights, checkpoint = str(self.folder.weights_of(number)), str(self.folder.checkpoint_of(number))
        model = self.bench.needs
        needs, spares = (model, None) if stage == "measure" else (None, model)
        slot = executor.submit(Job(trial=number, timeout=self.timeout, files=(weights, checkpoint), needs=needs, spares=spares,
                                   payload={
            **self.payload, "page": to_page(candidate.architecture.spec), "weights": weights, "checkpoint": checkpoint,
            "stage": {"do": stage, "epochs": epochs},
        }))  # fmt: skip
        held = executor.resources[slot]
        if stage == "train" and held.kind == self.largest.kind and held.fraction > self.largest.fraction:
            self.largest = held
        self.meter.begin(number, held.kind, held.fraction, expected=expected_s)
        candidate.stage, candidate.phase, candidate.since = stage, "starting", self.meter.now()
        self.running[number] = candidate

    def listen(self, seconds: float) -> Iterator[Ended]:
        """What has ended, in order; waits up to so many seconds for something to happen."""
        events = self.executor.poll(seconds)
        if self.measurer is not self.executor:
            events += self.measurer.poll(0.0 if events else seconds / 4)
        if awaited := self.bench.look():
            self.log.warning("%s", awaited)
        return self._heard(events)

    def stop(self) -> None:
        """Ask all to return what they have."""
        for trial in self.running:
            self.executor.stop(trial)
            self.measurer.stop(trial)

    def close(self) -> Iterator[Ended]:
        """End all workers: what had ended before."""
        events = self.executor.close(grace=0.0)
        return self._heard(events if self.measurer is self.executor else [*events, *self.measurer.close(grace=0.0)])

    def _heard(self, events: Iterable[Event]) -> Iterator[Ended]:
        for event in events:
            candidate = self.running.get(event.trial)
            if candidate is None:
                continue
            match event:
                case Started():
                    measuring = candidate.stage == "measure"
                    candidate.phase = "measuring" if measuring else "training"
                    candidate.device = (self.measurer if measuring else self.executor).resources[event.slot].device
                case Progress(values=values):
                    candidate.epoch = values.get("epoch", candidate.epoch)
                    candidate.metrics |= values.get("metrics", {})
                case Finished():
                    candidate.work_s += event.seconds
                    self._release(candidate)
                    yield candidate, event
                case Failed(kind="killed"):  # by the executor's end, the only one who kills: it stays open
                    self._release(candidate)
                case Failed() if tried_again(candidate.lost, event):
                    self._release(candidate)
                    self.log.warning("trial %d: %s; it is tried once more", event.trial, event.reason)
                    self.again.append(candidate)  # when there is a slot: its own may have gone with its machine
                case Failed():
                    self._release(candidate)
                    if event.detail:
                        self.log.error("trial %d: %s\n%s", event.trial, event.reason, event.detail)
                    yield candidate, event

    def _release(self, candidate: Candidate) -> None:
        """The candidate's job is over."""
        del self.running[candidate.number]
        self.meter.end(candidate.number)
        candidate.seconds += self.meter.now() - candidate.since
        candidate.phase = "waiting"
