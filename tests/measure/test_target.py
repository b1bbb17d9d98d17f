"""Targets of this machine; what is elsewhere is tested with a server (test_server.py)."""

import socket

import pytest
import torch
from torch import nn

from nas.errors import MeasureError, UsageError
from nas.measure import latency as room
from nas.measure.latency import Latency
from nas.measure.lock import device_lock
from nas.measure.memory import activation_bytes, weight_bytes
from nas.measure.metrics import METRICS, measure_metrics
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.target import check_target, exported, measure_at, measure_both
from nas.net.build import build
from nas.net.lower import lower
from nas.space.parse import parse_page
from nas.space.search_space import Architecture

LENIENT = Limits(tolerance=0.2, min_pairs=20, min_s=0.02, max_s=1, warmup_s=0.02, max_half_width=5, max_rejected=0.99,
                 max_drift=1000, max_speedup=1000, attempts=5)  # fmt: skip
GRAPH = lower(Architecture(parse_page({"name": "tiny", "input": [3, 8, 8], "num_classes": 4, "network": [
    {"op": "conv_bn_act", "out_channels": 8}, "global_avg_pool", "classifier"]})))  # fmt: skip


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "_calibrate", lambda timer, reference, between: 1e-3)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.mark.parametrize("network", [GRAPH, nn.Conv2d(3, 4, 3)])
def test_graphs_and_modules_are_measured_here(network):
    latency = measure_at("cpu", network, (3, 8, 8), limits=LENIENT, batch=2)
    assert (latency.device, latency.batch, latency.input_shape) == ("cpu", 2, (3, 8, 8))
    assert latency.weights == ("random" if network is GRAPH else None)


def test_the_device_is_waited_for_and_then_told():
    with device_lock("cpu"), pytest.raises(MeasureError, match="cpu stayed in use"):
        measure_at("cpu", GRAPH, wait_s=0.01)


def test_one_measurement_gives_every_metric():
    wanted = [name for name in METRICS if name != "energy"]
    figures = measure_metrics("cpu", GRAPH, wanted, limits=LENIENT, batch=4)
    latency, values = figures
    assert list(values) == wanted
    assert (values["latency"], values["latency_p95"]) == (latency.median_ms, latency.p95_ms)
    assert values["throughput"] == pytest.approx(4000 / latency.median_ms)
    assert values["weight_bytes"] == weight_bytes(build(GRAPH))
    assert values["memory"] == values["weight_bytes"] + activation_bytes(GRAPH, 4)
    assert list(measure_metrics("cpu", GRAPH, limits=LENIENT).values) == ["latency"]


def test_memory_alone_is_told_while_the_device_is_in_use_and_never_timed():
    with device_lock("cpu"):
        latency, values = measure_metrics("cpu", GRAPH, ["memory", "weight_bytes"], batch=4, dtype="float16", wait_s=0.01)
        assert latency is None
        assert values["memory"] == values["weight_bytes"] + activation_bytes(GRAPH, 4, torch.float16)
        with pytest.raises(MeasureError, match="stayed in use"):
            measure_metrics("cpu", GRAPH, ["memory", "throughput"], wait_s=0.01)
    with pytest.raises(MeasureError, match="unknown dtype"):
        measure_metrics("cpu", GRAPH, ["memory"], dtype="float8")


def test_energy_is_the_inputs_share_in_millijoules(monkeypatch):
    monkeypatch.setattr("nas.measure.target.measure_energy", lambda *words, **options: 0.5)
    assert measure_metrics("cpu", GRAPH, ["energy"], limits=LENIENT, batch=10).values == {"energy": pytest.approx(50)}


@pytest.mark.parametrize(("target", "options", "kind", "message"), [
    ("tpu", {}, MeasureError, r"no such device.*expected cpu"),
    ("cpu", {"runtime": "onnx"}, MeasureError, r"unknown runtime.*Did you mean 'onnxruntime'"),
    ("cpu", {"runtime": "tensorrt"}, MeasureError, r"needs onnxscript, tensorrt, which.*pip install .*tensorrt"),
    ("cpu", {"runtime": "onnxruntime"}, MeasureError, r"needs onnxscript, which.*pip install 'nas\[onnx\]'. Or say another"),
    ("http://127.0.0.1:9", {"runtime": "tensorrt"}, MeasureError, r"runtime=tensorrt needs onnxscript, which"),
    ("https://", {}, UsageError, "no target"),
])  # fmt: skip
def test_what_cannot_be_reached_is_told(target, options, kind, message, monkeypatch):
    from nas.measure import runtime

    monkeypatch.setattr(runtime, "find_spec", lambda name: None if name in {"tensorrt", "onnxscript"} else name)
    with pytest.raises(kind, match=message):
        check_target(target, **options)


def test_what_counts_no_energy_is_told_before_a_search(tmp_path, monkeypatch):
    monkeypatch.setattr("nas.measure.energy.POWERCAP", tmp_path)
    assert torch.__version__ in check_target("cpu", metrics=["latency"])
    with pytest.raises(MeasureError, match="energy cannot be measured here"):
        check_target("cpu", metrics=["energy"])
    with pytest.raises(MeasureError, match=r"unknown metric.*Did you mean 'energy'"):
        measure_metrics("cpu", GRAPH, ["enrgy"])


def test_a_graph_travels_as_the_source_that_is_exported():
    form, body = exported(GRAPH, (3, 8, 8), {})
    assert form == "source"
    assert b"def build(" in body


def test_a_type_that_no_engine_takes_is_told_before_anything_travels():
    with pytest.raises(MeasureError, match=r"float32 or float16.*bfloat16"):
        exported(GRAPH, (3, 8, 8), {"runtime": "onnxruntime", "dtype": "bfloat16"})


def test_another_unit_is_the_same_measurement():
    latency = measure_at("cpu", GRAPH, limits=LENIENT, anchors=Anchors())
    other = latency.in_unit(2 * latency.reference_ms)
    assert other.median_ms == pytest.approx(2 * latency.median_ms)
    assert other.median_ms == pytest.approx(other.relative * other.reference_ms)
    assert (1 + other.reference_drift) * other.reference_ms == pytest.approx((1 + latency.reference_drift) * latency.reference_ms)
    assert Latency.from_mapping(other.to_mapping()) == other
    for words in ({"median_ms": "1"}, {"batch": 1.5}, {"cores": "all"}, {"n": None}, {"median_ms": float("nan")}, {"more": 1}):
        with pytest.raises(MeasureError, match=next(iter(words))):
            Latency.from_mapping(other.to_mapping() | words)


def test_another_machine_that_does_not_answer_is_left_when_the_asker_wants_no_more():
    looks = []

    def between():
        looks.append(1)
        if len(looks) == 2:
            raise KeyError

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(KeyError):
        measure_both(f"http://127.0.0.1:{silent.getsockname()[1]}", GRAPH, between=between)
    assert len(looks) == 2
