"""Processes on this machine, and what can happen to them."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from nas.errors import RunError, UsageError
from nas.search.executors.base import Executor, Failed, Finished, Progress
from nas.search.executors.local import LocalExecutor
from tests.search.executors.contract import MODEL, MODELS, TASK, ExecutorContract, ends, job, run_all, wait

TASKS = TASK.partition(":")[0]


def alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def vanish(pids: list[int], seconds: float = 2.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(alive, pids))


def progress(executor: Executor) -> dict[str, int]:
    """The first progress that comes."""
    events = wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
    return dict(next(event.values for event in events if isinstance(event, Progress)))


class TestLocalExecutor(ExecutorContract):
    def open(self, slots: int) -> LocalExecutor:
        return LocalExecutor(TASK, workers=slots, gpus_per_trial=0, preload=MODELS)


def test_a_worker_has_its_own_share_of_the_machine():
    cores = sorted(os.sched_getaffinity(0))
    gpu = f"GPU-of-{os.getpid()}"  # no other test's
    with LocalExecutor(TASK, workers=2, threads=2, gpus=(gpu,), gpus_per_trial=0.5) as executor:
        executor.submit(job(1, "look"))
        executor.submit(job(2, "look"))
        ended = ends(wait(executor, lambda events: len(ends(events)) == 2))
        looks = [ended[trial].result for trial in (1, 2)]
        for look, slot in zip(looks, executor.resources, strict=True):
            assert slot.fraction == 0.5
            assert tuple(look["cpus"]) == slot.cpus
            assert look["group"] == look["pid"]
            assert look["folder"] == os.getcwd()
            assert not look["torch"]
            assert look["stdin"] == ""
            environ = look["environ"]
            assert environ["CUDA_VISIBLE_DEVICES"] == gpu
            assert environ["OMP_NUM_THREADS"] == environ["MKL_NUM_THREADS"] == "2"
            assert environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert set(looks[0]["cpus"]) | set(looks[1]["cpus"]) == set(cores) or len(cores) > 2


def test_one_thread_a_core_is_the_default():
    with LocalExecutor(TASK, gpus_per_trial=0) as executor:
        _, ended = run_all(executor, job(1, "look"))
        assert all(slot.threads == len(slot.cpus) == 1 for slot in executor.resources)
        assert ended[1].result["environ"]["CUDA_VISIBLE_DEVICES"] == ""


def test_output_goes_to_the_log_and_never_to_the_terminal(tmp_path, capfd, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    log = tmp_path / "workers.log"
    log.write_text("kept\n")
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, log=log) as executor:
        run_all(executor, job(1, "print"), job(2, "raise", error="value"), job(3, "segfault"))
    text = log.read_text()
    for words in ("kept\n", "out of the worker\n", "on its stderr\n", "from a child\n",
                  "trial 2 failed", "ValueError: a bad", "Segmentation fault"):  # fmt: skip
        assert words in text
    assert capfd.readouterr() == ("", "")


def test_preload_runs_once_a_worker():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0, preload=f"{TASKS}:preload") as executor:
        _, ended = run_all(executor, job(1, "look"), job(2, "look"))
        assert ended[1].result["loaded"] == ended[2].result["loaded"] == [ended[1].result["pid"]]
        assert (executor.resources[0].models, executor.free_on(MODEL)) == ({}, 0), "it tells none"


@pytest.mark.parametrize(
    ("task", "preload", "words"),
    [
        ("no_such_package:run", None, "ModuleNotFoundError: No module named 'no_such_package'"),
        (f"{TASKS}:no_such_task", None, "AttributeError"),
        (f"{TASKS}:not_callable", None, "has to be a function"),
        (TASK, "no_such_package", "ModuleNotFoundError"),
        (TASK, f"{TASKS}:models_junk", "only plain values"),
        (TASK, f"{TASKS}:preload_dies", "3 times in a row the process ended by SIGKILL"),
        (TASK, f"{TASKS}:preload_sleeps", "3 times in a row"),
    ],
)
def test_workers_that_cannot_start_are_told(tmp_path, task, preload, words):
    log = tmp_path / "workers.log"
    with LocalExecutor(task, workers=1, gpus_per_trial=0, preload=preload, log=log, start_timeout=0.3) as executor:
        executor.submit(job(1, "nothing"))
        with pytest.raises(RunError, match=words) as error:
            wait(executor, bool)
        assert str(log) in str(error.value)
        (end,) = executor.close(grace=5.0)
        assert isinstance(end, Failed)


@pytest.mark.parametrize("task", ["run", "tests.tasks", "tests.tasks:", ":run", "tests/tasks.py:run"])
def test_a_task_is_an_import_path(task):
    with pytest.raises(UsageError, match=r"package\.module:function"):
        LocalExecutor(task, workers=1, gpus_per_trial=0)


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match="log cannot be written"):
        LocalExecutor(TASK, workers=1, gpus_per_trial=0, log=tmp_path / "nowhere" / "log")


def test_a_worker_with_a_broken_device_is_replaced():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        _, first = run_all(executor, job(1, "report", steps=0))
        run_all(executor, job(2, "raise", error="spoilt"))
        begin = time.monotonic()
        assert executor.free == 0
        assert executor.poll(30.0) == []
        assert executor.free == 1
        assert time.monotonic() - begin < 10
        _, second = run_all(executor, job(3, "report", steps=0))
        assert first[1].result["pid"] != second[3].result["pid"]


def test_a_job_that_was_done_before_its_worker_died_is_finished():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        _, first = run_all(executor, job(1, "report", steps=0))
        executor.submit(job(2, "large", text="x" * 150_000))  # More than one read, less than the socket's buffer.
        time.sleep(0.3)
        os.kill(first[1].result["pid"], signal.SIGKILL)
        time.sleep(0.1)
        assert isinstance(ends(wait(executor, ends))[2], Finished)


def test_a_worker_killed_between_jobs_is_replaced():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        _, first = run_all(executor, job(1, "report", steps=0))
        os.kill(first[1].result["pid"], signal.SIGKILL)
        assert executor.poll(0.5) == []
        _, second = run_all(executor, job(2, "report", steps=0))
        assert isinstance(second[2], Finished)


def test_a_frozen_worker_hangs():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        executor.submit(job(1, "until_stopped", timeout=0.3))
        os.kill(progress(executor)["pid"], signal.SIGSTOP)
        assert ends(wait(executor, ends))[1].kind == "hang"


@pytest.mark.parametrize("die", [False, True])
def test_what_a_job_has_started_ends_with_its_worker(die):
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        executor.submit(job(1, "child", die=die))
        events = wait(executor, ends)
        child = next(event.values["child"] for event in events if isinstance(event, Progress))
        end = ends(events)[1]
        assert isinstance(end, Failed if die else Finished)
        if die:
            assert vanish([child])
    assert vanish([child])


def test_ctrl_c_does_not_reach_a_worker():
    with LocalExecutor(TASK, workers=1, gpus_per_trial=0) as executor:
        executor.submit(job(1, "until_stopped"))
        os.kill(progress(executor)["pid"], signal.SIGINT)
        wait(executor, lambda events: len(events) > 5)
        executor.stop(1)
        assert isinstance(ends(wait(executor, ends))[1], Finished)


def test_close_leaves_no_process_behind():
    executor = LocalExecutor(TASK, workers=2, gpus_per_trial=0)
    pids = [slot.worker.pid for slot in executor._slots]
    executor.submit(job(1, "compute"))
    progress(executor)
    assert all(map(alive, pids))
    executor.close()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


DRIVER = f"""
import json, os, signal, sys, time
from nas.search.executors.base import Job, Progress
from nas.search.executors.local import LocalExecutor
if __name__ != "__main__":
    raise SystemExit("a worker has run the user's script")
assert "torch" not in sys.modules
with LocalExecutor("{TASK}", workers=3, gpus_per_trial=0) as executor:
    executor.submit(Job(trial=1, payload={{"do": "compute"}}))
    executor.submit(Job(trial=2, payload={{"do": "until_stopped"}}))
    seen = set()
    while seen != {{1, 2}}:
        seen |= {{event.trial for event in executor.poll(1) if isinstance(event, Progress)}}
    print(json.dumps([slot.worker.pid for slot in executor._slots]), flush=True)
    {{rest}}
"""


def drive(tmp_path: Path, rest: str) -> tuple[subprocess.Popen[str], list[int]]:
    """A driver in its own process group, as under a terminal, and its three workers: two busy, one idle."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.replace("{rest}", rest))
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, "PYTHONPATH": os.getcwd()}, process_group=0)  # fmt: skip
    assert driver.stdout is not None
    return driver, json.loads(driver.stdout.readline())


@pytest.mark.parametrize("rest", ["executor.poll(60)", "os.fork(); time.sleep(60)"], ids=["alone", "forked"])
def test_workers_vanish_with_a_killed_driver(tmp_path, rest):
    driver, workers = drive(tmp_path, rest)
    assert all(map(alive, workers))
    driver.kill()
    driver.wait()
    assert vanish(workers)
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)  # the fork
    driver.communicate()


def test_ctrl_c_in_the_terminal_is_for_the_driver_alone(tmp_path):
    rest = """
    try:
        print("listening", flush=True)
        while True:
            executor.poll(1)
    except KeyboardInterrupt:
        print([event.kind if hasattr(event, "kind") else event.result["stopped"]
               for event in executor.close(grace=0.5) if hasattr(event, "seconds")])
"""
    driver, workers = drive(tmp_path, rest)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "listening\n"
    os.killpg(driver.pid, signal.SIGINT)
    out, err = driver.communicate(timeout=10)
    assert (out, err, driver.returncode) == ("[True, 'killed']\n", "", 0)
    assert vanish(workers, 0.0)
