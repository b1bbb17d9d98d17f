"""Latency of the exported formats: by the protocol, in the file's head and figures; a refusal is told and prevents nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.export import export_folder
from nas.export.latency import Measuring, Program, further
from nas.measure.latency import Latency
from nas.measure.protocol import Limits
from nas.net.render import Head
from nas.search.config import SearchConfig
from nas.space.parse import parse_text

PAGE = "{name: t, input: [3, 8, 8], network: [{name: stem, op: conv_bn, out_channels: 4}, global_avg_pool, classifier]}"
HEAD = Head(title="t", lines=["first", "", "last"])
LENIENT = Limits(max_half_width=1e9, max_rejected=1.0, max_drift=1e9, max_speedup=1e9, tolerance=1e9, min_s=0.02,
                 warmup_s=0.01, max_s=60.0)  # fmt: skip
"""Takes what a busy machine gives: the figures are not judged here."""


def test_figures_stand_in_the_head_and_the_metrics(tmp_path: Path) -> None:
    exported = export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, formats=("py", "pt2"),
                             measuring=Measuring(limits=LENIENT))  # fmt: skip
    words = json.loads((exported.folder / "metrics.json").read_text())["formats"]
    assert list(words) == ["py", "pt2"]
    for name, found in exported.latencies.items():
        assert isinstance(found, Latency), found
        assert Latency.from_mapping(words[name]["latency"]) == found
        assert found.median_ms > 0
        assert found.weights == "random"
    assert words["pt2"]["latency"]["memory_format"] == "contiguous"
    head = (exported.folder / "network.py").read_text().partition('"""\n\nfrom')[0].split("\n\n")
    assert "Latency of this file at export: " in head[1]
    assert "Latency of network.pt2 at export: " in head[1]
    assert head[2].strip() == "last"


@pytest.mark.parametrize("how", [
    Measuring(limits=Limits(max_half_width=0.0, max_s=0.05, warmup_s=0.0, attempts=1)), Measuring(target="cuda:99"),
    Measuring(runtime="nothing"), Measuring(target="http://127.0.0.1:9"),
], ids=["busy", "device", "runtime", "address"])  # fmt: skip
def test_a_refusal_is_told_and_the_export_written(how: Measuring, tmp_path: Path) -> None:
    exported = export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, measuring=how)
    refused = json.loads((exported.folder / "metrics.json").read_text())["formats"]["py"]["refused"]
    assert refused == exported.latencies["py"]
    assert refused
    assert "Latency" not in (exported.folder / "network.py").read_text()
    assert (exported.folder / "test_network.py").exists()


@pytest.mark.parametrize("target", ["cuda@H200", "resource:pixel"])
def test_what_a_cluster_measured_is_not_measured_on_this_machine(target: str, tmp_path: Path) -> None:
    words = {"space": "nasnet_cell", "data": "digits", "budget": "1min", "engine": "ray", "target": target}
    how = replace(Measuring.of_run(SearchConfig.from_words(words), tmp_path), limits=LENIENT)
    exported = export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, formats=("py", "pt2"), measuring=how)
    found = exported.latencies
    assert isinstance(found["py"], str)
    assert target in found["py"]
    assert "nas measure-server" in found["py"]
    assert isinstance(found["pt2"], Latency)
    assert found["pt2"].device == "cpu"


def test_nothing_is_measured_unless_asked(tmp_path: Path) -> None:
    assert export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, formats=("py", "pt2")).latencies == {}


def test_a_loaded_program_can_be_copied_as_measurements_do(tmp_path: Path) -> None:
    folder = export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, formats=("py", "pt2")).folder
    program, images = Program(folder / "network.pt2"), torch.randn(3, 3, 8, 8)
    assert torch.equal(program.eval()(images), program.train()(images))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_is_measured_by_its_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = export_folder(parse_text(PAGE), tmp_path / "out", head=HEAD, metrics={}, formats=("py", "onnx"),
                          measuring=Measuring(limits=LENIENT)).latencies["onnx"]  # fmt: skip
    assert isinstance(found, Latency), found
    assert (found.runtime, found.memory_format, found.batch) == ("onnxruntime", "contiguous", 1)


def test_a_run_says_how_it_measured(tmp_path: Path) -> None:
    words = {"space": "nasnet_cell", "data": "digits", "budget": "1min", "deploy": "batch=8", "runtime": "onnxruntime"}
    how = Measuring.of_run(SearchConfig.from_words({**words, "target": "http://box:1"}), tmp_path)
    assert (how.target, how.batch, how.runtime) == ("http://box:1", 8, "onnxruntime")
    how.anchors.record("key", 0.5)
    assert (tmp_path / "latency_reference.json").exists()


def test_further_formats() -> None:
    assert [f for f in (("py",), ("py", "safetensors"), ("pt2",), ("py", "onnx")) if further(f)] == [("pt2",), ("py", "onnx")]
