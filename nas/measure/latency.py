"""Latency of a network as deployed, by a protocol that states its own error.

``protocol.py`` says how runs are paired and judged, ``reference.py`` what they are paired with, ``device.py`` how one
run is timed. A number travels with its conditions: see :class:`Latency`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import torch
from torch import nn

from nas.errors import MeasureError
from nas.measure.device import Run, Timer, clock_mhz, device_name, find_device, quiet
from nas.measure.fold import fold_batch_norms
from nas.measure.protocol import Limits, Pair, Turn, measure_ratio, quiet_time, sample, warm_up
from nas.measure.reference import REFERENCE_SHAPE, Anchors, reference_net
from nas.measure.runtime import Runtime, find_runtime

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

BURST_S = 1e-3
"""Runs shorter than this are timed several at once: the clock's cost vanishes, and caches are the network's own."""

CALIBRATION_S = 1.5
"""The least time spent on the reference's quiet time, once per conditions and record."""

_process_anchors = Anchors()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one forward pass of a whole batch, with the conditions they were measured under.

    ``low_ms`` and ``high_ms`` bound the median with that ``confidence`` (order statistics); ``iqr_ms`` and ``p95_ms``
    are of single runs. All are corrected for drift: ``relative`` is the median ratio to the reference network (run by
    the same engine, where that takes ONNX), which takes ``reference_ms`` in quiet times, and ``median_ms`` is their
    product. During this measurement the reference ran ``reference_drift`` (relative) slower than that. ``n`` pairs of
    runs count, ``rejected`` were interrupted.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    confidence: float
    iqr_ms: float
    p95_ms: float
    n: int
    rejected: int
    attempts: int
    relative: float
    reference_ms: float
    reference_drift: float
    device: str
    device_name: str
    dtype: str
    batch: int
    input_shape: tuple[int, ...]
    threads: int
    cores: tuple[int, ...] | None
    memory_format: str
    batch_norm_folded: bool
    runtime: str
    runtime_version: str
    graph: bool
    torch_version: str
    clock_mhz: float | None
    seconds: float

    def to_mapping(self) -> dict[str, object]:
        """Plain values by field name, as JSON holds them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conditions:
    device: torch.device
    batch: int
    threads: int
    dtype: str
    memory_format: str
    graph: bool
    runtime: Runtime

    @property
    def key(self) -> str:
        """What the reference's quiet time depends on."""
        engine = [] if self.runtime.in_torch else [f"{self.runtime.name} {self.runtime.version()}"]
        words = (device_name(self.device), f"{self.threads} threads", self.dtype, self.memory_format,
                 "graph" if self.graph else "eager", f"torch {torch.__version__}", *engine)  # fmt: skip
        return ", ".join(words)

    def reference(self) -> Run:
        """The reference network, ready to run.

        An engine that takes ONNX runs it too: over 8 random networks in ONNX Runtime, two processes then differed by
        1.3 % (median; beside a training process 1.8 %), and by 9.0 % (7.5 %) when paired with the reference in torch.
        What torch compiles is paired with the eager one: it calls the same kernels, and compiling forgets the last.
        """
        if self.runtime.in_torch:
            return self.prepare(reference_net(), REFERENCE_SHAPE, 1, find_runtime("eager"))
        return _converted_reference(self)

    def prepare(self, model: nn.Module, shape: tuple[int, ...], batch: int, runtime: Runtime) -> Run:
        """A copy of the model on the device with a fixed random input, as something to call."""
        dtype, layout = DTYPES[self.dtype], MEMORY_FORMATS[self.memory_format]
        data = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        data = data.to(device=self.device, dtype=dtype)
        data = data.contiguous(memory_format=layout) if data.dim() == 4 else data
        try:
            net = copy.deepcopy(model).eval().to(device=self.device, dtype=dtype)
            net = net.to(memory_format=layout)  # type: ignore[call-overload]
            net(data)
            if self.graph:
                return _captured(net, data)
            run = runtime.prepare(net, data, self.threads)
            run()
            return run
        except MeasureError:
            raise
        except Exception as error:  # the network's own code may raise anything
            raise MeasureError(f"the network does not run on {self.device} in {self.dtype}: {_first_line(error)}",
                               expected=f"a network that takes an input {(batch, *shape)}") from error  # fmt: skip


@lru_cache(maxsize=4)
def _converted_reference(conditions: _Conditions) -> Run:
    """Kept, because converting it takes seconds."""
    return conditions.prepare(reference_net(), REFERENCE_SHAPE, 1, conditions.runtime)


def measure_latency(
    model: nn.Module, input_shape: tuple[int, ...], *, device: str = "cpu", batch: int = 1, threads: int = 1,
    dtype: str = "float32", memory_format: str | None = None, fold_batch_norm: bool = False, graph: bool = False,
    runtime: str = "eager", cores: Sequence[int] | None = None, limits: Limits | None = None, anchors: Anchors | None = None,
) -> Latency:  # fmt: skip
    """Measure a forward pass of ``model``, the network as it will be deployed, for ``batch`` inputs: (C, H, W) or less.

    A copy is measured in evaluation and inference mode by ``runtime`` (a name of ``nas.measure.runtime.RUNTIMES``), or
    on CUDA by replaying a captured ``graph`` of the eager network. The memory format is ``channels_last`` where torch
    runs the network, unless said otherwise, and ``contiguous`` in engines that take ONNX;
    ``fold_batch_norm`` folds batch norms into the convolutions before them. ``cores`` pins the thread. Measurements
    that are to be compared share ``anchors``; the default is one record per process. Take ``device_lock`` around the
    call when others may measure. Raises MeasureError when the conditions do not exist here, when the network does not
    run, or when the timings are not to be believed.
    """
    start = time.perf_counter()
    limits, anchors = limits or Limits(), anchors or _process_anchors
    engine = find_runtime(runtime)
    conditions = _conditions(device, batch, threads, dtype, memory_format, graph, engine)
    model = fold_batch_norms(model) if fold_batch_norm else model
    with quiet(conditions.device, threads, cores, engine.inline) as timer:
        net = conditions.prepare(model, input_shape, batch, engine)
        reference = conditions.reference()
        turn = _turns(timer, reference, net)
        if (anchor := anchors.get(conditions.key)) is None:
            anchor = anchors.record(conditions.key, _calibrate(timer, reference))
        ratio = measure_ratio(turn, limits, anchor)
        mhz = clock_mhz(conditions.device)
    unit = anchor * 1000
    return Latency(
        median_ms=ratio.median * unit, low_ms=ratio.low * unit, high_ms=ratio.high * unit,
        confidence=limits.confidence, iqr_ms=ratio.iqr * unit, p95_ms=ratio.p95 * unit,
        n=ratio.n, rejected=ratio.rejected, attempts=ratio.attempts, relative=ratio.median,
        reference_ms=unit, reference_drift=ratio.reference / anchor - 1, device=str(conditions.device),
        device_name=device_name(conditions.device), dtype=dtype, batch=batch, input_shape=input_shape, threads=threads,
        cores=tuple(cores) if cores is not None else None, memory_format=conditions.memory_format,
        batch_norm_folded=fold_batch_norm, runtime=runtime, runtime_version=engine.version(), graph=graph,
        torch_version=torch.__version__, clock_mhz=mhz,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def _format(runtime: Runtime, asked: str | None) -> str:
    if runtime.in_torch:
        return asked or "channels_last"
    if asked not in {None, "contiguous"}:
        raise MeasureError(f"{runtime.name} lays tensors out by itself", expected="memory_format=contiguous", got=asked)
    return "contiguous"


def _conditions(device: str, batch: int, threads: int, dtype: str, memory_format: str | None, graph: bool,
                runtime: Runtime) -> _Conditions:  # fmt: skip
    memory_format = _format(runtime, memory_format)
    for what, word, known in (("dtype", dtype, DTYPES), ("memory format", memory_format, MEMORY_FORMATS)):
        if word not in known:
            raise MeasureError(f"unknown {what}", expected=" or ".join(known), got=word)
    for what, count in (("batch", batch), ("threads", threads)):
        if count < 1:
            raise MeasureError(f"{what} must be at least 1", got=count)
    found = find_device(device)
    if graph and found.type != "cuda":
        raise MeasureError("graph replay exists on CUDA only", got=device)
    if graph and runtime.name != "eager":
        raise MeasureError("graph replay is for the eager network", got=f"runtime={runtime.name}")
    return _Conditions(device=found, batch=batch, threads=threads, dtype=dtype, memory_format=memory_format,
                       graph=graph, runtime=runtime)  # fmt: skip


def _captured(net: nn.Module, data: torch.Tensor) -> Run:
    """The network's kernels as one CUDA graph; what it returns is replayed into the same memory."""
    new_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
    stream = new_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries choose their kernels before the capture, on a stream of their own
        for _ in range(3):
            net(data)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = net(data)

    def replay(kept: object = (net, data, output)) -> None:  # the graph reads and writes their memory
        graph.replay()

    return replay


def _turns(timer: Timer, reference: Run, net: Run) -> Turn:
    """Interleaved bursts of the two, each about ``BURST_S`` long."""
    repeats = [_burst(timer, run) for run in (reference, net)]

    def turn() -> Pair:
        (first, one), (second, two) = timer(reference, repeats[0]), timer(net, repeats[1])
        return Pair(first, second, one or two)

    return turn


def _burst(timer: Timer, run: Run) -> int:
    timer(run, 2)
    return max(1, min(100, round(BURST_S / max(min(timer(run, 1)[0] for _ in range(5)), 1e-9))))


def _calibrate(timer: Timer, reference: Run) -> float:
    """Seconds that the reference takes in quiet times, from pairs of it with itself."""
    turn = _turns(timer, reference, reference)
    limits = Limits(min_s=CALIBRATION_S, max_s=10 * CALIBRATION_S)
    warm_up(turn, limits.warmup_s)
    if (seconds := quiet_time(sample(turn, limits))) is None:
        raise MeasureError("the reference could not be timed: its runs were interrupted by other processes",
                           hint="Wait until the device is quiet.")  # fmt: skip
    return seconds


def _first_line(error: BaseException) -> str:
    """What the error says first; a line that ends in a colon is told with the next one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
