"""The protocol between the search loop and whatever runs its trials: jobs in, events out.

An executor owns a fixed number of *slots* (a share of a device each) and one *task*, a function named by its import
path. It knows nothing of studies, samplers or torch; what a payload or a result means is between loop and task.
Everything that crosses the protocol is made of *plain values*, what JSON can say (see :mod:`.wire`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

Values = Mapping[str, Any]
"""Names to plain values: None, bool, int, float, str, and lists and dicts (with str keys) of them."""

Report = Callable[[Values], bool]
"""Sends progress to the driver; True when the driver wants the job to return what it has, now."""

Task = Callable[[Values, Report], Values | None]
"""What a worker runs: ``task(payload, report) -> result``."""

FailureKind = Literal["error", "diverged", "out_of_memory", "died", "lost", "hang", "killed"]
"""Why a job has no result: its code raised; its training diverged; memory of host or device ran out; its process
ended; its machine was lost; it made no progress for ``Job.timeout`` seconds; the driver killed it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What one slot holds.

    ``device`` names it for people and records (``cpu``, ``cuda:1``; the job itself sees its GPU as ``cuda:0``);
    ``fraction`` is how many of them it holds, GPUs or cores (0.5: two slots on one GPU, 2.0: one slot on two GPUs), so
    ``fraction * seconds`` is what a job costs in device-seconds. ``gpus`` are the ids that the job sees, ``cpus`` the
    cores it may run on (empty: any), ``threads`` what numeric libraries may use. ``models``: of the processor and the GPU
    that a job can use, by kind (``cpu``, ``cuda``), as the worker's preload has told; empty while no worker is there.
    """

    device: str
    kind: Literal["cpu", "gpu"]
    fraction: float
    gpus: tuple[str, ...] = ()
    cpus: tuple[int, ...] = ()
    threads: int = 1
    models: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One trial to run. ``timeout``: seconds without any progress after which it counts as hung, None for never.

    ``needs``: a model of processor or GPU; the job runs on no slot that has told none such. ``spares``: a model whose slots
    it takes last, because other jobs need them.

    ``files``: absolute paths of files that the job reads, where they exist, and writes (weights, a checkpoint). On a
    machine that does not share the driver's disk, a string of the payload that is one of them, or the folder of one, becomes
    the path of a copy. What the job has written into these files is brought back before its end is told, and now and then after a
    progress, so that another can go on with them: it replaces each in one step, and they are named in the order of writing.
    """

    trial: int
    payload: Values
    timeout: float | None = None
    files: tuple[str, ...] = ()
    needs: str | None = None
    spares: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A worker began the job, in ``slot`` (index into ``Executor.resources``), at ``time`` (seconds since 1970)."""

    trial: int
    slot: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The job reported ``values``."""

    trial: int
    values: Values


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job returned ``result`` after ``seconds`` of wall time, whether or not it had been asked to stop."""

    trial: int
    result: Values
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The job has no result. ``reason`` is one line for a user, ``detail`` the traceback if there was one."""

    trial: int
    kind: FailureKind
    reason: str
    seconds: float
    detail: str = ""


Event = Started | Progress | Finished | Failed


class Executor(ABC):
    """Runs jobs in slots. Used from one thread; a context manager, which kills what still runs when it is left.

    Promises, which ``tests/search/executors/contract.py`` holds every executor to:

    - a submitted job ends in exactly one Finished or Failed, and no event of its trial comes after that;
    - Started comes at most once and before Progress; a job lost before it began may fail without Started;
    - whatever a job does to its process, the slot becomes free again and other jobs do not notice.
    """

    @property
    @abstractmethod
    def resources(self) -> Sequence[Resources]:
        """What each slot holds. It may grow; the slot of a machine that has gone keeps its place."""

    @property
    def largest(self) -> Resources:
        """The slot that holds most, so that what has room for it has room whichever slot a job will get."""
        return max(self.resources, key=lambda held: held.fraction)

    @property
    @abstractmethod
    def free(self) -> int:
        """Slots that can take a job now."""

    @abstractmethod
    def free_on(self, model: str) -> int:
        """Those of them that can take a job which needs that model."""

    @abstractmethod
    def submit(self, job: Job) -> int:
        """Gives a job to a free slot and returns at once, with the slot (index into ``resources``).

        Raises RunError without a free slot that has what the job needs, or when the trial already runs, and UsageError for a
        payload that is not plain; nothing has been started then.
        """

    @abstractmethod
    def poll(self, timeout: float) -> list[Event]:
        """What has happened since the last call, in order; waits up to ``timeout`` seconds for the first event
        (or for a slot that becomes free without one, after a worker had to be replaced).

        Hung and lost jobs are noticed here only, so it wants to be called again and again. Raises RunError when
        workers cannot start at all.
        """

    @abstractmethod
    def stop(self, trial: int) -> None:
        """Makes the job's next ``report`` return True. Nothing happens when the trial does not run (any more)."""

    @abstractmethod
    def kill(self, trial: int) -> None:
        """Ends the job by force: Failed(kind="killed"), or Finished when it was just done. Otherwise like stop."""

    @abstractmethod
    def close(self, grace: float = 0.0) -> list[Event]:
        """Asks running jobs to stop, kills those that still run after ``grace`` seconds, and ends all workers.

        Returns the events that ``poll`` has not handed out, so that no job is left without its end. Later calls do
        nothing.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:  # fmt: skip
        self.close()
