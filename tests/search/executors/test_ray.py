"""A real Ray on this machine, one for the whole file, and what can happen to its nodes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas.errors import RunError, UsageError
from nas.search.executors import far
from nas.search.executors import ray as engine
from nas.search.executors.base import Failed, Finished, Job, Progress
from nas.search.executors.cluster import Ask, connect, room_beside
from nas.search.executors.pool import START_ATTEMPTS
from nas.search.executors.ray import RayExecutor
from tests.search.executors.contract import MODEL, MODELS, TASK, ExecutorContract, ends, job, run_all, wait


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """Two CPUs and, as far as Ray knows, a GPU and a node for measuring."""
    import ray

    disconnect = connect("local", num_cpus=2, num_gpus=1, resources={"bench": 1})
    yield
    assert ray.is_initialized(), "an executor has shut down a Ray that was not its own"
    disconnect()


@pytest.mark.slow  # a minute: every executor waits for its actors
class TestRayExecutor(ExecutorContract):
    def open(self, slots: int) -> RayExecutor:
        executor = RayExecutor(TASK, workers=slots, ask=Ask(cpus=0.5), preload=MODELS)
        wait(executor, lambda events: all(executor.hello(slot) for slot in range(slots)))
        return executor


def test_a_search_on_ray(tmp_path):
    """The everyday test: jobs, files there and back, a process that dies, an actor that dies."""
    plugin, folder, weights = tmp_path / "my_ops.py", tmp_path / "data", tmp_path / "1.pt"
    folder.mkdir()
    plugin.write_text("plugin ")
    (folder / "data.txt").write_text("data ")
    weights.write_text("checkpoint ")
    paths = {"plugin": str(plugin), "folder": str(folder), "file": str(weights)}
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1, gpus=0.5), carry=[plugin, folder]) as executor:
        assert (executor.free, executor.resources[0].fraction, executor.resources[0].kind) == (0, 0.5, "gpu")
        wait(executor, lambda events: executor.free == 1)  # when it is placed
        executor.submit(Job(trial=1, payload={"do": "files", **paths}, files=(str(weights),)))
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Finished)
        assert weights.read_text() == "plugin data checkpoint "
        assert set(end.result["paths"]).isdisjoint({str(plugin), str(folder / "data.txt"), str(weights)})
        assert not Path(end.result["paths"][2]).exists()
        assert executor.resources[0].device.startswith("cuda:0@")
        _, ended = run_all(executor, job(2, "segfault"), job(3, "look"))
        assert isinstance(died := ended[2], Failed)
        assert (died.kind, "SIGSEGV" in died.reason) == ("died", True)
        assert ended[3].result["environ"]["CUDA_VISIBLE_DEVICES"] == "0"
        executor.submit(job(4, "sleep", seconds=60))
        wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
        os.kill(executor.hello(0)["pid"], signal.SIGKILL)
        end = ends(wait(executor, ends))[4]
        assert isinstance(end, Failed)
        assert end.kind == "lost"
        assert "loss of its machine" in end.reason
        assert executor.free == 0
        wait(executor, lambda events: executor.free == 1)
        assert isinstance(run_all(executor, job(5, "nothing"))[1][5], Finished)


def test_a_job_whose_actor_is_lost_goes_on_from_what_had_come_back(tmp_path, monkeypatch):
    class Quick(engine.RayHost):  # here, so that Ray sends it by value
        def __init__(self, *words: object) -> None:
            from nas.search.executors import host

            host.BACK_EVERY_S = 0.0
            super().__init__(*words)

    monkeypatch.setattr(engine, "RayHost", Quick)
    files = (str(tmp_path / "best"), str(tmp_path / "checkpoint"))
    lost = Job(trial=1, payload={"do": "write_on", "first": files[0], "second": files[1]}, files=files)

    def counted() -> int:
        return int(Path(files[1]).read_text()) if Path(files[1]).exists() else 0

    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1)) as executor:
        wait(executor, lambda events: executor.free == 1)
        executor.submit(lost)
        wait(executor, lambda events: counted() > 20)
        os.kill(executor.hello(0)["pid"], signal.SIGKILL)
        end = ends(wait(executor, ends))[1]
        assert isinstance(end, Failed)
        assert end.kind == "lost"
        back = counted()
        wait(executor, lambda events: executor.free == 1)
        executor.submit(lost)
        events = wait(executor, lambda events: any(isinstance(event, Progress) for event in events))
        first = next(event for event in events if isinstance(event, Progress))
        assert first.values == {"step": back + 1, "begun": back}


def test_messages_get_their_order_back(monkeypatch):
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1)) as executor:
        run_all(executor, job(1, "nothing"))
        worker = executor._slots[0].worker

        def in_disorder(data: bytes) -> None:
            number, worker._sent = worker._sent, worker._sent + 2
            worker._actor.send.remote(number + 1, data[20:])
            worker._actor.send.remote(number, data[:20])

        monkeypatch.setattr(worker, "transmit", in_disorder)
        assert isinstance(run_all(executor, job(2, "nothing"))[1][2], Finished)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask(cpus=1, gpus=8), r"no node of the cluster has 1 CPU, 8 GPU; got 'a cluster with 2 CPU, 1 GPU, 1 bench'"),
        (Ask(cpus=1, gpus=1, accelerator="H200"), "1 CPU, 1 GPU of type H200"),
        (Ask(cpus=0, resources={"mobile": 1}), "1 mobile"),
    ],
)
def test_what_the_cluster_does_not_have_is_refused(ask, words):
    with pytest.raises(UsageError, match=words):
        RayExecutor(TASK, ask=ask)


def test_waiting_for_a_cluster_to_grow_ends():
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=64), start_timeout=0.5) as executor:
        assert executor.free == 0
        with pytest.raises(RunError, match=r"the cluster gave no room for 64 CPU in 0\.5 s"):
            wait(executor, bool)


def test_a_slot_opens_when_it_is_placed_and_asks_for_room_until_then():
    gpu = Ask(cpus=0, gpus=1)
    with RayExecutor(TASK, workers=1, ask=gpu) as other:
        wait(other, lambda events: other.free == 1)
        with RayExecutor(TASK, workers=2, ask=gpu) as executor:
            assert (other.waiting, executor.waiting) == (0, 2)
            for _ in range(5):
                assert executor.poll(0.2) == []
            assert executor.free == 0
            with pytest.raises(RunError, match="no slot is free"):
                executor.submit(job(1, "nothing"))
            other.close()
            wait(executor, lambda events: executor.free == 1)
            assert isinstance(run_all(executor, job(1, "nothing"))[1][1], Finished)


@pytest.mark.parametrize(("ask", "other", "both"), [
    (Ask(cpus=1, gpus=1), Ask(cpus=1, gpus=1), False),
    (Ask(cpus=1, gpus=0.5), Ask(cpus=1, gpus=0.5), True),
    (Ask(cpus=1), Ask(cpus=1, gpus=1), True),
    (Ask(cpus=2), Ask(cpus=1, gpus=1), False),
])  # fmt: skip
def test_room_for_what_trains_beside_what_measures(ask, other, both):
    assert room_beside(ask, other) == room_beside(other, ask) == both


@pytest.mark.parametrize("words", [{"gpus": 1.5}, {"gpus": -1}, {"cpus": -1}])
def test_impossible_resources(words):
    with pytest.raises(UsageError, match="impossible"):
        Ask(**words)


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(far, "versions", lambda: {**engine.versions(), "torch": "1.0"})
    words = r"different versions; expected torch 1\.0; got 'torch \d"
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1)) as executor, pytest.raises(RunError, match=words):
        wait(executor, bool)


def test_an_actor_that_cannot_begin_is_told(monkeypatch):
    class Broken(engine.RayHost):  # here, so that Ray sends it by value
        def __init__(self, *_: object) -> None:
            raise ValueError("no room on this disk")

    monkeypatch.setattr(engine, "RayHost", Broken)
    words = "a worker cannot start: ValueError: no room on this disk"
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1)) as executor, pytest.raises(RunError, match=words):
        wait(executor, bool)


def breaks_when(flag: Path, how: str) -> type[engine.RayHost]:
    """An actor on whose machine no worker starts while the file is there."""
    there = {"task": ("tests.nothing:here", None), "process": (TASK, MODELS.replace("models", "preload_dies"))}.get(how)

    class Broken(engine.RayHost):  # here, so that Ray sends it by value
        def __init__(self, task: str, preload: str, *words: object) -> None:
            broken = flag.exists()
            if broken and how == "actor":
                raise OSError(28, "No space left on device")
            super().__init__(*(there if broken and there else (task, preload)), *words)
            if broken and how == "versions":
                self._hello["versions"] = {**self._hello["versions"], "torch": "1.0"}

    return Broken


@pytest.mark.parametrize(("how", "words"), [
    pytest.param("actor", "a worker cannot start: OSError: [Errno 28] No space left on device", marks=pytest.mark.slow),
    pytest.param("task", "a worker cannot start: ModuleNotFoundError: No module named 'tests.nothing'", marks=pytest.mark.slow),
    pytest.param("process", f"a worker cannot start: {START_ATTEMPTS} times in a row the process ended by SIGKILL",
                 marks=pytest.mark.slow),
    ("versions", "driver and worker have different versions; expected torch"),
])  # fmt: skip
def test_a_node_where_no_worker_starts_is_told_and_others_go_on_without_it(monkeypatch, tmp_path, how, words):
    flag, told = tmp_path / "flag", list[str]()
    monkeypatch.setattr(engine, "RayHost", breaks_when(flag, how))
    monkeypatch.setattr(engine, "PAUSE_S", 0.05)
    with RayExecutor(TASK, workers=2, ask=Ask(cpus=1), preload=MODELS, say=told.append) as executor:
        wait(executor, lambda events: executor.free_on(MODEL) == 2)
        executor.submit(job(0, "until_stopped"))
        flag.touch()
        os.kill(executor.hello(1)["pid"], signal.SIGKILL)
        wait(executor, lambda events: len(told) > START_ATTEMPTS)  # more than would end a search that has nobody else
        assert words in told[0]
        assert (executor.free, executor.resources[1].models) == (0, {})
        executor.stop(0)
        assert isinstance(ends(wait(executor, ends))[0], Finished)
        assert isinstance(run_all(executor, job(1, "nothing"))[1][1], Finished)
        flag.unlink()
        wait(executor, lambda events: executor.free_on(MODEL) == 2)
        assert not executor._failures


def test_where_the_only_slot_can_start_no_worker_any_more_the_search_ends(monkeypatch, tmp_path):
    flag, told = tmp_path / "flag", list[str]()
    monkeypatch.setattr(engine, "RayHost", breaks_when(flag, "task"))
    monkeypatch.setattr(engine, "PAUSE_S", 0.05)
    with RayExecutor(TASK, workers=1, ask=Ask(cpus=1), preload=MODELS, say=told.append) as executor:
        wait(executor, lambda events: executor.free_on(MODEL) == 1)
        flag.touch()
        os.kill(executor.hello(0)["pid"], signal.SIGKILL)
        with pytest.raises(RunError, match="a worker cannot start: ModuleNotFoundError"):
            wait(executor, bool)
        assert len(told) == START_ATTEMPTS - 1


@pytest.mark.slow
def test_training_and_measuring_have_slots_of_their_own():
    measuring = Ask(cpus=0, resources={"bench": 1})
    with RayExecutor(TASK, workers=2, ask=Ask(cpus=0.5)) as training, RayExecutor(TASK, ask=measuring) as bench:
        wait(training, lambda events: training.free == 2)
        wait(bench, lambda events: bench.free == 1)
        assert {type(end) for end in run_all(training, job(1, "nothing"), job(2, "nothing"))[1].values()} == {Finished}
        assert isinstance(run_all(bench, job(1, "nothing"))[1][1], Finished)


NODES = f"""
import json, os, signal, sys, time
import ray
from ray.cluster_utils import Cluster
from nas.search.executors import far, ray as engine
from nas.search.executors.base import Failed, Finished, Progress, Job
from nas.search.executors.cluster import Ask, connect
engine.LOST_S = 4.0
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1}})
disconnect = connect(cluster.address)  # first: a driver ends with the node that it is on
far_node = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
with engine.RayExecutor("{TASK}", ask=Ask(cpus=1)) as executor:
    while executor.free < 2:
        executor.poll(1)
    for trial in (1, 2):
        executor.submit(Job(trial=trial, payload={{"do": "until_stopped"}}))
    seen = set()
    while seen != {{1, 2}}:
        seen |= {{event.trial for event in executor.poll(1) if isinstance(event, Progress)}}
    begin = time.monotonic()
    far_node.kill_raylet() if sys.argv[1] == "killed" else cluster.remove_node(far_node, allow_graceful=True)
    failed = []
    while not failed:
        assert time.monotonic() - begin < 30
        failed = [event for event in executor.poll(1) if isinstance(event, Failed)]
    seconds = time.monotonic() - begin
    assert executor.free == 0, "the other slot is busy, this one waits for a node"
    cluster.add_node(num_cpus=1)
    while not executor.free:
        assert time.monotonic() - begin < 90
        executor.poll(1)
    executor.submit(Job(trial=3, payload={{"do": "nothing"}}))
    ended = {{}}
    while 3 not in ended:
        ended |= {{event.trial: type(event).__name__ for event in executor.poll(1) if isinstance(event, (Failed, Finished))}}
    print(json.dumps({{"seconds": seconds, "kind": failed[0].kind, "reason": failed[0].reason, "then": ended}}))
disconnect()
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "removed"])
def test_a_node_that_dies_costs_its_jobs_and_nothing_else(how):
    done = subprocess.run([sys.executable, "-c", NODES, how], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()  # Ray itself is silent
    told = json.loads(line)
    assert told["kind"] == "lost"
    assert "loss of its machine" in told["reason"]
    assert told["then"] == {"3": "Finished"}


MIXED = f"""
import json, time
from ray.cluster_utils import Cluster
from nas.search.executors import ray as engine
from nas.search.executors.base import Failed, Finished, Job, Progress
from nas.search.executors.cluster import Ask, connect
cluster = Cluster(initialize_head=True, head_node_args={{"num_cpus": 1, "env_vars": {{"TESTS_MODEL": "slow"}}}})
disconnect = connect(cluster.address)
fast = cluster.add_node(num_cpus=1, env_vars={{"TESTS_MODEL": "fast"}})
cluster.wait_for_nodes()


def until(found):
    begin = time.monotonic()
    while not found():
        assert time.monotonic() - begin < 90, executor.resources
        events.extend(executor.poll(0.5))


with engine.RayExecutor("{TASK}", ask=Ask(cpus=1), preload="{MODELS}") as executor:
    events, where = [], []
    until(lambda: executor.free_on("slow") == executor.free_on("fast") == 1)
    for trial in range(4):
        slot = executor.submit(Job(trial=trial, payload={{"do": "nothing"}}, needs="fast"))
        where.append(executor.resources[slot].models["cpu"])
        until(lambda: executor.free == 2)
    executor.submit(Job(trial=8, payload={{"do": "until_stopped"}}, needs="fast"))
    until(lambda: any(isinstance(event, Progress) for event in events))
    fast.kill_raylet()
    until(lambda: any(isinstance(event, Failed) for event in events))
    assert (executor.free, executor.free_on("fast"), executor.free_on("slow")) == (1, 0, 1), executor.resources
    cluster.add_node(num_cpus=1, env_vars={{"TESTS_MODEL": "fast"}})
    until(lambda: executor.free_on("fast") == 1)
    executor.submit(Job(trial=9, payload={{"do": "nothing"}}, needs="fast"))
    until(lambda: executor.free == 2)
    ended = {{e.trial: getattr(e, "kind", "finished") for e in events if isinstance(e, (Failed, Finished))}}
    print(json.dumps({{"where": where, "ended": ended}}))
disconnect()
cluster.shutdown()
"""


@pytest.mark.slow
def test_nodes_of_several_models_are_told_apart_and_one_that_comes_back_is_known():
    done = subprocess.run([sys.executable, "-c", MIXED], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["where"] == ["fast"] * 4
    assert told["ended"] == {**dict.fromkeys("0123", "finished"), "8": "lost", "9": "finished"}


@pytest.mark.slow
def test_no_cluster_is_told():
    code = "from nas.search.executors.cluster import connect; connect('127.0.0.1:9')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert "RunError: address=127.0.0.1:9: no Ray cluster answers" in done.stderr


CUT = f"""
import json, time
import ray
from nas.errors import RunError
from nas.search.executors import far, ray as engine
from nas.search.executors.base import Failed, Job, Progress
from nas.search.executors.cluster import Ask, connect
disconnect = connect("local", num_cpus=1)
with engine.RayExecutor("{TASK}", workers=1, ask=Ask(cpus=1)) as executor:
    events, told = [], ""
    while not executor.free:
        events += executor.poll(1)
    executor.submit(Job(trial=1, payload={{"do": "until_stopped"}}))
    while not any(isinstance(event, Progress) for event in events):
        events += executor.poll(1)
    ray.shutdown()
    begin = time.monotonic()
    try:
        while time.monotonic() - begin < 60:
            executor.stop(1)
            events += executor.poll(1)
    except RunError as error:
        told = str(error)
    events += executor.close()
    ended = [event.kind for event in events if isinstance(event, Failed)]
print(json.dumps({{"told": told, "ended": ended, "elsewhere": ray.is_initialized()}}))
disconnect()
"""


def test_a_connection_that_breaks_is_told_once_and_no_other_cluster_is_joined():
    done = subprocess.run([sys.executable, "-c", CUT], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["told"] == ("the connection to the Ray cluster is gone; got 'ConnectionError: not connected any more'. "
                            "When it answers again, `nas resume` goes on where the search stopped.")  # fmt: skip
    assert told["elsewhere"] is False
    assert told["ended"] in (["killed"], ["lost"])


def test_what_ray_raises_makes_a_worker_lost_and_a_pool_closes_all_the_same(monkeypatch):
    class Gone:
        def __getattr__(self, name):
            raise ConnectionError("the server is away")

    executor = RayExecutor(TASK, workers=2, ask=Ask(cpus=0.5))
    wait(executor, lambda events: all(executor.hello(slot) for slot in (0, 1)))
    executor.submit(job(1, "until_stopped"))
    for slot in executor._slots:
        monkeypatch.setattr(slot.worker, "_actor", Gone())
    assert [event.trial for event in executor.close()][-1:] == [1]
    assert [slot.worker.why_lost for slot in executor._slots] == ["no connection to the cluster"] * 2
