"""Two searches on one machine, each a process of its own: what one has the other does not take, until it is gone."""

import json
import os
import subprocess
import sys

import pytest

from nas.search.executors import claims, default_workers, open_executor
from nas.search.executors.claims import in_use, take
from nas.search.executors.local import LocalExecutor
from nas.search.executors.slots import Machine
from tests.search.executors.contract import TASK
from tests.search.executors.test_open_executor import config

CORES = sorted(os.sched_getaffinity(0))
needs_two = pytest.mark.skipif(len(CORES) < 2, reason="one core cannot be divided")

SEARCH = """
import json, sys
from nas.errors import NasError
from nas.search.config import SearchConfig
from nas.search.executors import default_workers, open_executor
device, *words = sys.argv[1:]
config = SearchConfig.from_words({"space": "x", "data": "digits", "budget": "3min", **dict(word.split("=") for word in words)})
said = []
try:
    workers = config.workers or default_workers(config, device)
    with open_executor(config, device, task="TASK", workers=workers, say=said.append) as executor:
        held = [[slot.cpus, slot.gpus, slot.fraction] for slot in executor.resources]
        print(json.dumps({"held": held, "said": said}), flush=True)
        sys.stdin.read()
except NasError as error:
    print(json.dumps({"refused": str(error)}), flush=True)
""".replace("TASK", TASK)


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Begins a search in a process of its own, on a machine where no other test is seen; it, and what it says it has."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    searches = []

    def begin(device, *words):
        search = subprocess.Popen([sys.executable, "-c", SEARCH, device, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, env={**os.environ, "PYTHONPATH": os.getcwd()})  # fmt: skip
        searches.append(search)
        return search, json.loads(search.stdout.readline())

    yield begin
    for search in searches:
        search.kill()
        search.communicate()


def cores(told):
    return sorted(cpu for cpus, _, _ in told["held"] for cpu in cpus)


@needs_two
def test_a_second_search_takes_other_cores_until_none_are_left(begin):
    first, has = begin("cpu", "workers=1")
    assert cores(has) == CORES[:1]
    assert has["said"] == []
    second, rest = begin("cpu")
    assert cores(rest) == CORES[1:], "as many workers as cores are free"
    assert rest["said"] == []
    third, shares = begin("cpu")
    assert cores(shares) == CORES[:1], "one worker, where there is no core"
    assert shares["said"] == [f"note: core {CORES[0]} is used by another search (pid {first.pid}): expect both to be slower; "
                              "workers= says how many cores each search takes"]  # fmt: skip
    third.communicate("")
    first.kill()
    first.wait()
    assert [use.pid for use in in_use()] == [second.pid], "what a killed process had is free at once"
    again, everything = begin("cpu", f"workers={len(CORES)}")
    assert cores(everything) == CORES
    assert f"(pid {second.pid})" in everything["said"][0]
    again.communicate("")
    second.communicate("")
    assert in_use() == ()


def test_shares_of_a_gpu_are_handed_out_once(begin, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    first, _ = begin("cuda", "gpus_per_trial=0.5", "workers=3")
    _, rest = begin("cuda", "gpus_per_trial=0.5")
    assert [(gpus, share) for _, gpus, share in rest["held"]] == [(["GPU-b"], 0.5)]
    _, none = begin("cuda", "gpus_per_trial=0.5", "workers=1")
    assert f"1 worker with 0.5 GPU each do not fit on 2 GPU, part of which other searches (pid {first.pid}, " in none["refused"]
    first.kill()
    first.wait()
    _, after = begin("cuda", "gpus_per_trial=1")
    assert [gpus for _, gpus, _ in after["held"]] == [["GPU-a"]]


@needs_two
def test_the_worker_that_joins_from_this_machine_takes_other_cores_too(begin):
    """``nas worker`` divides as a search does."""
    begin("cpu", "workers=1")
    slots, claim, shared = take(Machine.here(gpus_per_trial=0), workers=1, threads=1, gpus_per_trial=0)
    assert (slots[0].cpus, shared) == ((CORES[1],), "")
    claim.close()
    claim.close()
    assert len(in_use()) == 1


def test_a_slot_that_asks_others_to_measure_claims_nothing(begin):
    with LocalExecutor(TASK, workers=1, threads=1, gpus_per_trial=0, claim=False) as executor:
        assert (executor.resources[0].cpus, in_use()) == ((), ())
    with open_executor(config(target="http://box:1"), "cpu", task=TASK, use="measure") as executor:
        assert (executor.resources[0].cpus, in_use()) == ((), ())


def test_a_machine_without_locks_is_divided_as_if_nobody_else_was_there(begin, monkeypatch):
    _, has = begin("cpu", "workers=1")
    monkeypatch.setattr(claims.sys, "platform", "darwin")
    assert default_workers(config(), "cpu") == len(CORES)
    slots, claim, shared = take(Machine.here(gpus_per_trial=0), workers=1, threads=1, gpus_per_trial=0)
    assert ([*slots[0].cpus], shared) == (cores(has), "")
    claim.close()


def test_a_folder_that_cannot_be_written_is_no_reason_to_fail(begin, monkeypatch):
    monkeypatch.setattr(claims, "own_folder", lambda: (_ for _ in ()).throw(PermissionError(13, "read-only")))
    slots, claim, shared = take(Machine.here(gpus_per_trial=0), workers=1, threads=1, gpus_per_trial=0)
    assert (len(slots), shared, in_use()) == (1, "", ())
    claim.close()
