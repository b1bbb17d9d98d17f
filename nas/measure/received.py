"""An ONNX model that came from elsewhere: data only, or refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nas.errors import MeasureError, UnsupportedError
from nas.measure.conditions import find_dtype
from nas.measure.onnx import OnnxModel, onnx_type, optional

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
    for part in _parts(model):
        if isinstance(part, onnx.NodeProto) and part.domain not in OWN_DOMAINS:
            raise UnsupportedError("only ONNX's own operations are taken", got=f"{part.domain}.{part.op_type}")
        if isinstance(part, onnx.TensorProto) and (part.external_data or part.data_location):
            raise MeasureError("tensors in other files are not taken", expected="an ONNX model that holds its weights")
    found, expected = [_signature(value) for value in model.graph.input], [("x", list(shape), onnx_type(find_dtype(dtype)))]
    outputs = [value.name for value in model.graph.output]
    if found != expected or outputs != ["y"]:
        raise MeasureError("the ONNX model has another input or output", expected=f"{expected} and ['y'] (name, shape, type)",
                           got=f"{found} and {outputs}")  # fmt: skip
    return OnnxModel(content)


def _signature(value: Any) -> tuple[str, list[int], int]:
    kind = value.type.tensor_type
    return value.name, [size.dim_value for size in kind.shape.dim], kind.elem_type


def _parts(model: Any) -> Iterator[Any]:
    """The model and every message inside it: a node or tensor is found wherever the format lets it stand."""
    waiting = [model]
    while waiting:
        part = waiting.pop()
        yield part
        for field, value in part.ListFields():
            if field.message_type is not None:
                waiting += [value] if hasattr(value, "ListFields") else value
