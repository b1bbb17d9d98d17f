"""The protocol on simulated machines: the clock is what the simulation says."""

from collections.abc import Callable

import numpy as np
import pytest

from nas.errors import MeasureError
from nas.measure.protocol import Limits, Pair, measure_ratio, quiet_time, sample, summarise, warm_up

LIMITS = Limits()
QUIET = 1e-3  # seconds of the reference on every simulated machine


class Machine:
    """Turns of a reference of 1 ms and a network of ``net`` times that, on a machine as slow as ``slowdown(now)``."""

    def __init__(self, net: float = 2.0, slowdown: Callable[[float], float] = lambda now: 1.0, noise: float = 0.01,
                 disturbed: Callable[[float], bool] = lambda now: False) -> None:  # fmt: skip
        self.now, self.net, self.slowdown, self.noise, self.disturbed = 0.0, net, slowdown, noise, disturbed
        self.rng, self.times = np.random.default_rng(0), []

    def clock(self) -> float:
        return self.now

    def turn(self) -> Pair:
        hit = self.disturbed(self.now)
        reference = QUIET * self.slowdown(self.now) * self.rng.lognormal(0, self.noise)
        net = QUIET * self.net * self.slowdown(self.now) * self.rng.lognormal(0, self.noise) * (5 if hit else 1)
        self.now += reference + net
        self.times.append(net)
        return Pair(reference, net, net, hit)

    def ratio(self, limits: Limits = LIMITS):
        return measure_ratio(self.turn, limits, QUIET, self.clock)


@pytest.mark.parametrize("net", [0.3, 2.0, 30.0])
def test_the_ratio_is_found_and_bounded(net):
    ratio = Machine(net).ratio()
    assert ratio.median == pytest.approx(net, rel=0.01)
    assert ratio.low <= ratio.median <= ratio.high
    assert ratio.half_width <= LIMITS.tolerance
    assert ratio.reference == pytest.approx(QUIET, rel=0.02)
    assert (ratio.rejected, ratio.attempts) == (0, 1)


def test_drift_moves_the_times_but_not_the_ratio():
    machine = Machine(slowdown=lambda now: 1.15 + 0.1 * np.sin(now))
    ratio = machine.ratio()
    assert np.median(machine.times) > 1.1 * 2 * QUIET
    assert ratio.median == pytest.approx(2, rel=0.01)


def test_interrupted_runs_are_thrown_away():
    rng = np.random.default_rng(1)
    ratio = Machine(disturbed=lambda now: bool(rng.random() < 0.4)).ratio()
    assert ratio.median == pytest.approx(2, rel=0.01)
    assert ratio.p95 < 2.2
    assert ratio.rejected > ratio.n / 2


def test_load_that_hits_some_of_the_runs_harder_does_not_count():
    rng = np.random.default_rng(2)
    slowdown = np.where(rng.random(400) < 0.3, 1.4, 1) * rng.normal(1, 0.005, 400)
    pairs = [Pair(QUIET * s, 2 * QUIET * s**1.5, 2 * QUIET) for s in slowdown]
    ratio = summarise(pairs, 0.95)
    assert ratio is not None
    assert ratio.median == pytest.approx(2, rel=0.01)


def test_cores_that_are_slow_by_turns_move_the_times_but_not_the_ratio():
    load = np.random.default_rng(4)
    phases = np.cumsum(load.random(4000) < 0.1) % 2  # of some 10 ms
    machine = Machine(slowdown=lambda now: 1.8 if phases[int(now * 1000) % 4000] else 1.0, noise=0.05)
    ratio = machine.ratio()
    assert np.mean(machine.times) > 1.2 * 2 * QUIET
    assert ratio.median == pytest.approx(2, rel=0.03)


def test_sampling_stops_when_the_median_is_known_and_noise_takes_longer():
    counts = []
    for noise in (0.01, 0.2):
        machine = Machine(noise=noise)
        counts.append(len(sample(machine.turn, LIMITS, machine.clock)))
        assert LIMITS.min_s <= machine.now <= LIMITS.max_s + 0.1
    assert LIMITS.min_pairs <= counts[0] < counts[1]


def test_sampling_ends_at_the_limit_without_a_result():
    machine = Machine(noise=1.5)
    pairs = sample(machine.turn, LIMITS, machine.clock)
    ratio = summarise(pairs, 0.95)
    assert LIMITS.max_s <= machine.now < LIMITS.max_s + 0.5
    assert ratio is not None
    assert ratio.half_width > LIMITS.tolerance


@pytest.mark.parametrize(("machine", "reason"), [
    (Machine(disturbed=lambda now: True), "100% of .* runs were interrupted"),
    (Machine(slowdown=lambda now: 3.0), "(19|20).% slower than in quiet times"),
    (Machine(slowdown=lambda now: 0.8), "2[456]% faster than .*slower machine. Delete .*latency_reference.json, or .*restart"),
    (Machine(noise=3.0), "tell the median to"),
])  # fmt: skip
def test_what_cannot_be_believed_is_refused_with_the_reason(machine, reason):
    with pytest.raises(MeasureError, match=rf"refused after 3 attempts: .*{reason}"):
        machine.ratio()
    assert machine.now < 3 * (LIMITS.max_s + LIMITS.warmup_s + 8)


@pytest.mark.parametrize("seconds", [0.3, 1, 4])
def test_a_slow_network_has_the_time_that_an_interval_takes(seconds):
    machine = Machine(net=seconds / QUIET)
    ratio = machine.ratio()
    assert (ratio.n, ratio.attempts) == (12, 1)
    assert machine.now < 60 + 3.2 * seconds


def test_a_network_too_slow_for_an_interval_is_told_what_to_allow():
    with pytest.raises(MeasureError, match=r"[34] runs, 0% of them interrupted, are too few.*max_s="):
        Machine(net=20 / QUIET).ratio()


def test_a_passing_disturbance_costs_an_attempt():
    ratio = Machine(disturbed=lambda now: now < 3).ratio()
    assert ratio.attempts == 2
    assert ratio.rejected > 0
    assert ratio.median == pytest.approx(2, rel=0.01)


def test_a_reference_a_little_faster_than_its_record_is_no_reason_to_refuse():
    ratio = Machine(slowdown=lambda now: 0.9).ratio()
    assert ratio.median == pytest.approx(2, rel=0.01)
    assert ratio.reference == pytest.approx(0.9 * QUIET, rel=0.02)


def test_warm_up_waits_for_falling_times_to_settle():
    machine = Machine(slowdown=lambda now: 1 + 5 * np.exp(-now / 0.05), noise=0)
    assert warm_up(machine.turn, 10, machine.clock)
    assert machine.times[-1] < 1.1 * 2 * QUIET


def test_warm_up_is_bounded_in_time_but_takes_three_turns():
    falling = Machine(slowdown=lambda now: np.exp(-3 * now), noise=0, net=20)
    assert not warm_up(falling.turn, 0.2, falling.clock)
    assert falling.now < 0.3
    slow = Machine(net=5000)
    assert not warm_up(slow.turn, 0.2, slow.clock)
    assert len(slow.times) == 3


def undisturbed(machine):
    return [pair.net for pair in (machine.turn() for _ in range(400)) if not pair.disturbed]


def test_the_quiet_time_is_found_beside_others():
    load = np.random.default_rng(3)
    machine = Machine(net=1, slowdown=lambda now: load.uniform(1.2, 1.6) if load.random() < 0.7 else 1.0,
                      disturbed=lambda now: bool(load.random() < 0.2))  # fmt: skip
    seconds, calm = quiet_time(undisturbed(machine))
    assert seconds == pytest.approx(QUIET, rel=0.03)
    assert not calm
    assert quiet_time([]) is None


def test_the_quiet_time_of_a_quiet_machine_is_the_median():
    machine = Machine(net=1)
    seconds, calm = quiet_time(undisturbed(machine))
    assert seconds == pytest.approx(QUIET, rel=0.005)
    assert calm
