import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import UsageError
from nas.search.executors.slots import cpu_quota, divide, usable_cpus, visible_gpus


@given(cores=st.integers(1, 40), workers=st.none() | st.integers(1, 50), threads=st.none() | st.integers(1, 8))
def test_cores_are_divided_evenly_and_completely(cores, workers, threads):
    cpus = tuple(range(3, 3 + cores))
    slots = divide(workers=workers, threads=threads, cpus=cpus)
    assert len(slots) == (workers or max(1, cores // (threads or 1)))
    held = [cpu for slot in slots for cpu in slot.cpus]
    assert set(held) == set(cpus)
    if len(slots) <= cores:
        assert len(held) == cores
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
    assert [slot.cpus for slot in slots] == [(0, 1), (2, 3), (4, 5)]
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
        ({"gpus_per_trial": 0.5, "gpus": ("a",), "workers": 3}, "do not fit on 1 GPU.*at most 2 workers"),
    ],
)
def test_what_the_machine_does_not_have_is_refused(asked, words):
    with pytest.raises(UsageError, match=words):
        divide(**asked)


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
