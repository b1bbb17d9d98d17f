"""ONNX, torch.export and safetensors files of a network, each read back and compared before it is kept."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import ExportError
from nas.net.build import make_module
from nas.net.graph import Call, Graph
from nas.ops import Shape, find

TOLERANCE = 1e-4
"""Largest difference of outputs, relative to the largest output (float32)."""

_MAX_INLINE = 2**31 - 2**24
"""Bytes of weights up to which an ONNX file holds them itself: its format ends at 2 GiB."""


def write_onnx(graph: Graph, network: nn.Module, example: Tensor, path: Path) -> str:
    """Write the network as ONNX with a dynamic batch; the comparison with ONNX Runtime in words.

    Raises ExportError naming the operation that the exporter refuses, or when the outputs differ.
    """
    runtime = _need_onnx()
    if sum(p.numel() * p.element_size() for p in network.parameters()) > _MAX_INLINE:
        raise ExportError("the network is too large for one ONNX file", expected="less than 2 GiB of weights")

    _attempt("ONNX", graph, network, example, path, _onnx)
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return _compare("ONNX Runtime", network, example, lambda x: torch.from_numpy(session.run(None, {name: x.numpy()})[0]))


def write_pt2(graph: Graph, network: nn.Module, example: Tensor, path: Path) -> str:
    """Write the network as a torch.export program with a dynamic batch; the comparison after reading it back, in words."""
    _attempt("torch.export", graph, network, example, path, _program)
    with quietly():
        program = torch.export.load(path).module()
    return _compare("torch.export", network, example, program)


def write_safetensors(network: nn.Module, path: Path) -> str:
    """Write the weights as safetensors; they are read back and compared."""
    safetensors = _need("safetensors.torch", "safetensors")
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    safetensors.save_file(state, path)
    read = safetensors.load_file(path)
    if read.keys() != state.keys() or any(not torch.equal(read[name], value) for name, value in state.items()):
        raise ExportError("the safetensors file does not hold the weights that were written", where=str(path))
    return f"{len(state)} tensors, equal when read back"


def _need(module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ExportError(f"{module.partition('.')[0]} is not installed", hint=f"pip install 'nas[{extra}]'") from None


def _need_onnx() -> Any:
    """ONNX Runtime, when the exporter's own needs are there too. Raises ExportError."""
    for package in ("onnx", "onnxscript"):
        _need(package, "onnx")
    return _need("onnxruntime", "onnx")


def check_installed(formats: Iterable[str]) -> None:
    """Raises ExportError where the packages that write one of the formats are missing: before anything is trained."""
    for name in formats:
        if name == "onnx":
            _need_onnx()
        elif name == "safetensors":
            _need("safetensors.torch", "safetensors")


Write = Callable[[nn.Module, tuple[Tensor, ...], Path], None]


def _onnx(module: nn.Module, inputs: tuple[Tensor, ...], to: Path) -> None:
    sizes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    torch.onnx.export(module, inputs, to, dynamo=True, external_data=False, dynamic_shapes=sizes, verbose=False,
                      input_names=["images"] if len(inputs) == 1 else None)  # fmt: skip


def _program(module: nn.Module, inputs: tuple[Tensor, ...], to: Path) -> None:
    sizes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs)
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=sizes), to)


WRITERS: Mapping[str, Write] = {"onnx": _onnx, "pt2": _program}
"""The formats that may lack an operation, and what writes them."""


def inexpressible(graphs: Iterable[Graph], name: str) -> list[str]:
    """The operations of these networks that a format of :data:`WRITERS` cannot express. Raises ExportError where the packages
    that write it are not installed."""
    if name == "onnx":
        _need_onnx()
    with TemporaryDirectory() as folder:
        return list(_refused(graphs, Path(folder, "network"), WRITERS[name]))


def _attempt(what: str, graph: Graph, network: nn.Module, example: Tensor, path: Path, write: Write) -> None:
    """Write the network. Raises ExportError naming the operation that cannot be, found by trying each by itself."""
    try:
        with quietly():
            write(network, (example,), path)
    except Exception as error:  # whatever an exporter raises, the user is told which operation it was
        path.unlink(missing_ok=True)
        names = ", ".join(_refused([graph], path, write)) or "a combination of operations"
        reason = str(error).strip().split("\n")[0][:200]
        raise ExportError(f"{what} cannot express {names}", got=f"{type(error).__name__}: {reason}") from None


def _refused(graphs: Iterable[Graph], path: Path, write: Write) -> Iterator[str]:
    """The operations of networks that cannot be written by themselves, each tried on the shapes that it is met with first."""
    trial = path.with_name(path.name + ".trial")
    tried: set[str] = set()
    for call, shapes in chain.from_iterable(map(_calls, graphs)):
        if call.op in tried or find(call.op).inputs is None:  # joins are written as expressions
            continue
        tried.add(call.op)
        try:
            with quietly():
                write(make_module(call).eval(), tuple(torch.zeros(2, *shape) for shape in shapes), trial)
        except Exception:  # as above: any refusal counts
            yield call.op
        trial.unlink(missing_ok=True)


def _calls(graph: Graph) -> Iterator[tuple[Call, tuple[Shape, ...]]]:
    shapes = graph.shapes()
    for node in graph.nodes:
        if isinstance(node.target, Graph):
            yield from _calls(node.target)
        else:
            yield node.target, tuple(shapes[name] for name in node.inputs)


def _compare(what: str, network: nn.Module, example: Tensor, run: Callable[[Tensor], Tensor]) -> str:
    """The largest difference from the network over several batch sizes. Raises ExportError above the tolerance."""
    worst = 0.0
    with torch.inference_mode():
        for batch in (example, example[:1], torch.cat([example, example[:1] * 0.5])):
            expected, got = network(batch), run(batch)
            scale = float(expected.abs().max()) or 1.0
            same = expected.shape == got.shape
            worst = max(worst, float((expected - got).abs().max()) / scale if same else float("inf"))
    if not worst <= TOLERANCE:
        raise ExportError(f"the outputs of {what} differ from torch's", expected=f"at most {TOLERANCE:g}", got=f"{worst:.2g}")
    return f"differs from torch by {worst:.1g} at most (allowed {TOLERANCE:g}), batches of 1, 2 and 3"


@contextmanager
def quietly() -> Iterator[None]:
    """Exporters' progress and warnings off the user's screen."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
