"""Devices to measure on: their names and clocks, how a run is timed there, and the quiet state kept meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psutil
import torch

from nas.errors import MeasureError
from nas.measure.lock import GiveWay, device_shared

Run = Callable[[], object]
Timing = tuple[float, bool]
"""Seconds, and whether the run was interrupted."""

PREEMPTED = 0.02
"""A run is called interrupted when the thread was off its core for more than this share of the time."""

PROCESSOR = "NAS_PROCESSOR"
"""Environment variable that names the processor where the system says too little: on many virtual machines no more than the
maker, so that two generations look alike."""

_HEAP_BLOCK = 31 << 20

_SHARE = 1 << 15
"""Elements for which torch takes another thread."""


def find_device(name: str) -> torch.device:
    """The torch device of that name. Raises MeasureError, saying what there is, when this machine has none such."""
    there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    full = "cuda:0" if name == "cuda" else name
    if full not in there:
        raise MeasureError("this machine has no such device to measure on", expected=" or ".join(there), got=name,
                           hint="One that another machine has: run `nas measure-server` there, and here "
                           "`nas measure ... target=http://HOST:PORT`.")  # fmt: skip
    return torch.device(full)


def device_name(device: torch.device) -> str:
    """The processor's or GPU's model name, by which latencies are kept apart."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name()


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's model: what :data:`PROCESSOR` says, or the system. ARM has no names there, but boards and numbers."""
    if said := os.environ.get(PROCESSOR):
        return said
    words = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.exists() else []
    facts = {word.strip(): value.strip() for word, _, value in reversed(words)}
    machine = platform.machine()
    return (facts.get("model name") or facts.get("Model") or (f"{machine} {part}" if (part := facts.get("CPU part")) else "")
            or platform.processor() or machine)  # fmt: skip


def device_models() -> dict[str, str]:
    """The names of the processor and, where this process can use one, of the first GPU, by kind: ``cpu``, ``cuda``."""
    kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    return {kind: device_name(torch.device(kind)) for kind in kinds}


def lock_name(device: torch.device) -> str:
    """A name for :func:`nas.measure.lock.device_lock` that means one device whatever processes can see of it."""
    if device.type != "cuda":
        return device.type
    return f"cuda-{getattr(torch.cuda.get_device_properties(device), 'uuid', device.index)}"


@contextmanager
def giving_way(device: str) -> Iterator[GiveWay]:
    """What a training calls between its steps, so that a measurement has a GPU to itself. On the CPU nothing waits: a search's
    workers have cores of their own there."""
    if device == "cpu":
        yield bool
        return
    gpu = find_device(device)
    with device_shared(lock_name(gpu), idle=partial(torch.cuda.synchronize, gpu)) as give_way:
        yield give_way


def clock_mhz(device: torch.device) -> float | None:
    """The clock right now, where the system tells it."""
    if device.type == "cuda":
        try:
            return float(torch.cuda.clock_rate(device))
        except Exception:  # NVML's binding for Python may be missing, or the driver refuse
            return None
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, RuntimeError):
        return None
    return round(float(frequency.current), 1) if frequency is not None and frequency.current else None


class CpuTimer:
    """Times runs by the wall clock, and tells from the scheduler's accounts whether they were interrupted.

    With one thread, the thread's CPU time falls behind the wall clock exactly when something else had the core. With
    several, or one that is not the caller's (``inline`` is false), the involuntary context switches of the process are
    what can be seen.
    """

    def __init__(self, threads: int, inline: bool = True) -> None:
        self._one = threads == 1 and inline and time.get_clock_info("thread_time").resolution < 1e-5
        self._switches = None if self._one else _switch_counter()

    def __call__(self, run: Run, repeats: int) -> Timing:
        switches = self._switches() if self._switches is not None else 0
        cpu, start = time.thread_time(), time.perf_counter()
        for _ in range(repeats):
            run()
        seconds = time.perf_counter() - start
        if self._one:
            return seconds / repeats, seconds - (time.thread_time() - cpu) > PREEMPTED * seconds
        return seconds / repeats, self._switches is not None and self._switches() > switches


class CudaTimer:
    """Times runs by a pair of events on the current stream; nothing else of this process may use the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        new_event: Callable[..., torch.cuda.Event] = torch.cuda.Event
        self._start, self._end = new_event(enable_timing=True), new_event(enable_timing=True)

    def __call__(self, run: Run, repeats: int) -> Timing:
        torch.cuda.synchronize(self._device)
        self._start.record()
        for _ in range(repeats):
            run()
        self._end.record()
        torch.cuda.synchronize(self._device)
        return self._start.elapsed_time(self._end) / 1000 / repeats, False


Timer = CpuTimer | CudaTimer


@contextmanager
def quiet(device: torch.device, threads: int, cores: Sequence[int] | None, inline: bool = True) -> Iterator[Timer]:
    """The state that runs are timed in; everything is put back afterwards.

    Inference mode, ``threads`` threads, denormal numbers flushed to zero, pinned to ``cores`` if given, and a heap
    that keeps freed blocks. ``inline``: see :class:`CpuTimer`. Raises MeasureError for cores that this process may not use.
    """
    with ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
            stack.enter_context(_usual_kernels())
        stack.enter_context(torch.inference_mode())
        stack.enter_context(_pinned(cores, threads))
        stack.enter_context(_threads(threads))
        stack.enter_context(flushing_kept())
        torch.set_flush_denormal(True)
        _settle_heap()
        yield CudaTimer(device) if device.type == "cuda" else CpuTimer(threads, inline)


@contextmanager
def _usual_kernels() -> Iterator[None]:
    """cuDNN chooses kernels as it does in a fresh process, whatever a training here has set."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, False
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before


def _settle_heap() -> None:
    """Let glibc keep freed blocks up to 31 MB instead of returning each to the system.

    Its threshold adapts to the largest block freed so far, so that a network whose activations exceed 128 kB would
    fault in fresh pages at every run or not, depending on what the process did before (seen: 0.07 or 0.72 ms for one
    layer). Freeing one large, never touched block settles it; 32 MB is as far as the threshold goes.
    """
    torch.empty(_HEAP_BLOCK, dtype=torch.uint8)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushing_kept() -> Iterator[None]:
    """Whatever is done within the block, the calling thread flushes denormals afterwards if it did before."""
    before = flushing()
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushing(threads: int = 1) -> bool:
    """Whether denormal results become zero now, on so many of torch's threads; torch has no getter.

    Its setting is the calling thread's, which others inherit when they are started.
    """
    smallest = torch.full(((threads - 1) * _SHARE + 1,), torch.finfo(torch.float32).tiny)
    return bool((smallest * 0.5 == 0).all().item())


@contextmanager
def _pinned(cores: Sequence[int] | None, threads: int) -> Iterator[None]:
    """The calling thread on these cores only; with several ``threads``, the process's other ones as well."""
    if cores is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise MeasureError("this system cannot pin a measurement to cores", hint="Leave `cores` out.")
    usual = os.sched_getaffinity(0)
    if not cores or not set(cores) <= usual:
        raise MeasureError("the cores to pin to are not this process's", got=list(cores),
                           expected=f"some of {sorted(usual)}")  # fmt: skip
    before = {task: os.sched_getaffinity(task) for task in (_tasks() if threads > 1 else [0])}
    for task in before:
        os.sched_setaffinity(task, cores)
    try:
        yield
    finally:
        # Worker threads that torch started meanwhile have inherited the pin.
        for task in {*before, *(_tasks() if threads > 1 else [])}:
            os.sched_setaffinity(task, before.get(task, usual))


def _tasks() -> list[int]:
    return [int(entry.name) for entry in Path("/proc/self/task").iterdir()]


def _switch_counter() -> Callable[[], int] | None:
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    return lambda: resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
