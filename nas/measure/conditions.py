"""The conditions of a measurement, and a network made ready to run under them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypedDict

import torch
from torch import nn

from nas.errors import MeasureError, UnsupportedError, nearest
from nas.measure.device import Run, device_name, find_device
from nas.measure.onnx import OnnxModel
from nas.measure.reference import REFERENCE_SHAPE, reference_net
from nas.measure.runtime import Runtime, find_runtime

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}

Model = nn.Module | OnnxModel
"""What can be measured: a module, or a file that was exported from one."""


class Options(TypedDict, total=False):
    """The words of a measurement's conditions but for the device; see :func:`nas.measure.latency.measure_latency`."""

    batch: int
    threads: int
    dtype: str
    memory_format: str | None
    fold_batch_norm: bool
    graph: bool
    runtime: str
    cores: Sequence[int] | None
    weights: str | None


def find_dtype(name: str) -> torch.dtype:
    """Torch's type of that name. Raises MeasureError."""
    if name not in DTYPES:
        raise MeasureError("unknown dtype", expected=" or ".join(DTYPES), got=name, hint=nearest(name, DTYPES))
    return DTYPES[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a network runs on, by what, and on how many inputs at a time; make one with :meth:`of`."""

    device: torch.device
    batch: int
    threads: int
    dtype: str
    memory_format: str
    graph: bool
    runtime: Runtime
    cores: tuple[int, ...] | None

    @classmethod
    def of(cls, *, device: str = "cpu", batch: int = 1, threads: int = 1, dtype: str = "float32", graph: bool = False,
           memory_format: str | None = None, runtime: str = "eager", cores: Sequence[int] | None = None,
           **others: object) -> Conditions:  # fmt: skip
        """From plain words; ``others`` do not change how it is run. Raises MeasureError for what is not there."""
        engine = find_runtime(runtime)
        memory_format = _format(engine, memory_format)
        find_dtype(dtype)
        if memory_format not in MEMORY_FORMATS:
            raise MeasureError("unknown memory format", expected=" or ".join(MEMORY_FORMATS), got=memory_format)
        for what, count in (("batch", batch), ("threads", threads)):
            if count < 1:
                raise MeasureError(f"{what} must be at least 1", got=count)
        found = find_device(device)
        if graph and found.type != "cuda":
            raise MeasureError("graph replay exists on CUDA only", got=device)
        if graph and engine.name != "eager":
            raise MeasureError("graph replay is for the eager network", got=f"runtime={engine.name}")
        return cls(device=found, batch=batch, threads=threads, dtype=dtype, memory_format=memory_format, graph=graph,
                   runtime=engine, cores=None if cores is None else tuple(cores))  # fmt: skip

    def key(self, depth: int) -> str:
        """What the quiet time of the reference of that depth depends on; cores of one processor may be of two kinds."""
        engine = [] if self.runtime.in_torch else [f"{self.runtime.name} {self.runtime.version()}"]
        pinned = [] if self.cores is None else [f"cores {' '.join(map(str, sorted(self.cores)))}"]
        words = (device_name(self.device), f"{self.threads} threads", *pinned, self.dtype, self.memory_format,
                 "graph" if self.graph else "eager", f"torch {torch.__version__}", *engine, f"depth {depth}")  # fmt: skip
        return ", ".join(words)

    def reference(self, depth: int) -> Run:
        """The reference network of that depth, ready to run.

        An engine that takes ONNX runs it too: over 8 random networks in ONNX Runtime, two processes then differed by
        1.3 % (median; beside a training process 1.8 %), and by 9.0 % (7.5 %) when paired with the reference in torch.
        What torch compiles is paired with the eager one: it calls the same kernels, and compiling forgets the last.
        """
        if self.runtime.in_torch:
            return self.prepare(reference_net(depth), REFERENCE_SHAPE, 1, find_runtime("eager"))
        return _converted_reference(self, depth)

    def prepare(self, model: Model, shape: tuple[int, ...], batch: int, runtime: Runtime) -> Run:
        """A copy of the model on the device with a fixed random input, as something to call."""
        dtype, layout = find_dtype(self.dtype), MEMORY_FORMATS[self.memory_format]
        data = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
        data = data.to(device=self.device, dtype=dtype)
        data = data.contiguous(memory_format=layout) if data.dim() == 4 else data
        try:
            net = model if isinstance(model, OnnxModel) else self._placed(model, data)
            if self.graph and isinstance(net, nn.Module):
                return _captured(net, data)
            run = runtime.prepare(net, data, self.threads)
            run()
            return run
        except MeasureError:
            raise
        except Exception as error:  # the network's own code may raise anything
            raise UnsupportedError(f"the network does not run on {self.device} in {self.dtype}: {_first_line(error)}",
                                   expected=f"a network that takes an input {(batch, *shape)}") from error  # fmt: skip

    def _placed(self, model: nn.Module, data: torch.Tensor) -> nn.Module:
        """A copy on the device that has taken this input once."""
        net = copy.deepcopy(model).eval().to(device=self.device, dtype=data.dtype)
        net.to(memory_format=MEMORY_FORMATS[self.memory_format])  # type: ignore[call-overload]
        net(data)
        return net


@lru_cache(maxsize=8)
def _converted_reference(conditions: Conditions, depth: int) -> Run:
    """Kept, because converting it takes seconds."""
    return conditions.prepare(reference_net(depth), REFERENCE_SHAPE, 1, conditions.runtime)


def _format(runtime: Runtime, asked: str | None) -> str:
    if runtime.in_torch:
        return asked or "channels_last"
    if asked not in {None, "contiguous"}:
        raise MeasureError(f"{runtime.name} lays tensors out by itself", expected="memory_format=contiguous", got=asked)
    return "contiguous"


def _captured(net: nn.Module, data: torch.Tensor) -> Run:
    """The network's kernels as one CUDA graph; what it returns is replayed into the same memory.

    Captured on the stream that warmed up: torch's own capture stream belongs to the device that first captured anything.
    """
    new_stream: Callable[[], torch.cuda.Stream] = torch.cuda.Stream
    stream = new_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries choose their kernels before the capture, on a stream of their own
        for _ in range(3):
            net(data)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        output = net(data)

    def replay(kept: object = (net, data, output)) -> None:  # the graph reads and writes their memory
        graph.replay()

    return replay


def _first_line(error: BaseException) -> str:
    """What the error says first; a line that ends in a colon is told with the next one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
