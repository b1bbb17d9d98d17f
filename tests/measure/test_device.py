import os
import subprocess
import sys
import time
from contextlib import suppress
from threading import Thread

import pytest
import torch

from nas.errors import MeasureError
from nas.measure import device as room
from nas.measure.device import (
    CpuTimer,
    clock_mhz,
    device_models,
    device_name,
    find_device,
    giving_way,
    lock_name,
    processor_name,
    quiet,
)
from nas.measure.lock import device_lock

CPU = torch.device("cpu")
pins = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")


def state() -> tuple[object, ...]:
    smallest = torch.tensor([torch.finfo(torch.float32).tiny])
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    return torch.get_num_threads(), bool(smallest * 0.5 == 0), torch.is_inference_mode_enabled(), cores


@pytest.mark.parametrize("flushing", [False, True])
def test_settings_hold_inside_and_are_restored(flushing):
    torch.set_flush_denormal(flushing)
    before = state()
    with suppress(ZeroDivisionError), quiet(CPU, threads=before[0] + 1, cores=None):
        assert state() == (before[0] + 1, True, True, before[3])
        raise ZeroDivisionError
    assert state() == before
    torch.set_flush_denormal(False)


def test_threads_that_were_started_before_do_not_flush_and_that_is_seen():
    code = """
import torch
from nas.measure.device import flushing, quiet
torch.set_num_threads(2)
torch.ones(1 << 20).exp()
with quiet(torch.device("cpu"), 2, None):
    print(flushing(), flushing(2))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pins
@pytest.mark.parametrize("threads", [1, 2])
def test_pinning_is_undone(threads):
    before = {task: os.sched_getaffinity(task) for task in map(int, os.listdir("/proc/self/task"))}
    core = max(before[os.getpid()])
    with quiet(CPU, threads=threads, cores=[core]):
        assert os.sched_getaffinity(0) == {core}
        torch.ones(1 << 16).exp().sum()
    after = {task: os.sched_getaffinity(task) for task in map(int, os.listdir("/proc/self/task"))}
    assert set(map(frozenset, after.values())) <= set(map(frozenset, before.values()))


@pins
@pytest.mark.parametrize("cores", [[], [100_000]])
def test_cores_of_others_are_refused(cores):
    before = os.sched_getaffinity(0)
    with pytest.raises(MeasureError, match="not this process's"), quiet(CPU, threads=1, cores=cores):
        pass
    assert os.sched_getaffinity(0) == before


def test_a_run_that_loses_its_core_is_noticed():
    timer = CpuTimer(threads=1)
    seconds, interrupted = timer(lambda: time.sleep(0.002), 2)
    assert 0.002 <= seconds < 1
    assert interrupted
    assert not all(timer(lambda: sum(range(1000)), 1)[1] for _ in range(200))


def test_several_threads_are_watched_by_context_switches():
    assert not all(CpuTimer(threads=2)(lambda: sum(range(1000)), 1)[1] for _ in range(200))


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "mps:3", ""])
def test_unknown_devices_are_told_what_there_is(name):
    with pytest.raises(MeasureError, match="expected cpu"):
        find_device(name)


def test_the_cpu_has_a_name_and_perhaps_a_clock():
    assert find_device("cpu") == CPU
    assert device_name(CPU)
    assert lock_name(CPU) == "cpu"
    assert (mhz := clock_mhz(CPU)) is None or mhz > 0


@pytest.mark.parametrize(("cpuinfo", "name"), [
    ("processor\t: 0\nmodel name\t: AMD EPYC\n\nprocessor\t: 1\nmodel name\t: another\n", "AMD EPYC"),
    ("processor\t: 0\nCPU part\t: 0xd08\n\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n", "Raspberry Pi 4 Model B Rev 1.1"),
    ("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "aarch64 0xd0c"),
])  # fmt: skip
def test_what_a_processor_is_called(tmp_path, monkeypatch, cpuinfo, name):
    monkeypatch.delenv("NAS_PROCESSOR", raising=False)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert processor_name(tmp_path / "cpuinfo") == name
    assert processor_name(tmp_path / "none")
    monkeypatch.setenv("NAS_PROCESSOR", "board A")
    assert processor_name(tmp_path / "cpuinfo") == device_name(CPU) == device_models()["cpu"] == "board A"


@pytest.mark.skipif(sys.platform == "win32", reason="there no training pauses")
def test_a_training_gives_way_on_a_gpu_and_on_no_cpu(monkeypatch, tmp_path):
    gpu, idle, measured = torch.device("cuda", 1), [], []
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(room, "find_device", {"cuda:1": gpu}.__getitem__)
    monkeypatch.setattr(room, "lock_name", str)
    monkeypatch.setattr(torch.cuda, "synchronize", idle.append)

    def measure():
        with device_lock(str(gpu)):
            measured.append(True)

    with device_lock("cpu"), giving_way("cpu") as on_step:
        assert not on_step()
    with giving_way("cuda:1") as on_step:
        assert not on_step()
        thread = Thread(target=measure)
        thread.start()
        time.sleep(0.05)
        assert not measured, "a step is not interrupted"
        while not on_step():
            time.sleep(0.001)
        assert measured
        thread.join()
    assert idle == [gpu], "the GPU that it trains on, not the current one"
