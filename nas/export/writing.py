"""An exported folder in the making: the source first, then all else from the network that is loaded from it."""

from __future__ import annotations

import importlib.util
import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.export import formats as writers
from nas.export.batch import Batch
from nas.export.latency import Measuring, as_words, measure_formats
from nas.export.origin import with_latencies
from nas.export.proof import REFERENCE, TEST, fill, proof
from nas.measure.latency import Latency
from nas.net.build import build
from nas.net.graph import Graph
from nas.net.lower import lower
from nas.net.render import Head, render
from nas.report.picture import picture
from nas.space.search_space import Architecture
from nas.space.spec import Spec
from nas.space.unparse import to_yaml

SOURCE, PAGE, WEIGHTS, METRICS, REQUIREMENTS = "network.py", "architecture.yaml", "weights.pt", "metrics.json", "requirements.txt"
PICTURE = "cell.svg"


class Writing:
    """Files of one network in ``made``. Raises ExportError where the weights do not fit it, or there are none to write."""

    def __init__(self, spec: Spec, made: Path, head: Head, weights: Path | None, formats: Sequence[str]) -> None:
        if weights is None and "safetensors" in formats:
            raise ExportError("there are no trained weights to write as safetensors", hint="Leave safetensors out of formats=.")
        self.spec, self.made, self.head, self.trained, self.formats = spec, made, head, weights is not None, formats
        self.graph = lower(Architecture(spec))
        self._source(head)
        self.network = load_source(made / SOURCE).build()
        if weights is not None:
            _load(self.network, weights)
            torch.save(self.network.state_dict(), made / WEIGHTS)
        else:
            fill(self.network)
        self.network.eval()
        self.example = torch.randn(2, *self.graph.inputs[0][1], generator=torch.Generator().manual_seed(0))

    def _source(self, head: Head) -> None:
        (self.made / SOURCE).write_text(render(self.graph, head), encoding="utf-8")

    def prove(self, batch: Batch | None) -> tuple[int, int] | None:
        """Check the source and write the test; how many images of the batch are right, and of how many."""
        stored = {"input": self.example, "output": check_source(self.graph, self.network, self.example),
                  "num_params": self.graph.num_params, "made_with": _environment()}  # fmt: skip
        right = None
        if batch is not None and self.trained:
            with torch.inference_mode():
                right = (self.network(batch.images).argmax(1) == batch.labels).clone()
            stored |= {**batch._asdict(), "right": right}
        (self.made / TEST).write_text(proof(trained=self.trained, accuracy=right is not None), encoding="utf-8")
        torch.save(stored, self.made / REFERENCE)
        return None if right is None else (int(right.sum()), len(right))

    def further(self) -> dict[str, str]:
        """Write the other formats; how far each is from the source."""
        checks = {}
        if "safetensors" in self.formats:
            checks["safetensors"] = writers.write_safetensors(self.network, self.made / "weights.safetensors")
        if "onnx" in self.formats:
            checks["onnx"] = writers.write_onnx(self.graph, self.network, self.example, self.made / "network.onnx")
        if "pt2" in self.formats:
            checks["pt2"] = writers.write_pt2(self.graph, self.network, self.example, self.made / "network.pt2")
        return checks if self.trained else {name: f"{text}; holds placeholder weights" for name, text in checks.items()}

    def measure(self, how: Measuring) -> dict[str, Latency | str]:
        """Measure every format that was written, and tell it in the source's head."""
        found = measure_formats(self.graph, self.network, self.made, self.formats, how,
                                weights="trained" if self.trained else "random")  # fmt: skip
        self._source(with_latencies(self.head, found))
        return found

    def describe(self, metrics: Mapping[str, Any], checks: Mapping[str, str], latencies: Mapping[str, Latency | str],
                 right: tuple[int, int] | None) -> None:  # fmt: skip
        """Page, picture, requirements and figures."""
        figures = {**metrics, "formats": as_words(latencies, checks)}
        if right is not None:
            figures["stored_images"] = {"split": "validation", "right": right[0], "images": right[1]}
        for name, text in ((PAGE, to_yaml(self.spec)), (METRICS, json.dumps(figures, indent=2) + "\n"),
                           (PICTURE, picture(self.graph, self.spec.name)), (REQUIREMENTS, "torch>=2.6\n")):  # fmt: skip
            (self.made / name).write_text(text, encoding="utf-8")


def load_source(path: Path) -> ModuleType:
    """The module of a rendered file: our own source, which data enters as checked literals only."""
    spec = importlib.util.spec_from_file_location("network", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_source(graph: Graph, network: nn.Module, example: Tensor) -> Tensor:
    """The rendered network's output, once it is shown to equal the built network's bit by bit. Raises ExportError."""
    built = build(graph).eval()
    with torch.inference_mode():
        try:
            built.load_state_dict(network.state_dict())
        except RuntimeError as error:
            got = str(error).split("\n")[1].strip()
            raise ExportError("the source's weights have other names than the network's", got=got) from None
        expected, output = built(example), network(example)
    if not torch.equal(expected, output):
        raise ExportError("the source's outputs differ from the network's", got=f"{float((expected - output).abs().max()):.2g}")
    return torch.clone(output)


def _load(network: nn.Module, weights: Path) -> None:
    try:
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
        raise ExportError("the weights cannot be loaded", where=str(weights), got=str(error).split("\n")[0]) from None


def _environment() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__), "platform": platform.platform()}
