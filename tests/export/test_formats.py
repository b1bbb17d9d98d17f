"""ONNX and torch.export files: checked when written, refused with the operation's name."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import nn

from nas.errors import ExportError
from nas.export.formats import inexpressible, write_onnx, write_pt2
from nas.export.writing import load_source
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.ops.modules.pool import GlobalAvgPool
from nas.space.parse import parse_text
from nas.space.search_space import Architecture

PAGE = "{name: t, input: [3, 8, 8], network: [{name: stem, op: conv_bn, out_channels: 4}, global_avg_pool, classifier]}"


def network_of(text: str = PAGE) -> tuple[Graph, nn.Module, torch.Tensor]:
    graph = lower(Architecture(parse_text(text)))
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        source = Path(folder, "network.py")
        source.write_text(render(graph, Head(title="t")))
        network = load_source(source).build()
    return graph, network.eval(), torch.randn(2, *graph.inputs[0][1])


def test_pt2_has_a_dynamic_batch(tmp_path: Path) -> None:
    graph, network, example = network_of()
    assert "batches of 1, 2 and 3" in write_pt2(graph, network, example, tmp_path / "n.pt2")
    with torch.inference_mode():
        images = torch.randn(5, 3, 8, 8)
        assert torch.equal(torch.export.load(tmp_path / "n.pt2").module()(images), network(images))


def test_what_a_format_cannot_express_is_found_over_many_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = [network_of()[0], network_of(PAGE.replace("conv_bn,", "conv_bn_act,"))[0]]
    assert inexpressible(graphs, "pt2") == []

    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 1 else x.sum((2, 3))

    monkeypatch.setattr(GlobalAvgPool, "forward", forward)
    assert inexpressible(graphs, "pt2") == ["global_avg_pool"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_has_a_dynamic_batch(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    graph, network, example = network_of()
    assert "batches of 1, 2 and 3" in write_onnx(graph, network, example, tmp_path / "n.onnx")
    session = runtime.InferenceSession(str(tmp_path / "n.onnx"))
    assert session.run(None, {"images": torch.randn(5, 3, 8, 8).numpy()})[0].shape == (5, 10)


def test_an_operation_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))

    graph, network, example = network_of()
    monkeypatch.setattr(type(network.global_avg_pool), "forward", forward)
    monkeypatch.setattr(GlobalAvgPool, "forward", forward)
    with pytest.raises(ExportError, match="cannot express global_avg_pool"):
        write_pt2(graph, network, example, tmp_path / "n.pt2")
    assert not list(tmp_path.iterdir())


def test_other_outputs_are_refused(tmp_path: Path) -> None:
    graph, network, example = network_of()
    calls: list[int] = []

    class Drifting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(1)
            return network(x) * (1 if len(calls) == 1 else 1.01)

    with pytest.raises(ExportError, match="differ"):
        write_pt2(graph, Drifting().eval(), example, tmp_path / "n.pt2")


def test_a_missing_package_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    graph, network, example = network_of()
    with pytest.raises(ExportError, match=r"pip install 'nas\[onnx\]'"):
        write_onnx(graph, network, example, tmp_path / "n.onnx")
