"""One worker and its handle, without an executor between."""

import os
import signal
import time

import pytest

from nas.search.executors.base import Resources
from nas.search.executors.process import Program, WorkerProcess, environment, signal_name
from nas.search.executors.wire import encode
from tests.search.executors.contract import TASK


@pytest.fixture
def worker():
    output = os.open(os.devnull, os.O_WRONLY)
    worker = WorkerProcess(Program.here(TASK, None, output), Resources(device="cpu", kind="cpu", fraction=1.0))
    yield worker
    worker.close()
    os.close(output)


def hear(worker, last):
    """Messages up to the first that is ``last``."""
    messages = []
    deadline = time.monotonic() + 10
    while last not in [message["is"] for message in messages]:
        assert time.monotonic() < deadline
        messages += worker.receive()
        time.sleep(0.005)
    return messages


def tell(worker, **message):
    worker.send(encode(message, where="test"))


def how_it_ended(worker):
    deadline = time.monotonic() + 10
    while (status := worker.ended()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return status


def test_a_stop_that_crosses_the_end_of_its_job_does_not_stop_the_next_run_of_the_trial(worker):
    payload = {"do": "report", "steps": 2}
    tell(worker, **{"is": "job"}, trial=1, payload=payload)
    hear(worker, "finished")
    tell(worker, **{"is": "stop"}, trial=1)
    tell(worker, **{"is": "job"}, trial=1, payload=payload)
    assert hear(worker, "finished")[-1]["result"]["answers"] == [False, False]


def test_a_worker_that_takes_no_message_is_killed(worker):
    hear(worker, "ready")
    worker.socket.settimeout(0.1)
    os.kill(worker.pid, signal.SIGSTOP)
    worker.send(b" " * 10_000_000)
    assert how_it_ended(worker) == "SIGKILL"
    worker.kill()


def test_a_worker_leaves_when_the_other_end_is_closed(worker):
    hear(worker, "ready")
    tell(worker, **{"is": "job"}, trial=1, payload={"do": "compute"})
    hear(worker, "progress")
    worker.socket.close()
    assert how_it_ended(worker) == "SIGKILL"


def test_what_a_worker_said_before_its_end_can_be_heard_after_it(worker):
    tell(worker, **{"is": "job"}, trial=1, payload={"do": "large", "text": "x" * 100_000})
    tell(worker, **{"is": "job"}, trial=2, payload={"do": "exit", "status": 7})
    assert how_it_ended(worker) == "exit status 7"
    assert [message["is"] for message in worker.rest()] == ["ready", "started", "finished", "started", "progress"]


def test_threads_wait_passively_only_when_there_are_several():
    one, two = (environment(Resources(device="cpu", kind="cpu", fraction=1.0, threads=n)) for n in (1, 2))
    assert (one["OMP_NUM_THREADS"], two["OMP_NUM_THREADS"]) == ("1", "2")
    assert one.get("OMP_WAIT_POLICY") == os.environ.get("OMP_WAIT_POLICY")
    assert two["OMP_WAIT_POLICY"] == "PASSIVE"


def test_signals_have_names():
    assert signal_name(11) == "SIGSEGV"
    assert signal_name(63) == "signal 63"
