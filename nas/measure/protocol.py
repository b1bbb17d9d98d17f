"""The protocol of a measurement, without any device: pairs of timings in, a drift-corrected figure or a refusal out.

On a shared machine the noise of a timing is slow drift (other tenants, clocks), which neither medians nor minima of one
block remove. So every run stands between two runs of a fixed small reference network, and the median of the *ratios* to
their mean is what is measured; times the reference's quiet time it is a latency. Pairs that the scheduler interrupted are
thrown away; all others count, slow ones too. (On cores whose sibling threads other tenants keep busy half of the time, at
twice the time a run, all pairs repeated better than any choice of quiet ones: those are fewer, and no less noisy.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nas.errors import MeasureError
from nas.measure.stats import median_interval, settled

QUIET_SHARE, QUIET_SPREAD = 0.02, 1.04
"""The fastest share of a workload's runs that tells its quiet time, and how much slower the median is on a quiet machine.

Where other tenants keep the sibling threads busy, the median of 1.5 s was 20 to 80 % over the quiet time, the fastest tenth
9 % and in one case of twenty 50 %, this share 1 % and 20 %; of 6 s 0 % and 6 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a measurement has seen enough, and when it is refused.

    ``tolerance``: relative half-width of the median's interval (at ``confidence``) that is narrow enough. Sampling takes at
    least ``min_pairs`` pairs and ``min_s`` seconds, and at most ``max_s``, or as long as ``FEWEST`` pairs last. It is
    repeated up to ``attempts`` times, and then refused, when more than ``max_rejected`` of the pairs were interrupted, when
    the reference ran more than ``max_drift`` (relative) slower than its quiet time, or more than ``max_speedup`` faster, or
    when the interval stayed wider than ``max_half_width``.
    """

    tolerance: float = 0.02
    confidence: float = 0.95
    min_pairs: int = 40
    min_s: float = 0.4
    max_s: float = 3.0
    warmup_s: float = 0.3
    max_half_width: float = 0.05
    max_rejected: float = 0.7
    max_drift: float = 1.5
    max_speedup: float = 0.15
    attempts: int = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """One turn: seconds of a run of the reference, around that of the network, and of the network, the mean of several where
    those are short; of a ``single`` one of these; ``disturbed`` when any was interrupted."""

    reference: float
    net: float
    single: float
    disturbed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """Time of the network over time of the reference, from ``n`` pairs beside those ``rejected``.

    ``iqr`` and ``p95`` are of single runs, ``reference`` is the median seconds of the reference, ``low`` and ``high`` bound
    the median.
    """

    median: float
    low: float
    high: float
    iqr: float
    p95: float
    reference: float
    n: int
    rejected: int
    attempts: int = 1

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to the median."""
        return (self.high - self.low) / 2 / self.median


Turn = Callable[[], Pair]
Clock = Callable[[], float]
Between = Callable[[], object]
"""Called before every turn, and while a measurement waits for its device; what it raises ends the measurement."""

WARM_WINDOW, WARM_TOLERANCE, CHECK_EVERY = 5, 0.02, 10


def warm_up(turn: Turn, seconds: float, clock: Clock = time.perf_counter) -> bool:
    """Take turns until the network's times have settled (:func:`settled`) or ``seconds`` are over; whether they did.

    At least three turns are taken, however long they last: the first ones compile, allocate and fill caches.
    """
    start, times = clock(), list[float]()
    while not settled(times, WARM_WINDOW, WARM_TOLERANCE):
        if len(times) >= 3 and clock() - start >= seconds:
            return False
        times.append(turn().net)
    return True


def summarise(pairs: Sequence[Pair], confidence: float) -> Ratio | None:
    """The ratio that these pairs tell; None when too few were undisturbed for an interval."""
    whole = [pair for pair in pairs if not pair.disturbed]
    if len(whole) < 2:
        return None
    ratios = np.array([pair.net / pair.reference for pair in whole])
    low, high = median_interval(ratios, confidence)
    if not np.isfinite(low):
        return None
    lower, upper, p95 = np.quantile([pair.single / pair.reference for pair in whole], [0.25, 0.75, 0.95])
    return Ratio(median=float(np.median(ratios)), low=low, high=high, iqr=float(upper - lower), p95=float(p95),
                 reference=float(np.median([pair.reference for pair in whole])), n=len(whole),
                 rejected=len(pairs) - len(whole))  # fmt: skip


def quiet_time(times: Sequence[float]) -> tuple[float, bool] | None:
    """What a run takes in quiet times, of runs that were not interrupted, and whether these were quiet; None for none.

    The median, but at most ``QUIET_SPREAD`` times the fastest ``QUIET_SHARE``: foreign load moves that much less.
    """
    if not len(times):
        return None
    fastest, median = np.quantile(times, [QUIET_SHARE, 0.5])
    return float(min(median, QUIET_SPREAD * fastest)), bool(median <= QUIET_SPREAD * fastest)


FEWEST, FEWEST_S = 12, 60.0
"""So many pairs are taken for longer than ``Limits.max_s``, but not for longer than these seconds: six independent ones tell an
interval, and some are lost or tell what their neighbours do."""


def sample(turn: Turn, limits: Limits, clock: Clock = time.perf_counter) -> list[Pair]:
    """Take turns until the interval of the median ratio is narrow enough, or ``limits.max_s`` are over.

    Where that is less than ``FEWEST`` turns, it goes on to so many, or until ``FEWEST_S`` are over.
    """
    start, pairs = clock(), list[Pair]()
    while (spent := clock() - start) < limits.max_s or (len(pairs) < FEWEST and spent < FEWEST_S):
        pairs.append(turn())
        if len(pairs) % CHECK_EVERY or len(pairs) < limits.min_pairs or spent < limits.min_s:
            continue
        ratio = summarise(pairs, limits.confidence)
        if ratio is not None and ratio.half_width <= limits.tolerance:
            break
    return pairs


WAIT = "Wait until the device is quiet, or raise the limit."


def objection(pairs: Sequence[Pair], ratio: Ratio | None, quiet: float | None, limits: Limits) -> tuple[str, str] | None:
    """Why these pairs are not to be believed and what helps, or None. ``quiet``: the reference's quiet seconds, where known."""
    share = sum(pair.disturbed for pair in pairs) / max(len(pairs), 1)
    if share > limits.max_rejected:
        return f"{share:.0%} of {len(pairs)} runs were interrupted by other processes (limit {limits.max_rejected:.0%})", WAIT
    if ratio is None:
        return (f"{len(pairs)} runs, {share:.0%} of them interrupted, are too few for a confidence interval",
                "Wait until the device is quiet, or allow more time: `nas measure ... max_s=180`.")  # fmt: skip
    if quiet is not None and (drift := ratio.reference / quiet - 1) > limits.max_drift:
        return f"the reference ran {drift:.0%} slower than in quiet times (limit {limits.max_drift:.0%})", WAIT
    if ratio.half_width > limits.max_half_width:
        limit = limits.max_half_width
        return f"{len(pairs)} runs tell the median to {ratio.half_width:.1%} only (limit {limit:.1%})", WAIT
    if quiet is not None and (speedup := quiet / ratio.reference - 1) > limits.max_speedup:  # all milliseconds would be too many
        return (f"the reference ran {speedup:.0%} faster than its recorded quiet time (limit {limits.max_speedup:.0%}): "
                "the record was taken on a slower machine",
                "Delete the record, latency_reference.json, or where none is kept restart what measures (as a server); "
                "figures measured before keep their own unit.")  # fmt: skip
    return None


def measure_ratio(turn: Turn, limits: Limits, quiet: float | None = None, clock: Clock = time.perf_counter) -> Ratio:
    """Warm up and sample, again when the pairs are not to be believed.

    Raises MeasureError with the last reason after ``limits.attempts`` attempts.
    """
    refusal, rejected = None, 0
    for attempt in range(1, limits.attempts + 1):
        warm_up(turn, limits.warmup_s, clock)
        pairs = sample(turn, limits, clock)
        ratio = summarise(pairs, limits.confidence)
        refusal = objection(pairs, ratio, quiet, limits)
        rejected += sum(pair.disturbed for pair in pairs)
        if ratio is not None and refusal is None:
            return Ratio(median=ratio.median, low=ratio.low, high=ratio.high, iqr=ratio.iqr, p95=ratio.p95,
                         reference=ratio.reference, n=ratio.n, rejected=rejected, attempts=attempt)  # fmt: skip
    reason, hint = refusal or ("none was made", WAIT)
    raise MeasureError(f"the measurement was refused after {limits.attempts} attempts: {reason}", hint=hint)
