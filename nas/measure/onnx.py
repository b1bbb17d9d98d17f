"""Engines that take ONNX: ONNX Runtime, TensorRT through it, and OpenVINO. All are optional packages."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from nas.errors import MeasureError, UnsupportedError
from nas.measure.device import Run, flushing_kept

ONNX_TYPES = {torch.float32: 1, torch.float16: 10}
"""ONNX's numbers (TensorProto.DataType) of the types that every engine here computes in."""

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_INSTALL = {CUDA: "pip install onnxruntime-gpu", TENSORRT: "pip install onnxruntime-gpu tensorrt"}
_BEHIND = {TENSORRT: [CUDA]}
"""What runs the operations that a provider does not take, as in deployment; never the CPU."""


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A network as a file's content: one input and one output, the batch's size fixed or not."""

    content: bytes = field(repr=False)


def to_onnx(net: nn.Module, data: Tensor) -> bytes:
    """The module as an ONNX model with one input ``x`` of this fixed shape and one output ``y``.

    Raises MeasureError for a type that engines do not take and when the exporter is not installed, UnsupportedError when it
    cannot take the module.
    """
    onnx_type(data.dtype)
    for package in ("onnx", "onnxscript"):
        optional(package, "pip install 'nas[onnx]'")
    try:
        with _silent(), torch.inference_mode(False), torch.no_grad():
            example = torch.zeros_like(data, memory_format=torch.contiguous_format)
            program = torch.onnx.export(net, (example,), input_names=["x"], output_names=["y"], dynamo=True, verbose=False)
    except Exception as error:  # the exporter raises many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UnsupportedError(f"torch cannot export the network to ONNX: {reason}",
                               hint="Measure it with runtime=eager.") from error  # fmt: skip
    if program is None:
        raise UnsupportedError("torch did not export the network to ONNX", hint="Measure it with runtime=eager.")
    content: bytes = program.model_proto.SerializeToString()
    return content


def onnxruntime_run(net: nn.Module | OnnxModel, data: Tensor, threads: int, provider: str) -> Run:
    """A run by ONNX Runtime on one of its execution providers; the input and the output stay where they are."""
    ort = optional("onnxruntime", "pip install 'nas[onnx]'")
    if provider not in ort.get_available_providers():
        raise MeasureError(f"ONNX Runtime has no {provider} here", expected=" or ".join(ort.get_available_providers()),
                           hint=f"Install it: {_INSTALL[provider]}")  # fmt: skip
    kind = onnx_type(data.dtype)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    place, index, content = data.device.type, data.device.index or 0, _content(net, data)
    providers: list[tuple[str, dict[str, int]]] = [(provider, {})]
    if provider != CPU:
        providers = [(name, {"device_id": index}) for name in (provider, *_BEHIND.get(provider, ()))]
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        for name, size in _free_sizes(content, data.shape):
            options.add_free_dimension_override_by_name(name, size)
    try:
        with flushing_kept():  # the first session of a process sets the calling thread as well
            session = ort.InferenceSession(content, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's errors have no common base
        raise UnsupportedError(f"ONNX Runtime cannot run the network by its {provider}: {str(error).splitlines()[0]}") from error
    if (found := session.get_providers()[0]) != provider:  # one whose library does not load is left out with a log's line
        raise MeasureError(f"ONNX Runtime cannot start its {provider} here", got=found,
                           hint="Its versions of CUDA, cuDNN and TensorRT must be installed.")  # fmt: skip
    binding, data = session.io_binding(), data.contiguous()
    (given,), (result,) = session.get_inputs(), session.get_outputs()
    binding.bind_input(given.name, place, index, kind, tuple(data.shape), data.data_ptr())
    binding.bind_output(result.name, place, index)

    def run(kept: object = data) -> object:  # the binding reads its memory
        session.run_with_iobinding(binding)
        return binding

    return run


def _free_sizes(content: bytes, shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """The sizes of the input that the model leaves open, by their names: computing shapes from them is work for the CPU."""
    model = optional("onnx", "pip install 'nas[onnx]'").load_model_from_string(content)
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    return [(size.dim_param, here) for size, here in zip(sizes, shape, strict=True) if size.dim_param]


def openvino_run(net: nn.Module | OnnxModel, data: Tensor, threads: int) -> Run:
    """A run by OpenVINO on the CPU, one request at a time (its latency mode)."""
    openvino = optional("openvino", "pip install 'nas[openvino]'")
    if data.device.type != "cpu":
        raise MeasureError("OpenVINO is measured on the CPU only", got=f"target={data.device}", hint="Write target=cpu.")
    onnx_type(data.dtype)
    precision = "f16" if data.dtype is torch.float16 else "f32"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
                "ENABLE_CPU_PINNING": False, "INFERENCE_PRECISION_HINT": precision}  # fmt: skip
    try:
        core = openvino.Core()
        request = core.compile_model(core.read_model(io.BytesIO(_content(net, data))), "CPU", settings).create_infer_request()
        request.set_input_tensor(openvino.Tensor(data.contiguous().numpy(), shared_memory=True))
    except RuntimeError as error:
        raise UnsupportedError(f"OpenVINO cannot run the network: {str(error).splitlines()[0]}") from error

    def run() -> object:
        request.infer()
        return request

    return run


def _content(net: nn.Module | OnnxModel, data: Tensor) -> bytes:
    return net.content if isinstance(net, OnnxModel) else to_onnx(net, data)


def optional(package: str, install: str) -> Any:
    """A package that is not part of a plain installation. Raises MeasureError with what to type when it is missing."""
    try:
        return import_module(package)
    except ImportError:
        raise MeasureError(f"this needs the package {package}, which is not installed", hint=f"Install it: {install}") from None


def onnx_type(dtype: torch.dtype) -> int:
    """ONNX's number of the type. Raises MeasureError for one that not every engine computes in."""
    if dtype not in ONNX_TYPES:
        word = str(dtype).removeprefix("torch.")
        raise MeasureError("engines that take ONNX are measured in float32 or float16", got=f"dtype={word}")
    return ONNX_TYPES[dtype]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter tells its progress and its deprecations of itself; a measurement is not the place for them."""
    import warnings

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
