"""Real measurements, tiny ones; no time is asserted, only what is bigger."""

import json
from itertools import count

import pytest
import torch
from torch import Tensor, nn

from nas.errors import MeasureError, UnsupportedError
from nas.measure import latency as room
from nas.measure.conditions import Conditions
from nas.measure.device import quiet
from nas.measure.latency import measure_latency
from nas.measure.protocol import Limits, summarise
from nas.measure.reference import REFERENCE_SHAPE, Anchors, reference_net

# The machine that runs the tests may be busy: these limits accept what a real measurement would refuse.
LENIENT = Limits(tolerance=0.1, min_pairs=20, min_s=0.05, max_s=1, warmup_s=0.05, max_half_width=1, max_rejected=0.95,
                 max_drift=1000, max_speedup=1000, attempts=5)  # fmt: skip


@pytest.fixture
def anchors(monkeypatch):
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    return Anchors()


def conv_net(depth: int = 2) -> nn.Module:
    layers = [layer for _ in range(depth) for layer in (nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x


def test_a_number_travels_with_its_conditions(anchors):
    model = conv_net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = measure_latency(model, (3, 16, 16), limits=LENIENT, anchors=anchors)
    assert result.low_ms <= result.median_ms <= result.high_ms
    assert result.iqr_ms > 0
    assert result.median_ms == pytest.approx(result.relative * result.reference_ms)
    assert result.n >= 6
    assert (result.device, result.dtype, result.batch, result.threads) == ("cpu", "float32", 1, 1)
    assert (result.runtime, result.graph, result.memory_format) == ("eager", False, "channels_last")
    assert (result.weights, result.denormals_flushed, result.batch_norm_folded) == (None, True, False)
    assert (result.torch_version, result.input_shape) == (torch.__version__, (3, 16, 16))
    assert json.loads(json.dumps(result.to_mapping())) == result.to_mapping()
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_four_times_the_network_is_slower(anchors):
    small, large = (measure_latency(conv_net(depth), (3, 16, 16), limits=LENIENT, anchors=anchors) for depth in (2, 8))
    assert large.median_ms > small.median_ms
    assert small.reference_ms == large.reference_ms == 1


def test_a_network_is_paired_with_the_reference_that_takes_about_its_time():
    conditions = Conditions.of()
    with quiet(conditions.device, 1, None) as timer:
        nets = [conditions.prepare(reference_net(depth), REFERENCE_SHAPE, 1, conditions.runtime) for depth in (1, 4, 12)]
        assert [room._reference_for(net, conditions, timer)[0] for net in nets] == [1, 4, 4]


def test_the_spread_is_of_single_runs_though_short_ones_are_timed_several_at_once():
    """Every tenth run of 20 µs takes ten times as long, which bursts of 50 all tell as 38 µs."""
    runs = count()

    def timer(run, repeats):
        return sum(run() for _ in range(repeats)) / repeats, False

    turn = room._turns(timer, lambda: 1e-3, lambda: 2e-5 if next(runs) % 10 else 2e-4, bool)
    ratio = summarise([turn() for _ in range(200)], 0.95)
    assert ratio.median == pytest.approx(0.038, rel=0.01)
    assert ratio.p95 == pytest.approx(0.2)
    assert ratio.iqr < 0.01


def test_the_reference_is_calibrated_once_for_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "CALIBRATION_S", 0.1)
    records = Anchors(tmp_path), Anchors(tmp_path)
    first, second = (measure_latency(conv_net(), (3, 8, 8), limits=LENIENT, anchors=record) for record in records)
    assert first.reference_ms == second.reference_ms > 0


def test_cores_of_two_kinds_have_each_their_own_unit():
    keys = [Conditions.of(cores=cores).key(1) for cores in (None, [0], [8], [8, 0], [0, 8])]
    assert len(set(keys)) == 4
    assert keys[-2] == keys[-1]


@pytest.mark.parametrize("conditions", [
    {"dtype": "bfloat16"}, {"weights": "trained"}, {"memory_format": "contiguous", "batch": 2}, {"fold_batch_norm": True},
])  # fmt: skip
def test_conditions_are_as_asked(conditions, anchors):
    mapping = measure_latency(conv_net(), (3, 8, 8), limits=LENIENT, anchors=anchors, **conditions).to_mapping()
    mapping["fold_batch_norm"] = mapping["batch_norm_folded"]
    assert {name: mapping[name] for name in conditions} == conditions


@pytest.mark.parametrize(("model", "options", "message"), [
    (conv_net(), {"device": "tpu"}, "no such device.*expected cpu.*tpu"),
    (conv_net(), {"dtype": "int7"}, "unknown dtype.*float32"),
    (conv_net(), {"memory_format": "nhwc"}, "unknown memory format.*channels_last"),
    (conv_net(), {"batch": 0}, "batch must be at least 1"),
    (conv_net(), {"threads": 0}, "threads must be at least 1"),
    (conv_net(), {"graph": True}, "on CUDA only"),
    (Branching(), {"fold_batch_norm": True}, "cannot be folded"),
    (nn.Linear(5, 2), {}, "does not run on cpu in float32"),
])  # fmt: skip
def test_impossible_conditions_are_told(model, options, message):
    with pytest.raises(MeasureError, match=message):
        measure_latency(model, (3, 8, 8), **options)


def test_a_network_that_does_not_run_is_not_refused_for_now():
    with pytest.raises(UnsupportedError):
        measure_latency(nn.Linear(5, 2), (3, 8, 8))


def test_a_refusal_is_an_error_and_not_a_number(anchors):
    strict = Limits(tolerance=1e-9, max_half_width=1e-9, min_s=0, max_s=0.05, warmup_s=0.01, attempts=2, max_rejected=1,
                    max_drift=1000, max_speedup=1000)  # fmt: skip
    with pytest.raises(MeasureError, match=r"refused after 2 attempts"):
        measure_latency(conv_net(), (3, 8, 8), limits=strict, anchors=anchors)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("graph", [False, True])
def test_cuda(graph, anchors):
    small, large = (measure_latency(conv_net(depth), (3, 16, 16), device="cuda", graph=graph, limits=LENIENT,
                                    anchors=anchors) for depth in (2, 8))  # fmt: skip
    assert large.median_ms > small.median_ms
    assert (small.device, small.graph) == ("cuda:0", graph)


@pytest.mark.parametrize("turns", [1, 25])
def test_what_is_raised_between_the_runs_ends_the_measurement(turns, monkeypatch):
    """While the reference is timed (1 turn), while it warms up or samples; and everything is put back."""
    endless = Limits(warmup_s=3600, min_s=3600, max_s=3600)
    if turns > 1:
        monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    seen = []

    def between():
        seen.append(1)
        if len(seen) == turns:
            raise KeyError

    with pytest.raises(KeyError):
        measure_latency(conv_net(), (3, 8, 8), limits=endless, anchors=Anchors(), between=between)
    assert len(seen) == turns
    assert not torch.is_inference_mode_enabled()
