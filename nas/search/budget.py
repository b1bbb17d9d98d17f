"""What a search may spend: wall time, trials and device time, metered exactly and across restarts."""

from __future__ import annotations

import heapq
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from nas.errors import RunError, UsageError

Device = Literal["cpu", "gpu"]
Kind = Literal["wall", "trials", "cpu", "gpu"]

_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)")
_EXAMPLES = "parts such as 3min, 24h, 50trials, 2cpuh or 100gpuh, joined by commas"


def _units() -> dict[str, tuple[Kind, int]]:
    units: dict[str, tuple[Kind, int]] = {"trials": ("trials", 1), "trial": ("trials", 1)}
    for word, seconds in _SECONDS.items():
        units[word] = ("wall", seconds)
        if word != "s":  # "10gpus" would read as ten devices
            units["cpu" + word] = ("cpu", seconds)
            units["gpu" + word] = ("gpu", seconds)
    return units


UNITS: Mapping[str, tuple[Kind, int]] = _units()
"""What every unit of a budget counts, and how many seconds (or trials) it is."""


@dataclass(frozen=True, slots=True)
class Part:
    """One limit: ``amount`` in the ``unit`` it was written in."""

    amount: float
    unit: str

    @property
    def kind(self) -> Kind:
        """What the unit counts."""
        return UNITS[self.unit][0]

    @property
    def limit(self) -> float:
        """In seconds (trials: a count)."""
        return self.amount * UNITS[self.unit][1]

    def __str__(self) -> str:
        amount = int(self.amount) if self.amount == int(self.amount) else self.amount
        return f"{amount}{self.unit}"


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of different kinds; the first one reached ends the search. No part: no end."""

    parts: tuple[Part, ...] = ()

    def limit(self, kind: Kind) -> float | None:
        """The limit of that kind in seconds (trials: a count), if there is one."""
        return next((part.limit for part in self.parts if part.kind == kind), None)

    @property
    def trials(self) -> int | None:
        """The most trials, if they are limited."""
        limit = self.limit("trials")
        return None if limit is None else int(limit)

    @property
    def of_cpus(self) -> bool:
        """Whether it is CPUs whose time is limited, and not GPUs."""
        return self.limit("cpu") is not None and self.limit("gpu") is None

    def __str__(self) -> str:
        return ",".join(map(str, self.parts))


def parse_budget(text: str) -> Budget:
    """The budget that ``"100gpuh,24h"`` says. Raises UsageError with examples."""
    parts = tuple(_parse_part(part.strip()) for part in text.split(",") if part.strip())
    if not parts:
        raise UsageError("a budget has at least one part", expected=_EXAMPLES, got=text)
    kinds = [part.kind for part in parts]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise UsageError(f"a budget limits {_SAID[kind]} once", expected=_EXAMPLES, got=text)
    return Budget(parts)


def parse_duration(text: str) -> float:
    """The seconds that ``"10min"`` says, in a budget's units of time. Raises UsageError."""
    match = _PART.fullmatch(text.strip().lower())
    if match is None or match[2] not in _SECONDS or float(match[1]) <= 0:
        raise UsageError("not a duration", expected="such as 30s, 10min, 2h or 1d", got=text)
    return float(match[1]) * _SECONDS[match[2]]


_SAID = {"wall": "wall time", "trials": "trials", "cpu": "CPU time", "gpu": "GPU time"}


def _parse_part(text: str) -> Part:
    match = _PART.fullmatch(text.lower())
    if match is None or match[2] not in UNITS:
        raise UsageError("not a budget", expected=_EXAMPLES, got=text)
    part = Part(float(match[1]), match[2])
    if part.limit <= 0:
        raise UsageError("a budget is more than nothing", expected=_EXAMPLES, got=text)
    if part.kind == "trials" and part.amount != int(part.amount):
        raise UsageError("trials are counted whole", expected="such as 50trials", got=text)
    return part


DRIVER = -1
"""What the driver is called in its meter while it uses a device itself; trials have numbers from 0."""


@dataclass(slots=True)
class _Running:
    """A trial in flight: since when, on how much of which device, until when it is expected to run, and whether it may."""

    start: float
    device: Device
    fraction: float
    until: float
    awaited: bool = True


@dataclass(slots=True)
class _Sums:
    """Of trials on one kind of device: their fractions, and their fractions times one of their moments.

    So that what thousands of them take together costs no walk through them: it is ``fractions * now - moments``.
    """

    fractions: float = 0.0
    moments: float = 0.0
    count: int = 0

    def add(self, fraction: float, moment: float, sign: int) -> None:
        """One trial more (sign 1) or less (-1); of none nothing is left, whatever was rounded."""
        self.count += sign
        self.fractions = self.fractions + sign * fraction if self.count else 0.0
        self.moments = self.moments + sign * fraction * moment if self.count else 0.0

    def since(self, now: float) -> float:
        """Device seconds between their moments and now."""
        return self.fractions * now - self.moments


def shared(part: Part, share: float) -> float:
    """A share of a limit in seconds; of trials at least so many whole ones."""
    return math.ceil(part.limit * share - 1e-9) if part.kind == "trials" else part.limit * share


class Meter:
    """Counts what a search has spent of its budget, trials in flight included.

    Wall time is the time that a driver was at work: not the hours between a kill and the next start. ``clock`` returns
    seconds and never goes back. A search that goes on has a new meter, which is told by :meth:`remember` what was spent
    before: trials that were in flight then are not in flight any more, and what they had spent stays spent. All but
    :meth:`to_mapping` is called from one thread.
    """

    def __init__(self, budget: Budget, clock: Callable[[], float] = time.monotonic) -> None:
        self.budget = budget
        self._clock = clock
        self._since = clock()
        self._before: dict[Kind, float] = dict.fromkeys(get_args(Kind), 0.0)
        self._running: dict[int, _Running] = {}
        self._held: dict[Kind, _Sums] = {kind: _Sums() for kind in get_args(Kind)}
        self._awaited: dict[Kind, _Sums] = {kind: _Sums() for kind in get_args(Kind)}  # those not longer than expected
        self._untils: list[tuple[float, int, _Running]] = []  # a heap of those, and of some that have ended
        self._begun = 0
        self._lock = threading.Lock()  # held where what is spent changes, so that another thread sees no half of it

    def remember(self, *said: Mapping[str, Any]) -> None:
        """Add what was spent before: of each kind the most that one of these tells, as :meth:`to_mapping` told it.

        Raises RunError for a count that is none.
        """
        for mapping in said:
            for kind in self._before.keys() & mapping.keys():
                value = mapping[kind]
                if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                    raise RunError(f"the meter's {kind} is damaged", expected="seconds or a count", got=value)
        with self._lock:
            for kind in self._before:
                self._before[kind] += max((float(mapping.get(kind, 0.0)) for mapping in said), default=0.0)

    def begin(self, trial: int, device: Device, fraction: float = 1.0, expected: float = 0.0) -> None:
        """A trial takes ``fraction`` (2: two devices) of a device; ``expected`` seconds keep room for it."""
        if trial in self._running:
            raise ValueError(f"trial {trial} is already being metered")
        now = self._clock()
        self._running[trial] = running = _Running(now, device, fraction, now + expected)
        with self._lock:
            self._held[device].add(fraction, now, 1)
        self._awaited[device].add(fraction, running.until, 1)
        self._begun += 1
        heapq.heappush(self._untils, (running.until, self._begun, running))

    def end(self, trial: int) -> float:
        """The trial lets go of its device, for now or for good. The device seconds that it held it."""
        running = self._running.pop(trial)
        self._await_no_more(running)
        while self._untils and not self._untils[0][2].awaited:  # otherwise a budget of trials would keep them all
            heapq.heappop(self._untils)
        with self._lock:
            self._held[running.device].add(running.fraction, running.start, -1)
            seconds = running.fraction * (self._clock() - running.start)
            self._before[running.device] += seconds
        return seconds

    @contextmanager
    def holding(self, device: str) -> Iterator[None]:
        """Within the block the driver uses a device itself, as torch names it: a GPU, or of the CPU one core. It is spent like
        a trial's."""
        self.begin(DRIVER, "cpu" if device == "cpu" else "gpu")
        try:
            yield
        finally:
            self.end(DRIVER)

    def count(self, trials: int = 1) -> None:
        """So many of the budget's trials are over; of a negative number, not over after all."""
        self._before["trials"] += trials

    def now(self) -> float:
        """The clock, in seconds."""
        return self._clock()

    def spent(self, kind: Kind) -> float:
        """Seconds (trials: a count of the completed) until now."""
        now = self._clock()
        spent = self._before[kind]
        if kind == "wall":
            spent += now - self._since
        return spent + self._held[kind].since(now)

    def left(self, kind: Kind) -> float | None:
        """What is left, never below 0; None where there is no limit."""
        limit = self.budget.limit(kind)
        return None if limit is None else max(0.0, limit - self.spent(kind))

    def used(self, share: float = 1.0) -> float:
        """How much of this share of the budget is spent, of the part of which most is: 1 for all of it."""
        return max((self.spent(part.kind) / shared(part, share) for part in self.budget.parts), default=0.0)

    def exhausted(self, share: float = 1.0) -> Part | None:
        """The first part of whose limit this share is used up, if any."""
        return next((part for part in self.budget.parts if self.spent(part.kind) >= shared(part, share)), None)

    def can_start(self, expected_seconds: float, device: Device = "cpu", fraction: float = 1.0, *, share: float = 1.0,
                  open_trials: int = 0) -> bool:  # fmt: skip
        """Whether one more trial is expected to end within this share of every limit, with what those begun will spend.

        ``open_trials``: how many have begun and are not counted yet.
        """
        for part in self.budget.parts:
            begun = open_trials if part.kind == "trials" else self._promised(part.kind)
            left = shared(part, share) - self.spent(part.kind) - begun
            need = {"wall": expected_seconds, "trials": 1.0, device: fraction * expected_seconds}.get(part.kind, 0.0)
            if left < need or left <= 0:
                return False
        return True

    def _promised(self, kind: Kind) -> float:
        """What the trials in flight are expected to spend from now on; wall time passes for all of them at once."""
        now = self._clock()
        while self._untils and self._untils[0][0] <= now:
            self._await_no_more(heapq.heappop(self._untils)[2])
        return -self._awaited[kind].since(now)

    def _await_no_more(self, running: _Running) -> None:
        """A trial that has ended, or runs longer than expected, promises nothing any more."""
        if running.awaited:
            self._awaited[running.device].add(running.fraction, running.until, -1)
            running.awaited = False

    def rows(self) -> list[dict[str, Any]]:
        """Asked and spent of every part, in the unit it was asked in."""
        return [
            {"asked": part.amount, "spent": self.spent(part.kind) / UNITS[part.unit][1], "unit": part.unit}
            for part in self.budget.parts
        ]

    def to_mapping(self) -> dict[str, float]:
        """What was spent until now, for :meth:`remember`. May be called from any thread."""
        with self._lock:
            return {kind: self.spent(kind) for kind in self._before}


def extended(old: str, new: str) -> str:
    """The budget ``new``; with a leading ``+``, ``old`` with that much more. Raises UsageError when the units differ."""
    if not new.startswith("+"):
        return new
    before, more = parse_budget(old), parse_budget(new[1:])
    parts = {part.kind: part for part in before.parts}
    for part in more.parts:
        if part.kind not in parts:
            raise UsageError("the run's budget has no such part to extend", got=new, expected=f"an extension of {old}")
        factor = parts[part.kind].limit / parts[part.kind].amount
        parts[part.kind] = replace(parts[part.kind], amount=round(parts[part.kind].amount + part.limit / factor, 6))
    return str(Budget(tuple(parts.values())))
