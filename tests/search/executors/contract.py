"""What every executor promises. Inherit ``ExecutorContract`` and say in ``open`` how yours is made."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from nas.errors import RunError, UsageError
from nas.search.executors.base import Event, Executor, Failed, Finished, Job, Progress, Started

TASK = "tests.search.executors.tasks:run"
MODELS = "tests.search.executors.tasks:models"
MODEL = "a processor"
Open = Callable[..., Executor]


def wait(executor: Executor, until: Callable[[list[Event]], bool], seconds: float = 30.0) -> list[Event]:
    """Polls until ``until(events)``; the test fails when that takes longer than ``seconds``."""
    events: list[Event] = []
    deadline = time.monotonic() + seconds
    while not until(events):
        assert time.monotonic() < deadline, f"nothing more after {events}"
        events += executor.poll(0.2)
    return events


def ends(events: list[Event]) -> dict[int, Finished | Failed]:
    """The end of every trial; fails when one ends twice or goes on after its end."""
    ended: dict[int, Finished | Failed] = {}
    for event in events:
        assert event.trial not in ended, f"{event} after the end"
        if isinstance(event, Finished | Failed):
            ended[event.trial] = event
    return ended


def job(trial: int, do: str, timeout: float | None = None, needs: str | None = None, spares: str | None = None,
        **payload: Any) -> Job:  # fmt: skip
    return Job(trial=trial, payload={"do": do, **payload}, timeout=timeout, needs=needs, spares=spares)


def run_all(executor: Executor, *jobs: Job) -> tuple[list[Event], dict[int, Finished | Failed]]:
    """Feeds jobs to free slots until all have ended."""
    queue, events = list(jobs), list[Event]()
    deadline = time.monotonic() + 30.0
    while len(ends(events)) < len(jobs):
        while queue and executor.free:
            executor.submit(queue.pop(0))
        assert time.monotonic() < deadline, f"nothing more after {events}"
        events += executor.poll(5.0)
    return events, ends(events)


class ExecutorContract:
    """``open(slots)`` has to give an executor with that many slots that runs ``TASK`` and preloads ``MODELS``."""

    def open(self, slots: int) -> Executor:
        raise NotImplementedError

    @pytest.fixture
    def make(self) -> Iterator[Open]:
        with ExitStack() as stack:
            yield lambda slots=1: stack.enter_context(self.open(slots))

    def test_runs_more_jobs_than_it_has_slots(self, make: Open) -> None:
        executor = make(2)
        assert executor.free == len(executor.resources) == 2
        before = time.time()
        events, ended = run_all(executor, *(job(trial, "report", steps=2) for trial in range(7)))
        assert executor.free == 2
        for trial in range(7):
            own = [event for event in events if event.trial == trial]
            assert [type(event) for event in own] == [Started, Progress, Progress, Finished]
            started, first = own[:2]
            assert isinstance(started, Started)
            assert started.slot in (0, 1)
            assert before - 1 <= started.time <= time.time() + 1
            assert isinstance(first, Progress)
            assert first.values == {"step": 0, "loss": 1.0}
            assert isinstance(end := ended[trial], Finished)
            assert end.result["answers"] == [False, False]
            assert 0 <= end.seconds < 10

    def test_every_slot_works(self, make: Open) -> None:
        executor = make(2)
        given = {trial: executor.submit(job(trial, "until_stopped")) for trial in (1, 2)}
        assert executor.free == 0
        events = wait(executor, lambda seen: {type(e) for e in seen if e.trial == 1} == {Started, Progress}
                      and {type(e) for e in seen if e.trial == 2} == {Started, Progress})  # fmt: skip
        assert {event.trial: event.slot for event in events if isinstance(event, Started)} == given
        assert set(given.values()) == {0, 1}

    def test_keeps_its_workers_warm(self, make: Open) -> None:
        _, ended = run_all(make(), *(job(trial, "report", steps=0) for trial in range(3)))
        assert len({end.result["pid"] for end in ended.values() if isinstance(end, Finished)}) == 1

    def test_a_job_runs_only_where_the_model_is_that_it_needs(self, make: Open) -> None:
        executor = make(2)
        wait(executor, lambda events: executor.free_on(MODEL) == 2)
        assert [held.models for held in executor.resources] == [{"cpu": MODEL}] * 2
        assert executor.free_on("another") == 0
        with pytest.raises(RunError, match=r"no slot is free; expected another"):
            executor.submit(job(1, "nothing", needs="another"))
        assert executor.free == 2
        executor.submit(job(1, "until_stopped", needs=MODEL))
        assert executor.free_on(MODEL) == 1
        executor.submit(job(2, "until_stopped", spares=MODEL))
        assert executor.free == executor.free_on(MODEL) == 0
        executor.stop(1)
        assert isinstance(ends(wait(executor, ends))[1], Finished)
        assert executor.free_on(MODEL) == 1

    def test_a_model_stays_when_a_worker_is_replaced(self, make: Open) -> None:
        executor = make()
        wait(executor, lambda events: executor.free_on(MODEL) == 1)
        executor.submit(job(1, "exit", status=3, needs=MODEL))
        assert isinstance(ends(wait(executor, ends))[1], Failed)
        wait(executor, lambda events: executor.free_on(MODEL) == 1)
        executor.submit(job(2, "nothing", needs=MODEL))
        assert isinstance(ends(wait(executor, ends))[2], Finished)

    def test_a_stopped_job_returns_what_it_has(self, make: Open) -> None:
        executor = make(2)
        executor.submit(job(1, "until_stopped"))
        executor.submit(job(2, "until_stopped"))
        wait(executor, lambda events: any(isinstance(event, Progress) and event.trial == 1 for event in events))
        executor.stop(1)
        ended = ends(wait(executor, ends))
        assert list(ended) == [1]
        assert isinstance(end := ended[1], Finished)
        assert end.result["stopped"]

    def test_a_job_can_be_stopped_before_it_starts(self, make: Open) -> None:
        executor = make()
        executor.submit(job(1, "until_stopped"))
        executor.stop(1)
        assert isinstance(ends(wait(executor, ends))[1], Finished)

    def test_a_stop_that_comes_late_does_not_hit_a_second_run(self, make: Open) -> None:
        executor = make()
        run_all(executor, job(1, "nothing"))
        executor.stop(1)
        executor.kill(1)
        executor.stop(99)
        executor.kill(99)
        _, ended = run_all(executor, job(1, "report", steps=3))
        assert isinstance(end := ended[1], Finished)
        assert end.result["answers"] == [False] * 3

    def test_kill_ends_a_job_that_does_not_report(self, make: Open) -> None:
        executor = make()
        executor.submit(job(1, "sleep", seconds=60))
        wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
        executor.kill(1)
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert (end.kind, end.detail) == ("killed", "")
        assert 0 < end.seconds < 30
        assert isinstance(run_all(executor, job(2, "nothing"))[1][2], Finished)

    @pytest.mark.parametrize(
        ("error", "kind", "reason"),
        [
            ("value", "error", "ValueError: a bad value"),
            ("silent", "error", "ValueError"),
            ("exit", "error", "SystemExit: 3"),
            ("memory", "out_of_memory", "MemoryError"),
            ("device_memory", "out_of_memory", "OutOfMemoryError: CUDA out of memory."),
            ("host_memory", "out_of_memory", "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried"),
            ("measured", "out_of_memory", "UnsupportedError: the network does not run on cuda: CUDA out of memory."),
            ("diverged", "diverged", "TrainError: the training diverged; got 'loss nan'"),
            ("setting", "error", "TrainError: impossible settings"),
            ("spoilt", "error", "AcceleratorError: CUDA error: device-side assert triggered"),
        ],
    )
    def test_an_exception_is_a_result(self, make: Open, error: str, kind: str, reason: str) -> None:
        executor = make()
        _, ended = run_all(executor, job(1, "raise", error=error), job(2, "nothing"))
        assert isinstance(end := ended[1], Failed)
        assert end.kind == kind
        assert end.reason.startswith(reason)
        assert "do_raise" in end.detail
        assert ended[2] == Finished(trial=2, result={}, seconds=ended[2].seconds)

    @pytest.mark.parametrize(
        ("do", "words"),
        [("return", "plain values"), ("report_junk", "plain values"), ("no_such_thing", "KeyError")],
    )
    def test_a_task_that_breaks_the_rules_fails(self, make: Open, do: str, words: str) -> None:
        _, ended = run_all(make(), job(1, do))
        assert isinstance(end := ended[1], Failed)
        assert end.kind == "error"
        assert words in end.reason

    def test_a_result_has_to_be_a_mapping(self, make: Open) -> None:
        _, ended = run_all(make(), job(1, "return", result=3))
        assert isinstance(end := ended[1], Failed)
        assert "mapping" in end.reason

    @pytest.mark.parametrize(
        ("do", "payload", "reason"),
        [
            ("segfault", {}, "SIGSEGV"),
            ("exit", {"status": 3}, "exit status 3"),
            ("exit", {"status": 0}, "exit status 0"),
            ("signal", {"number": int(signal.SIGKILL)}, "SIGKILL"),
            ("signal", {"number": int(signal.SIGTERM)}, "SIGTERM"),
        ],
    )
    def test_a_lost_worker_is_a_result(self, make: Open, do: str, payload: dict[str, Any], reason: str) -> None:
        executor = make(2)
        executor.submit(job(0, "until_stopped"))
        executor.submit(job(1, do, **payload))
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert end.kind == "died"
        assert reason in end.reason
        wait(executor, lambda events: executor.free == 1)
        executor.submit(job(2, "nothing"))
        assert isinstance(ends(wait(executor, ends))[2], Finished)
        executor.stop(0)
        assert isinstance(ends(wait(executor, ends))[0], Finished)

    def test_a_worker_killed_from_outside_is_replaced(self, make: Open) -> None:
        executor = make()
        executor.submit(job(1, "sleep", seconds=60))
        events = wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
        (pid,) = [event.values["pid"] for event in events if isinstance(event, Progress)]
        os.kill(pid, signal.SIGKILL)
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert end.kind == "died"
        _, ended = run_all(executor, job(2, "report", steps=0))
        assert isinstance(end := ended[2], Finished)
        assert end.result["pid"] != pid

    def test_a_silent_job_hangs_and_a_reporting_one_does_not(self, make: Open) -> None:
        executor = make(2)
        executor.submit(job(1, "until_stopped", timeout=0.5))
        executor.submit(job(2, "sleep", timeout=0.5, seconds=60))
        ended = ends(wait(executor, ends))
        assert list(ended) == [2]
        assert isinstance(end := ended[2], Failed)
        assert (end.kind, end.reason) == ("hang", "no progress for 0.5 s")
        assert 0.5 <= end.seconds < 10

    def test_time_between_jobs_does_not_count_as_silence(self, make: Open) -> None:
        executor = make()
        run_all(executor, job(1, "nothing"))
        time.sleep(0.6)
        _, ended = run_all(executor, job(2, "nothing", timeout=0.5))
        assert isinstance(ended[2], Finished)

    def test_a_job_needs_a_free_slot_a_new_trial_and_plain_values(self, make: Open) -> None:
        executor = make(2)
        with pytest.raises(UsageError, match=r"payload of trial 1.*plain"):
            executor.submit(job(1, "nothing", junk=object()))
        assert executor.free == 2
        executor.submit(job(1, "until_stopped"))
        with pytest.raises(RunError, match="running already"):
            executor.submit(job(1, "nothing"))
        executor.submit(job(2, "until_stopped"))
        with pytest.raises(RunError, match="no slot is free"):
            executor.submit(job(3, "nothing"))
        assert {event.trial for event in wait(executor, lambda events: len({e.trial for e in events}) == 2)} == {1, 2}

    def test_large_messages_come_through(self, make: Open) -> None:
        text = "long\n" * 300_000
        _, ended = run_all(make(), job(1, "large", text=text))
        assert isinstance(end := ended[1], Finished)
        assert end.result["text"] == text

    def test_poll_waits_as_long_as_it_is_told(self, make: Open) -> None:
        executor = make()
        begin = time.monotonic()
        assert executor.poll(0.3) == []
        assert 0.3 <= time.monotonic() - begin < 5

    def test_close_gives_running_jobs_time_to_stop(self, make: Open) -> None:
        executor = make(2)
        executor.submit(job(1, "until_stopped"))
        executor.submit(job(2, "sleep", seconds=60))
        seen = wait(executor, lambda events: {e.trial for e in events if isinstance(e, Progress)} == {1, 2})
        ended = ends(seen + executor.close(grace=1.0))
        assert isinstance(ended[1], Finished)
        assert isinstance(end := ended[2], Failed)
        assert end.kind == "killed"

    def test_a_closed_executor_takes_nothing(self, make: Open) -> None:
        executor = make()
        executor.submit(job(1, "sleep", seconds=60))
        end = ends(executor.close())[1]
        assert isinstance(end, Failed)
        assert end.kind == "killed"
        assert executor.close() == executor.poll(0.0) == []
        assert executor.free == executor.free_on(MODEL) == 0
        executor.stop(1)
        executor.kill(1)
        with pytest.raises(RunError):
            executor.submit(job(2, "nothing"))
