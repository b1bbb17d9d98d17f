import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.executors import slots as slots_module
from nas.search.executors.slots import Machine, Use, cpu_quota, divide, usable_cpus, visible_gpus


@given(cores=st.integers(1, 40), workers=st.none() | st.integers(1, 50), threads=st.none() | st.integers(1, 8))
def test_cores_are_divided_evenly(cores, workers, threads):
    cpus = tuple(range(3, 3 + cores))
    slots = divide(workers=workers, threads=threads, cpus=cpus)
    assert len(slots) == (workers or max(1, cores // (threads or 1)))
    held = [cpu for slot in slots for cpu in slot.cpus]
    assert set(held) <= set(cpus)
    assert len(set(held)) == (min(cores, len(slots) * threads) if threads else cores)
    if len(slots) <= cores:
        assert len(held) == len(set(held)), "each once"
        sizes = {len(slot.cpus) for slot in slots}
        assert max(sizes) - min(sizes) <= 1
        assert threads or all(slot.threads <= len(slot.cpus) for slot in slots)
    assert {slot.threads for slot in slots} == {threads or max(1, cores // len(slots))}
    assert all(slot.kind == slot.device == "cpu" and slot.gpus == () for slot in slots)
    assert sum(slot.fraction for slot in slots) == pytest.approx(min(cores, len(slots) * (threads or cores)))


@given(gpus=st.integers(1, 9), share=st.sampled_from([0.1, 0.25, 0.3, 1 / 3, 0.5, 0.7, 1, 2, 3]))
def test_gpus_are_never_given_out_twice(gpus, share):
    ids = tuple(f"GPU-{i}" for i in range(gpus))
    if share > gpus:
        with pytest.raises(UsageError, match="shows"):
            divide(gpus=ids, gpus_per_trial=share)
        return
    slots = divide(gpus=ids, gpus_per_trial=share)
    load = dict.fromkeys(ids, 0.0)
    for slot in slots:
        assert slot.fraction >= share - 1e-9
        assert slot.device == "cuda:" + ",".join(gpu.removeprefix("GPU-") for gpu in slot.gpus)
        for gpu in slot.gpus:
            load[gpu] += slot.fraction / len(slot.gpus)
    used = [part for part in load.values() if part]
    assert used == pytest.approx([1] * len(used))
    assert len(used) == gpus // max(1, int(share)) * max(1, int(share))


def test_every_gpu_gets_a_slot_before_any_gets_two():
    slots = divide(workers=3, gpus=("a", "b"), gpus_per_trial=0.5, cpus=range(6))
    assert [slot.device for slot in slots] == ["cuda:0", "cuda:1", "cuda:0"]
    assert [slot.cpus for slot in slots] == [(0,), (1,), (2, 3)], "three quarters of the GPUs come with as much of the cores"
    assert {slot.fraction for slot in slots} == {0.5}


def test_gpus_are_used_unless_told_otherwise():
    assert [slot.device for slot in divide(gpus=("a", "b"), cpus=range(4))] == ["cuda:0", "cuda:1"]
    assert [slot.device for slot in divide(gpus=("a",), gpus_per_trial=0, cpus=range(2))] == ["cpu", "cpu"]


def test_a_containers_quota_bounds_workers_and_threads():
    assert len(divide(cpus=range(64), quota=2.5)) == 2
    assert [slot.threads for slot in divide(workers=2, cpus=range(64), quota=8)] == [4, 4]
    assert len(divide(cpus=range(64), quota=0.5)) == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"workers": 0}, "number of workers"),
        ({"threads": -1}, "number of threads"),
        ({"gpus_per_trial": -1}, "gpus_per_trial"),
        ({"gpus_per_trial": 1.5, "gpus": ("a", "b")}, "gpus_per_trial"),
        ({"gpus_per_trial": 1}, "this machine shows 0.*use the CPU"),
        ({"gpus_per_trial": 0.5, "gpus": ("a",), "workers": 3}, r"do not fit on 1 GPU; expected at most 2 workers\. Lower"),
        ({"gpus": ("a",), "used": [Use(pid=7, gpus={"a": 0.1})]},
         r"1 worker with 1 GPU each do not fit on 1 GPU, part of which another search \(pid 7\) holds.*or wait"),
        ({"gpus_per_trial": 0.5, "gpus": ("a", "b"), "workers": 3,
          "used": [Use(pid=7, gpus={"a": 1.0}), Use(pid=8, gpus={"b": 0.2})]},
         r"3 workers.*other searches \(pid 7, 8\) holds; expected at most 1 workers"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        divide(**asked)


@given(cores=st.integers(1, 12), used=st.sets(st.integers(0, 11)), workers=st.none() | st.integers(1, 12),
       threads=st.integers(1, 3))
def test_cores_that_others_use_come_last(cores, used, workers, threads):
    slots = divide(workers=workers, threads=threads, cpus=range(cores), used=[Use(pid=1, cpus=frozenset(used))])
    taken, free = {cpu for slot in slots for cpu in slot.cpus}, set(range(cores)) - used
    if taken & used:
        assert taken >= free
    if workers is None:
        assert len(slots) == max(1, len(free) // threads)
        assert not taken & used or len(free) < threads


def test_a_quota_is_for_all_searches_of_a_container():
    assert len(divide(threads=1, cpus=range(64), quota=4, used=[Use(pid=1, cpus=frozenset((0, 1, 2)))])) == 1


def test_gpus_that_others_use_in_part_are_filled_and_whole_ones_are_whole():
    used = [Use(pid=1, gpus={"a": 0.5, "c": 0.25}), Use(pid=2, gpus={"c": 0.25})]
    halves = divide(gpus=("a", "b", "c", "d"), gpus_per_trial=0.5, cpus=range(8), used=used)
    assert [slot.gpus for slot in halves] == [("a",), ("b",), ("c",), ("d",), ("b",), ("d",)]
    assert [slot.gpus for slot in divide(gpus=("a", "b", "c", "d"), cpus=range(8), used=used)] == [("b",), ("d",)]
    pair = divide(gpus=("a", "b", "c", "d"), gpus_per_trial=2, cpus=range(8), used=used)
    assert [(slot.gpus, slot.device, len(slot.cpus)) for slot in pair] == [(("b", "d"), "cuda:1,3", 4)]


def test_hardware_threads_of_one_core_are_taken_last(monkeypatch, tmp_path):
    for cpu in range(8):  # neighbours are two threads of one core
        (tmp_path / str(cpu)).write_text(f"{cpu - cpu % 2}-{cpu - cpu % 2 + 1}\n" if cpu < 4 else f"{cpu - cpu % 2},{cpu | 1}\n")
    monkeypatch.setattr(slots_module, "TOPOLOGY", str(tmp_path / "{}"))
    two = divide(workers=2, threads=1, cpus=range(8))
    assert [slot.cpus for slot in two] == [(0,), (2,)]
    assert [slot.cpus for slot in divide(workers=2, threads=1, cpus=range(8), used=[Machine(cpus=(0,)).use(two)])] == [(4,), (6,)]
    assert [slot.cpus for slot in divide(workers=6, threads=1, cpus=range(8))] == [(0,), (1,), (2,), (3,), (4,), (6,)]


def test_a_gpu_is_the_same_by_whatever_name(monkeypatch, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho GPU-aa1; echo GPU-bb2\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    everything = Machine.here()
    used = everything.use(everything.divide(workers=1, gpus_per_trial=1.0))
    assert used.gpus == {"GPU-aa1": 1.0}
    for names in ("0,1", "GPU-aa,GPU-bb2"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", names)
        (slot,) = Machine.here().divide([used], gpus_per_trial=1.0)
        assert slot.gpus == (names.split(",")[1],)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    (slot,) = Machine.here().divide([used], gpus_per_trial=0.5, workers=1)
    assert len(slot.cpus) == max(1, round(len(os.sched_getaffinity(0)) / 4)), "a quarter of the machine's GPUs"


@pytest.mark.parametrize(("text", "cores"), [("200000 100000\n", 2.0), ("max 100000\n", math.inf), ("junk", math.inf)])
def test_quota_of_a_container(tmp_path, text, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert cpu_quota(tmp_path / "cpu.max") == cores
    assert cpu_quota(tmp_path / "none") == math.inf


def test_usable_cpus_are_those_of_this_process():
    assert set(usable_cpus()) == os.sched_getaffinity(0)


@pytest.mark.parametrize(
    ("chosen", "gpus"), [("", ()), ("-1", ()), ("3", ("3",)), ("GPU-a, GPU-b", ("GPU-a", "GPU-b"))]
)
def test_a_choice_of_gpus_is_kept(monkeypatch, chosen, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("script", "gpus"),
    [("echo GPU-a; echo GPU-b", ("GPU-a", "GPU-b")), ("echo No devices were found", ()), ("echo GPU-a; exit 9", ()),
     (None, ())],
)  # fmt: skip
def test_gpus_are_found_without_torch(monkeypatch, tmp_path, script, gpus):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert visible_gpus() == gpus
