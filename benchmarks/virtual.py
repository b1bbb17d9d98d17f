"""Workers that do not exist: an executor whose jobs end by a virtual clock, so that any number of them can be simulated.

The clock stands still while the driver waits, and is set forward to the next event; while the driver works it runs with the
real one. So a slow driver shows up as workers that wait for it, as they would.
"""

from __future__ import annotations

import heapq
import itertools
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nas.errors import RunError
from nas.search.executors.base import Event, Executor, Failed, Finished, Job, Progress, Resources, Started, Values

MODELS = {"cpu": "a virtual processor", "cuda": "a virtual GPU"}

Outcome = Callable[[Job], tuple[float, Values]]
"""Seconds that a job takes, and its result."""


class VirtualClock:
    """Seconds since its making. ``real`` is the clock that runs while the driver works: ``time.perf_counter``, which counts
    waiting for disks, or ``time.process_time``, which does not mind that the machine has other work."""

    def __init__(self, real: Callable[[], float] = time.perf_counter) -> None:
        self._real = real
        self._base, self._mark = 0.0, real()
        self.driver_s = 0.0

    def __call__(self) -> float:
        return self._base + self._real() - self._mark

    def stop(self) -> float:
        """The driver waits from here on; the time."""
        now = self()
        self.driver_s += now - self._base
        self._base = now
        return now

    def go_on(self, at: float) -> None:
        """The driver works again, from that time on."""
        self._base, self._mark = at, self._real()


@dataclass(slots=True)
class _Running:
    job: Job
    slot: int
    start: float
    step: float
    result: Values
    stopped: bool = False


class VirtualExecutor(Executor):
    """So many GPUs, each with one worker. A job reports ``reports`` times, evenly, the last time with its end.

    ``on_submit`` is called before a job begins. ``busy``: see there.
    """

    def __init__(self, clock: VirtualClock, workers: int, outcome: Outcome, *, reports: int = 1,
                 on_submit: Callable[[], None] = lambda: None) -> None:  # fmt: skip
        self.clock, self.outcome, self.reports, self.on_submit = clock, outcome, reports, on_submit
        self._resources = tuple(Resources(device=f"gpu:{i}", kind="gpu", fraction=1.0, gpus=(str(i),), models=MODELS)
                                for i in range(workers))  # fmt: skip
        self._idle = list(range(workers))
        self._running: dict[int, _Running] = {}
        self._due: list[tuple[float, int, int, int]] = []  # time, order, trial, which of its reports
        self._order = itertools.count()
        self._events: list[Event] = []
        self._starts, self._ends = array("d"), array("d")
        self.last_submit = 0.0

    @property
    def resources(self) -> Sequence[Resources]:
        return self._resources

    @property
    def free(self) -> int:
        return len(self._idle)

    def free_on(self, model: str) -> int:
        return len(self._idle) if model in MODELS.values() else 0

    def submit(self, job: Job) -> int:
        if not self._idle or job.trial in self._running or job.needs not in (None, *MODELS.values()):
            raise RunError("no slot is free, or the trial is running", where=f"trial {job.trial}")
        self.on_submit()
        seconds, result = self.outcome(job)
        now, slot = self.clock(), self._idle.pop()
        self._running[job.trial] = _Running(job, slot, now, seconds / self.reports, result)
        self._events.append(Started(trial=job.trial, slot=slot, time=now))
        self._plan(now, job.trial, 1)
        self.last_submit = now
        return slot

    def _plan(self, now: float, trial: int, report: int) -> None:
        heapq.heappush(self._due, (now + self._running[trial].step, next(self._order), trial, report))

    def poll(self, timeout: float) -> list[Event]:
        now = self.clock.stop()
        if not self._events and self._due:
            now = max(now, min(self._due[0][0], now + timeout))
        elif not self._events:
            now += timeout
        while self._due and self._due[0][0] <= now:
            at, _, trial, report = heapq.heappop(self._due)
            self._report(at, trial, report)
        events, self._events = self._events, []
        self.clock.go_on(now)
        return events

    def _report(self, at: float, trial: int, report: int) -> None:
        running = self._running[trial]
        if report < self.reports:
            self._events.append(Progress(trial=trial, values={"epoch": report}))
        if report < self.reports and not running.stopped:
            return self._plan(at, trial, report + 1)
        result = {**running.result, "stopped": report < self.reports}
        self._release(trial, at)
        self._events.append(Finished(trial=trial, result=result, seconds=at - running.start))

    def _release(self, trial: int, at: float) -> None:
        running = self._running.pop(trial)
        self._idle.append(running.slot)
        self._starts.append(running.start)
        self._ends.append(at)

    def busy(self) -> float:
        """The share of worker-seconds, from the clock's start until the last job began, that ended jobs held."""
        until = self.last_submit
        held = sum(min(end, until) - start for start, end in zip(self._starts, self._ends, strict=True))
        return held / (until * len(self._resources)) if until else 0.0

    def stop(self, trial: int) -> None:
        if trial in self._running:
            self._running[trial].stopped = True

    def kill(self, trial: int) -> None:
        if trial in self._running:
            self._due = [due for due in self._due if due[2] != trial]
            heapq.heapify(self._due)
            now = self.clock()
            seconds = now - self._running[trial].start
            self._release(trial, now)
            self._events.append(Failed(trial=trial, kind="killed", reason="killed on request", seconds=seconds))

    def close(self, grace: float = 0.0) -> list[Event]:
        for trial in list(self._running):
            self.kill(trial)
        self._idle = []
        events, self._events = self._events, []
        return events
