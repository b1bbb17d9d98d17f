"""A lowered network as numbers that a latency predictor can learn from, whatever space it comes from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.net.graph import Graph


def features_of(graph: Graph) -> dict[str, float]:
    """The network's size by name: logarithms (``log1p``) of sums, and counts.

    ``macs``, ``params`` and ``elements`` (of the operations' outputs, for one sample) over the whole network, over every
    kind of operation (``sep_conv.macs``) and over every resolution (``1/4.macs``: where maps are a quarter of the input's
    height); ``ops``, the number of operations; ``depth``, the longest chain of them. Resolutions took the error after 100
    measurements of the once-for-all tables from 4.8 % to 4.3 % (mean of 12 settings); sizes of kernels did not help.
    """
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    height = graph.inputs[0][1][1] if len(graph.inputs[0][1]) == 3 else 0
    for _, call in graph.calls():
        scale = [f"1/{2 ** round(math.log2(height / call.shape[1]))}."] if height and len(call.shape) == 3 else []
        for kind in ("", f"{call.op}.", *scale):
            for index, value in enumerate((call.macs, call.num_params, math.prod(call.shape), 1)):
                sums[kind][index] += value
    features = {"depth": float(depth_of(graph))}
    for kind, (macs, params, elements, ops) in sums.items():
        features |= {f"{kind}macs": math.log1p(macs), f"{kind}params": math.log1p(params),
                     f"{kind}elements": math.log1p(elements), f"{kind}ops": float(ops)}  # fmt: skip
    return features


def depth_of(graph: Graph) -> int:
    """Operations on the longest way from an input to the output."""
    return _depths(graph, {name: 0 for name, _ in graph.inputs})


def _depths(graph: Graph, depths: dict[str, int]) -> int:
    for node in graph.nodes:
        sources = [depths[name] for name in node.inputs]
        if isinstance(node.target, Graph):
            names = [name for name, _ in node.target.inputs]
            depths[node.name] = _depths(node.target, dict(zip(names, sources, strict=True)))
        else:
            depths[node.name] = max(sources, default=0) + 1
    return depths[graph.output]


def as_table(
    rows: Sequence[Mapping[str, float]], names: Sequence[str] | None = None
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Features of several networks as a table (networks, features) and its columns' names; what a network lacks is 0.

    ``names`` keeps the columns of an earlier table, so that a fitted predictor can be asked about new networks.
    """
    columns = tuple(names if names is not None else sorted({name for row in rows for name in row}))
    table = np.array([[row.get(name, 0.0) for name in columns] for row in rows], dtype=np.float64)
    return table.reshape(len(rows), len(columns)), columns
