"""What runs a network: torch itself, its compiler, or an engine that takes ONNX. A name, and how a run is made from a module.

A runtime gets a module that is ready (evaluation mode, on its device, in its dtype) and a fixed input, and gives back
something to call: one forward pass, finished when the call returns (on CUDA: when torch's current stream is done).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import MeasureError, nearest
from nas.measure.device import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """``prepare(module, input, threads)`` makes the run; ``distribution`` is the package whose version is recorded.

    ``in_torch``: it runs torch's own tensors in any memory format. ``inline``: with one thread, it computes in the
    thread that calls it, so that this thread's CPU time tells whether it was interrupted. ``install``: what brings ``needs``.
    """

    name: str
    prepare: Callable[[Any, Tensor, int], Run]
    distribution: str = "torch"
    in_torch: bool = True
    inline: bool = True
    needs: tuple[str, ...] = ()
    install: str = ""

    @property
    def missing(self) -> list[str]:
        """The packages it imports (``needs``) that are not here."""
        return [package for package in self.needs if find_spec(package) is None]

    def version(self) -> str:
        """The engine's version, as installed here."""
        try:
            return version(self.distribution)
        except PackageNotFoundError:  # a variant of the package, such as onnxruntime-gpu
            return "unknown"


def find_runtime(name: str) -> Runtime:
    """The runtime of that name. Raises MeasureError with those there are."""
    if name not in RUNTIMES:
        raise MeasureError("unknown runtime", expected=" or ".join(RUNTIMES), got=name, hint=nearest(name, RUNTIMES))
    return RUNTIMES[name]


def _eager(net: nn.Module, data: Tensor, threads: int) -> Run:
    """The module as it is. ``threads`` is torch's setting, already made."""
    return lambda: net(data)


def _compiled(net: nn.Module, data: Tensor, threads: int) -> Run:
    """The module through torch.compile, for this input's shape alone.

    All networks of a search share one ``forward``, and after eight different ones torch.compile would quietly go back
    to eager: so it starts afresh each time, and a graph that it cannot take whole is an error.
    """
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, dynamic=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's modules warn of torch's own deprecations
        compiled(data)
    return lambda: compiled(data)


def _onnxruntime(net: nn.Module, data: Tensor, threads: int) -> Run:
    from nas.measure.onnx import CPU, CUDA, onnxruntime_run

    return onnxruntime_run(net, data, threads, CUDA if data.is_cuda else CPU)


def _openvino(net: nn.Module, data: Tensor, threads: int) -> Run:
    from nas.measure.onnx import openvino_run

    return openvino_run(net, data, threads)


def _tensorrt(net: nn.Module, data: Tensor, threads: int) -> Run:
    from nas.measure.onnx import TENSORRT, onnxruntime_run, optional

    optional("tensorrt", "pip install onnxruntime-gpu tensorrt")
    if not data.is_cuda:
        raise MeasureError("TensorRT runs on CUDA only", got=f"target={data.device}", hint="Write target=cuda.")
    return onnxruntime_run(net, data, threads, TENSORRT)


EXPORTER = ("onnx", "onnxscript")
"""Packages that make ONNX of a network, wherever it is measured then."""

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(name="eager", prepare=_eager),
        Runtime(name="compile", prepare=_compiled),
        Runtime(name="onnxruntime", prepare=_onnxruntime, distribution="onnxruntime", in_torch=False,
                needs=(*EXPORTER, "onnxruntime"), install="pip install 'nas[onnx]'"),
        Runtime(name="openvino", prepare=_openvino, distribution="openvino", in_torch=False, inline=False,
                needs=(*EXPORTER, "openvino"), install="pip install 'nas[openvino]'"),
        Runtime(name="tensorrt", prepare=_tensorrt, distribution="tensorrt", in_torch=False,
                needs=(*EXPORTER, "onnxruntime", "tensorrt"), install="pip install onnx onnxscript onnxruntime-gpu tensorrt"),
    )
}
