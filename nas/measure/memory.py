"""What inference needs to hold: weights, and the tensors between operations; on CUDA also what it really allocated."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn

from nas.errors import MeasureError, UnsupportedError
from nas.measure.device import find_device
from nas.net.graph import Graph, Node
from nas.ops import Shape


def weight_bytes(model: nn.Module, dtype: torch.dtype = torch.float32) -> int:
    """Bytes of parameters and buffers once the floating-point ones are in ``dtype``; a shared tensor counts once."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * (dtype.itemsize if t.is_floating_point() else t.dtype.itemsize) for t in tensors)


def activation_bytes(graph: Graph, batch: int = 1, dtype: torch.dtype = torch.float32) -> int:
    """The most bytes of tensors between operations that are needed at one time, the network's input included.

    Operations run in the graph's order, a tensor is let go after its last reader, and an operation holds its inputs and
    its output at once. An estimate: tensors inside an operation and a library's work space come on top, operating in
    place saves some, and a cell's caller keeps the cell's inputs until it is done.
    """
    outside = sum(_elements(shape) for _, shape in graph.inputs)
    return (outside + _peak(graph, {})) * batch * dtype.itemsize


def _peak(graph: Graph, known: dict[int, int]) -> int:
    """Elements that the graph needs besides its inputs, which its caller holds."""
    if id(graph) in known:
        return known[id(graph)]
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    last[graph.output] = len(graph.nodes)
    held: dict[str, int] = {}
    peak = 0
    for index, node in enumerate(graph.nodes):
        peak = max(peak, sum(held.values()) + _during(node, known))
        held[node.name] = _elements(node.shape)
        held = {name: size for name, size in held.items() if last.get(name, -1) > index}
    known[id(graph)] = peak
    return peak


def _during(node: Node, known: dict[int, int]) -> int:
    return _peak(node.target, known) if isinstance(node.target, Graph) else _elements(node.shape)


def _elements(shape: Shape) -> int:
    return math.prod(shape)


def peak_bytes(
    model: nn.Module, input_shape: tuple[int, ...], *, device: str = "cuda", batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> int:  # fmt: skip
    """Bytes that torch's allocator held at most on a CUDA device during one eager forward pass, weights and input included.

    Work space that libraries take outside torch's allocator is not seen. Raises MeasureError on other devices, which do
    not count allocations, and UnsupportedError when the network does not fit.
    """
    found = find_device(device)
    if found.type != "cuda":
        raise MeasureError("peak memory is counted on CUDA only", got=device, hint="activation_bytes estimates it anywhere.")
    torch.cuda.synchronize(found)
    before = torch.cuda.memory_allocated(found)
    try:
        with torch.inference_mode():
            net = copy.deepcopy(model).eval().to(device=found, dtype=dtype)
            data = torch.randn(batch, *input_shape).to(device=found, dtype=dtype)
            torch.cuda.reset_peak_memory_stats(found)
            net(data)
            torch.cuda.synchronize(found)
    except torch.OutOfMemoryError as error:
        raise UnsupportedError(f"the network does not run on {found}: {str(error).partition('. ')[0]}") from error
    return torch.cuda.max_memory_allocated(found) - before
