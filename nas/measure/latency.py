"""Latency of a network as deployed, by a protocol that states its own error.

``protocol.py`` says how runs are paired and judged, ``reference.py`` what they are paired with, ``device.py`` how one
run is timed. A number travels with its conditions: see :class:`Latency`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import UnionType
from typing import Any, get_type_hints

import torch
from torch import nn

from nas.errors import MeasureError
from nas.measure.conditions import Conditions, Model
from nas.measure.device import Run, Timer, clock_mhz, device_name, quiet
from nas.measure.fold import fold_batch_norms
from nas.measure.protocol import Between, Limits, Pair, Turn, measure_ratio, quiet_time, sample, warm_up
from nas.measure.reference import DEPTHS, Anchors

BURST_S = 1e-3
"""Runs shorter than this are timed several at once: the clock's cost vanishes, and caches are the network's own."""

CALIBRATION_S = 1.5
"""The least time spent on a reference's quiet time, once per conditions and record."""

DRIFT_DOUBT = 0.5
"""What slows the reference by 1 % slows other networks by 0.5 to 1.6 %. With it, the intervals of two measurements of one network
in different states of a machine met in 83 to 100 % of the cases; without, in 42 to 78 %."""

LARGE = 2
"""A network that takes this many times the small reference's time is paired with the large one."""

_process_anchors = Anchors()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one forward pass of a whole batch, with the conditions they were measured under.

    ``low_ms`` and ``high_ms`` bound the median with that ``confidence`` (order statistics), wider by ``DRIFT_DOUBT`` of the
    drift; ``iqr_ms`` and ``p95_ms`` are of single runs. All are corrected for drift: ``relative`` is the median ratio to the
    reference network of ``reference_depth`` (run by the same engine, where that takes ONNX), which takes ``reference_ms`` in
    quiet times, and ``median_ms`` is their product. During this measurement the reference ran ``reference_drift``
    (relative) slower than that. ``n`` pairs of runs count, ``rejected`` were interrupted.
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
    reference_depth: int
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

    @classmethod
    def from_mapping(cls, words: Mapping[str, Any]) -> Latency:
        """The inverse. Raises MeasureError for other words or kinds of values than :meth:`to_mapping` gives."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in words.items()}
        kinds = get_type_hints(cls)
        wrong = sorted({*kinds} ^ {*values}) or sorted(k for k, v in values.items() if not _fits(v, kinds[k]))
        if wrong:
            raise MeasureError("this is not a latency", expected="the words of nas.measure.latency.Latency", got=", ".join(wrong))
        return cls(**values)

    def in_unit(self, reference_ms: float) -> Latency:
        """The same measurement with another quiet time of the reference for its unit."""
        factor = reference_ms / self.reference_ms
        scaled = {name: getattr(self, name) * factor for name in ("median_ms", "low_ms", "high_ms", "iqr_ms", "p95_ms")}
        return replace(self, **scaled, reference_ms=reference_ms, reference_drift=(1 + self.reference_drift) / factor - 1)


def _fits(value: object, kind: Any) -> bool:
    """Whether a plain value is of an annotated kind; whole numbers pass for floats, only finite ones do."""
    kinds = kind.__args__ if isinstance(kind, UnionType) else (kind,)
    types = {getattr(k, "__origin__", k) for k in kinds}
    if type(value) in {int, float} and float in types:
        return math.isfinite(value)  # type: ignore[arg-type]
    return type(value) in types


def measure_latency(
    model: Model, input_shape: tuple[int, ...], *, device: str = "cpu", batch: int = 1, threads: int = 1,
    dtype: str = "float32", memory_format: str | None = None, fold_batch_norm: bool = False, graph: bool = False,
    runtime: str = "eager", cores: Sequence[int] | None = None, limits: Limits | None = None, anchors: Anchors | None = None,
    between: Between = bool,
) -> Latency:  # fmt: skip
    """Measure a forward pass of ``model``, the network as it will be deployed, for ``batch`` inputs: (C, H, W) or less.

    A copy is measured in evaluation and inference mode by ``runtime`` (a name of ``nas.measure.runtime.RUNTIMES``), or
    on CUDA by replaying a captured ``graph`` of the eager network. The memory format is ``channels_last`` where torch
    runs the network, unless said otherwise, and ``contiguous`` in engines that take ONNX;
    ``fold_batch_norm`` folds batch norms into the convolutions before them (of a file it says that they
    were). ``cores`` pins the thread. Measurements that are to be compared share ``anchors``; the default is one record
    per process. ``between`` may end it early, see :data:`nas.measure.protocol.Between`. Take ``device_lock`` around the
    call when others may measure. Raises MeasureError when the conditions do not exist here, when the network does not run,
    or when the timings are not to be believed.
    """
    start = time.perf_counter()
    limits, anchors = limits or Limits(), anchors or _process_anchors
    conditions = Conditions.of(device=device, batch=batch, threads=threads, dtype=dtype, memory_format=memory_format, graph=graph,
                               runtime=runtime)  # fmt: skip
    engine = conditions.runtime
    model = fold_batch_norms(model) if fold_batch_norm and isinstance(model, nn.Module) else model
    with quiet(conditions.device, threads, cores, engine.inline) as timer:
        net = conditions.prepare(model, input_shape, batch, engine)
        depth, reference = _reference_for(net, conditions, timer)
        turn = _turns(timer, reference, net, between)
        if (anchor := anchors.get(conditions.key(depth))) is None:
            anchor = anchors.record(conditions.key(depth), _calibrate(timer, reference, between))
        ratio = measure_ratio(turn, limits, anchor)
        mhz = clock_mhz(conditions.device)
    unit, drift = anchor * 1000, ratio.reference / anchor - 1
    doubt = DRIFT_DOUBT * abs(drift) * ratio.median
    return Latency(
        median_ms=ratio.median * unit, low_ms=max(ratio.low - doubt, 0.0) * unit, high_ms=(ratio.high + doubt) * unit,
        confidence=limits.confidence, iqr_ms=ratio.iqr * unit, p95_ms=ratio.p95 * unit,
        n=ratio.n, rejected=ratio.rejected, attempts=ratio.attempts, relative=ratio.median,
        reference_depth=depth, reference_ms=unit, reference_drift=drift, device=str(conditions.device),
        device_name=device_name(conditions.device), dtype=dtype, batch=batch, input_shape=input_shape, threads=threads,
        cores=tuple(cores) if cores is not None else None, memory_format=conditions.memory_format,
        batch_norm_folded=fold_batch_norm, runtime=runtime, runtime_version=engine.version(), graph=graph,
        torch_version=str(torch.__version__), clock_mhz=mhz,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def _reference_for(net: Run, conditions: Conditions, timer: Timer) -> tuple[int, Run]:
    """The reference, and its depth, whose time is about that of the network."""
    small, large = DEPTHS
    reference = conditions.reference(small)
    if _seconds(timer, net) < LARGE * _seconds(timer, reference):
        return small, reference
    return large, conditions.reference(large)


def _turns(timer: Timer, reference: Run, net: Run, between: Between) -> Turn:
    """Interleaved bursts of the two, each about ``BURST_S`` long, and before each a run that is not timed.

    It brings the network's own data back into the caches, which the other network, or whatever the core did meanwhile,
    has displaced: else a burst of one run would differ from one of two, and a network after an interruption from others.
    """
    repeats = [max(1, min(100, round(BURST_S / _seconds(timer, run)))) for run in (reference, net)]

    def turn() -> Pair:
        between()
        reference()
        first, one = timer(reference, repeats[0])
        net()
        second, two = timer(net, repeats[1])
        return Pair(first, second, one or two)

    return turn


def _seconds(timer: Timer, run: Run) -> float:
    """About what a run takes: the fastest of a few."""
    timer(run, 2)
    return max(min(timer(run, 1)[0] for _ in range(5)), 1e-9)


def _calibrate(timer: Timer, reference: Run, between: Between) -> float:
    """Seconds that the reference takes in quiet times, from pairs of it with itself."""
    turn = _turns(timer, reference, reference, between)
    limits = Limits(min_s=CALIBRATION_S, max_s=10 * CALIBRATION_S)
    warm_up(turn, limits.warmup_s)
    if (seconds := quiet_time(sample(turn, limits))) is None:
        raise MeasureError("the reference could not be timed: its runs were interrupted by other processes",
                           hint="Wait until the device is quiet.")  # fmt: skip
    return seconds
