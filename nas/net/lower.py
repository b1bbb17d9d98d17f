"""Architecture to graph: channels, strides, shapes and module names, all settled before anything is built.

What the page leaves out is inferred: an operation's ``out_channels`` is its cell's width, or its input's channels;
``num_classes`` the task's. In a cell of stride s, the first operation that reads a cell input and can stride, does.
"""

from __future__ import annotations

from typing import Any

from nas.errors import SpaceError
from nas.net.cells import lower_cell
from nas.net.graph import Graph, Size
from nas.net.scope import Scope, Unit
from nas.net.steps import make_setting, make_value
from nas.space.search_space import Architecture
from nas.space.spec import Sequential, Spec


def lower(architecture: Architecture, size: Size = Size()) -> Graph:  # noqa: B008 - frozen
    """The graph of an architecture at a size.

    Raises ShapeError (or SpaceError) with the page's file and line and the layer's path where the wiring is impossible.
    """
    spec = architecture.spec
    scaling: Any = spec.scaling
    try:
        depth: float = scaling.depth * scaling.alpha**scaling.phi * size.depth
        width: float = scaling.width * scaling.beta**scaling.phi * size.width
        shape = size.input or _resolution(spec)
    except OverflowError:
        raise SpaceError("the scaling is too large", where=spec.where or None, got=f"phi: {scaling.phi}") from None
    setting = make_setting(width, scaling.divisor, size.num_classes or spec.num_classes)
    scope = Scope(Unit(spec.cells, setting, depth, lower_cell), "network")
    image = scope.names["x"] = make_value("x", shape)
    output = scope.layers(spec.network, image, "")
    heads = [scope.layers(Sequential(layers=(head,)), output, "") for head in spec.auxiliary]
    return scope.finish("network", (("x", shape),), output, heads)


def _resolution(spec: Spec) -> tuple[int, int, int]:
    scaling: Any = spec.scaling
    height, width = (scaling.resolution,) * 2 if scaling.resolution else spec.input[1:]
    factor = scaling.gamma**scaling.phi
    return spec.input[0], round(height * factor), round(width * factor)
