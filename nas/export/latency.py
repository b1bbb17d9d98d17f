"""How long an exported network takes in each of its formats, by the protocol of :mod:`nas.measure`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import NasError
from nas.export.formats import quietly
from nas.measure.device import find_device, lock_name
from nas.measure.latency import Latency, measure_latency
from nas.measure.lock import device_lock
from nas.measure.onnx import OnnxModel
from nas.measure.protocol import Limits
from nas.measure.reference import Anchors
from nas.measure.target import is_remote, measure_at
from nas.net.graph import Graph
from nas.ops import Shape
from nas.search.config import SearchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """The conditions of an export's measurements.

    ``target`` and ``runtime`` are those of the source, which is refused where only a Ray cluster has the target. Where that is
    another machine, the files of the other formats are measured on this one's CPU; ONNX is run by ONNX Runtime, a .pt2 by torch
    as it is loaded. ``wait_s``: how long to wait for the device.
    """

    target: str = "cpu"
    batch: int = 1
    runtime: str = "eager"
    anchors: Anchors = field(default_factory=Anchors)
    limits: Limits = field(default_factory=Limits)
    wait_s: float = 60.0

    @classmethod
    def of_run(cls, config: SearchConfig, folder: Path) -> Measuring:
        """As the run measured: its latencies and these are of one unit."""
        return cls(target=config.target or "cpu", batch=config.deploy.batch or 1, runtime=config.measured_by,
                   anchors=Anchors(folder.resolve()))  # fmt: skip


def further(formats: Sequence[str]) -> bool:
    """Whether a format is among them that runs in another way than the source."""
    return not {"onnx", "pt2"}.isdisjoint(formats)


def measure_formats(graph: Graph, network: nn.Module, folder: Path, formats: Sequence[str], how: Measuring,
                    weights: str) -> dict[str, Latency | str]:  # fmt: skip
    """The latency of the source (``py``) and of the further formats in ``folder``; a text is why a measurement was refused.

    ``weights``: "random" or "trained".
    """
    return dict(_measured(graph, network, folder, formats, how, weights))


def _measured(graph: Graph, network: nn.Module, folder: Path, formats: Sequence[str], how: Measuring,
              weights: str) -> Iterator[tuple[str, Latency | str]]:  # fmt: skip
    shape = graph.inputs[0][1]
    device = how.target if how.target.partition(":")[0] in {"cpu", "cuda"} else "cpu"

    def source() -> Latency:
        return measure_at(how.target, graph if is_remote(how.target) else network, shape, batch=how.batch, threads=1,
                          runtime=how.runtime, weights=weights, limits=how.limits, anchors=how.anchors,
                          wait_s=how.wait_s)  # fmt: skip

    def onnx() -> Latency:
        return _of_file(OnnxModel((folder / "network.onnx").read_bytes()), shape, device, "onnxruntime", how, weights)

    def pt2() -> Latency:
        return _of_file(Program(folder / "network.pt2"), shape, device, "eager", how, weights)

    for name, measure in (("py", source), ("onnx", onnx), ("pt2", pt2)):
        if name == "py" or name in formats:
            yield name, _figure(measure)


def _figure(measure: Callable[[], Latency]) -> Latency | str:
    try:
        with quietly():
            return measure()
    except (NasError, OSError) as error:  # OSError: the unit of the run's folder cannot be read or kept
        return str(error)


def _of_file(model: OnnxModel | nn.Module, shape: Shape, device: str, runtime: str, how: Measuring,
             weights: str) -> Latency:  # fmt: skip
    with device_lock(lock_name(find_device(device)), timeout_s=how.wait_s):
        return measure_latency(model, shape, device=device, batch=how.batch, runtime=runtime, memory_format="contiguous",
                               weights=weights, limits=how.limits, anchors=how.anchors)  # fmt: skip


class Program(nn.Module):
    """A torch.export file as a module. Its mode is the one that it was exported in, so setting one changes nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.program = torch.export.load(path).module()

    def train(self, mode: bool = True) -> Program:
        """Changes nothing."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.program(x)
        return output


def as_words(latencies: Mapping[str, Latency | str], checks: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """What metrics.json tells of each format: its check, and its latency with all conditions or why there is none."""
    words: dict[str, dict[str, object]] = {name: {} for name in (*latencies, *checks)}
    for name, check in checks.items():
        words[name]["check"] = check
    for name, found in latencies.items():
        words[name] |= {"refused": found} if isinstance(found, str) else {"latency": found.to_mapping()}
    return words
