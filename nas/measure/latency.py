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
from nas.measure.device import Run, Timer, Timing, clock_mhz, device_name, flushing, quiet
from nas.measure.fold import fold_batch_norms
from nas.measure.protocol import Between, Limits, Pair, Turn, measure_ratio, quiet_time, sample, warm_up
from nas.measure.reference import DEPTHS, Anchors

BURST_S = 1e-3
"""Runs shorter than this are timed several at once: the clock's cost vanishes, and caches are the network's own."""

CALIBRATION_S, CALIBRATIONS = 1.5, 3
"""Seconds spent on a reference's quiet time, once per conditions and record, and how often at most until they were quiet: phases
of foreign load last up to seconds."""

DRIFT_DOUBT, MOST_DOUBT = 0.5, 0.02
"""What slows the reference by 1 % (caches, memory) slows other networks by 0.5 to 1.6 %; what slows it by half or more (a busy
sibling thread) slows all nearly alike. So half of the drift, and this at most, is added to either side of the interval."""

SLOW_S = 0.1
"""A run that takes longer is timed once to tell about what it takes."""

DISPLACING_S = 10e-3
"""A network of this time displaces so much from the caches that the reference's second run after it is still slower (resnet_18:
1.4 % after 9 ms, 4.6 % after 23 ms; smaller networks below 1 %), the third 0 to 1 %."""

LARGE = 2
"""A network that takes this many times the small reference's time is paired with the large one."""

_process_anchors = Anchors()


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds of one forward pass of a whole batch, with the conditions they were measured under.

    ``low_ms`` and ``high_ms`` bound the median with that ``confidence`` (order statistics), wider by ``DRIFT_DOUBT`` of the
    drift (``MOST_DOUBT`` at most); ``iqr_ms`` and ``p95_ms`` are of single runs. All are corrected for drift: ``relative`` is the
    median ratio to the reference network of ``reference_depth`` (run by the same engine, where that takes ONNX), which takes
    ``reference_ms`` in quiet times, and ``median_ms`` is their product. During this measurement the reference ran
    ``reference_drift`` (relative) slower than that. ``n`` pairs of runs count, ``rejected`` were interrupted.
    ``weights`` are "random" or "trained" where who measured said so. None for ``denormals_flushed`` where nothing tells (on
    CUDA, by an engine with threads of its own), for ``batch_norm_folded`` where the engine folds as it likes.
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
    weights: str | None
    denormals_flushed: bool | None
    batch_norm_folded: bool | None
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
    runtime: str = "eager", cores: Sequence[int] | None = None, weights: str | None = None, limits: Limits | None = None,
    anchors: Anchors | None = None, between: Between = bool,
) -> Latency:  # fmt: skip
    """Measure a forward pass of ``model``, the network as it will be deployed, for ``batch`` inputs: (C, H, W) or less.

    A copy is measured in evaluation and inference mode by ``runtime`` (a name of ``nas.measure.runtime.RUNTIMES``), or on CUDA by
    replaying a captured ``graph`` of the eager network. The memory format is ``channels_last`` where torch runs the network,
    unless said otherwise, and ``contiguous`` in engines that take ONNX; ``fold_batch_norm`` folds batch norms into the
    convolutions before them (of a file it says that they were). ``cores`` pins the thread; ``weights`` ("random", "trained") is
    noted. Measurements that are to be compared share ``anchors``; the default is one record per process. ``between`` may end it
    early, see :data:`nas.measure.protocol.Between`. Take ``device_lock`` around the call when others may measure. Raises
    MeasureError when the conditions do not exist here, when the network does not run, or when the timings are not to be
    believed.
    """
    start = time.perf_counter()
    limits, anchors = limits or Limits(), anchors or _process_anchors
    conditions = Conditions.of(device=device, batch=batch, threads=threads, dtype=dtype, memory_format=memory_format, graph=graph,
                               runtime=runtime, cores=cores)  # fmt: skip
    engine = conditions.runtime
    model = fold_batch_norms(model) if fold_batch_norm and isinstance(model, nn.Module) else model
    with quiet(conditions.device, threads, conditions.cores, engine.inline) as timer:
        net = conditions.prepare(model, input_shape, batch, engine)
        depth, reference = _reference_for(net, conditions, timer)
        turn = _turns(timer, reference, net, between)
        if (anchor := anchors.get(conditions.key(depth))) is None:
            anchor = anchors.record(conditions.key(depth), _calibrate(timer, reference, between))
        ratio = measure_ratio(turn, limits, anchor)
        mhz = clock_mhz(conditions.device)
        tells = conditions.device.type == "cpu" and engine.inline
        flushed = flushing(threads if engine.in_torch else 1) if tells else None
    unit, drift = anchor * 1000, ratio.reference / anchor - 1
    doubt = min(DRIFT_DOUBT * abs(drift), MOST_DOUBT) * ratio.median
    return Latency(
        median_ms=ratio.median * unit, low_ms=max(ratio.low - doubt, 0.0) * unit, high_ms=(ratio.high + doubt) * unit,
        confidence=limits.confidence, iqr_ms=ratio.iqr * unit, p95_ms=ratio.p95 * unit,
        n=ratio.n, rejected=ratio.rejected, attempts=ratio.attempts, relative=ratio.median,
        reference_depth=depth, reference_ms=unit, reference_drift=drift, device=str(conditions.device),
        device_name=device_name(conditions.device), dtype=dtype, batch=batch, input_shape=input_shape, threads=threads,
        cores=conditions.cores, memory_format=conditions.memory_format,
        weights=weights, denormals_flushed=flushed,
        batch_norm_folded=fold_batch_norm or (False if engine.in_torch else None), runtime=runtime,
        runtime_version=engine.version(), graph=graph,
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
    """Bursts of the network, each between two of the reference, all about ``BURST_S`` long, and before each a run that is not
    timed (two of the reference after a long network).

    It brings the network's own data back into the caches, which the other network, or whatever the core did meanwhile,
    has displaced: else a burst of one run would differ from one of two, and a network after an interruption from others.
    The mean of a burst hides what single runs vary by, so after one of several another run is timed alone.
    """
    seconds_each = {run: _seconds(timer, run) for run in (reference, net)}
    of_reference, of_net = (max(1, min(100, round(BURST_S / seconds_each[run]))) for run in (reference, net))
    after_net = 2 if seconds_each[net] > DISPLACING_S else 1

    def burst(run: Run, repeats: int, untimed: int = 1) -> Timing:
        for _ in range(untimed):
            run()
        return timer(run, repeats)

    before = burst(reference, of_reference)

    def turn() -> Pair:
        nonlocal before
        between()
        took = burst(net, of_net)
        single = timer(net, 1) if of_net > 1 else took
        after = burst(reference, of_reference, after_net)
        around = [seconds for seconds, hit in (before, after) if not hit]
        before = after
        return Pair(sum(around) / len(around) if around else after[0], took[0], single[0],
                    took[1] or single[1] or not around)  # fmt: skip

    return turn


def _seconds(timer: Timer, run: Run) -> float:
    """About what a run takes: the fastest of a few."""
    roughly, _ = timer(run, 2)
    return max(min(timer(run, 1)[0] for _ in range(5 if roughly < SLOW_S else 1)), 1e-9)


def _calibrate(timer: Timer, reference: Run, between: Between) -> float:
    """Seconds that the reference takes in quiet times, from runs of it between others of it."""
    turn = _turns(timer, reference, reference, between)
    limits, pairs = Limits(min_s=CALIBRATION_S, max_s=10 * CALIBRATION_S), list[Pair]()
    warm_up(turn, limits.warmup_s)
    for _ in range(CALIBRATIONS):
        pairs += sample(turn, limits)
        found = quiet_time([pair.net for pair in pairs if not pair.disturbed])
        if found is not None and found[1]:
            break
    if found is None:
        raise MeasureError("the reference could not be timed: its runs were interrupted by other processes",
                           hint="Wait until the device is quiet.")  # fmt: skip
    return found[0]
