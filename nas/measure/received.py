"""An ONNX model that came from elsewhere: data only, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nas.errors import MeasureError, UnsupportedError
from nas.measure.onnx import ONNX_TYPES, OnnxModel, optional

OWN_DOMAINS = frozenset({"", "ai.onnx"})


def received_onnx(content: bytes, shape: tuple[int, ...], dtype: str) -> OnnxModel:
    """The model, with one input ``x`` of this shape (the batch included) and type, and one output ``y``.

    Raises MeasureError for what is no such model, and for anything that could make an engine read a file or load a
    library: tensors in other files, and operations that are not ONNX's own.
    """
    onnx = optional("onnx", "pip install 'nas[onnx]'")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's errors have no common base
        raise MeasureError(f"this is not an ONNX model: {(str(error).splitlines() or [''])[0]}") from None
    for graph in _graphs(model):
        for node in graph.node:
            if node.domain not in OWN_DOMAINS:
                raise UnsupportedError("only ONNX's own operations are taken", got=f"{node.domain}.{node.op_type}")
        if any(tensor.external_data or tensor.data_location for tensor in _tensors(graph)):
            raise MeasureError("tensors in other files are not taken", expected="an ONNX model that holds its weights")
    kind = ONNX_TYPES.get(getattr(torch, dtype, torch.float32))
    found, expected = [_signature(value) for value in model.graph.input], [("x", list(shape), kind)]
    outputs = [value.name for value in model.graph.output]
    if found != expected or outputs != ["y"]:
        raise MeasureError("the ONNX model has another input or output", expected=f"{expected} and ['y'] (name, shape, type)",
                           got=f"{found} and {outputs}")  # fmt: skip
    return OnnxModel(content)


def _signature(value: Any) -> tuple[str, list[int], int]:
    kind = value.type.tensor_type
    return value.name, [size.dim_value for size in kind.shape.dim], kind.elem_type


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, the functions, and the graphs inside their nodes (branches and loops)."""
    waiting = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        waiting += [inner for node in graph.node for value in node.attribute for inner in (value.g, *value.graphs) if inner.node]
        yield graph


def _tensors(graph: Any) -> Iterator[Any]:
    sparse = list(getattr(graph, "sparse_initializer", ()))
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for value in node.attribute:
            yield from (value.t, *value.tensors)
            sparse += [value.sparse_tensor, *value.sparse_tensors]
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)
