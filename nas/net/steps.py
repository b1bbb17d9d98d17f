"""One operation on values: what its words leave out is filled in, widths are scaled, shapes are followed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nas.errors import ShapeError, SpaceError
from nas.net.graph import Call, Node
from nas.ops import OpSpec, Shape, Sketch, find
from nas.ops.catalogue import from_wiring
from nas.ops.kinds import check_words
from nas.space.spec import Kwargs


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor on its way: the node it comes from, its shape, the stride its reader owes, whether it is nothing.

    ``layer`` is the layer whose output it is: that layer is read when the value is.
    """

    name: str
    shape: Shape
    due: int
    zero: bool
    layer: str


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What an operation's words are completed with: width multiplier and divisor, classes, and the cell's width."""

    width: float
    divisor: int
    num_classes: int
    channels: int | None


@lru_cache(maxsize=200_000)
def make_value(name: str, shape: Shape, due: int = 1, zero: bool = False, layer: str = "") -> Value:
    """The value of these words. Equal ones are one object, which makes them quick keys for what is remembered."""
    return Value(name, shape, due, zero, layer)


@lru_cache(maxsize=10_000)
def make_setting(width: float, divisor: int, num_classes: int, channels: int | None = None) -> Setting:
    """The setting of these words; equal ones are one object."""
    return Setting(width, divisor, num_classes, channels)


def scale_channels(channels: int, width: float, divisor: int) -> int:
    """``channels`` times ``width`` in multiples of ``divisor``, never below 90 % (MobileNetV2, EfficientNet)."""
    if width == 1.0:
        return channels
    wanted = channels * width
    rounded = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wanted else rounded


def scale_depth(times: int, depth: float) -> int:
    """``times`` times ``depth``, rounded up (EfficientNet)."""
    return times if depth == 1.0 else math.ceil(times * depth - 1e-9)


def channels_of(shape: Shape) -> int:
    """Channels of a map or vector, features of tokens."""
    return shape[1] if len(shape) == 2 else shape[0]


_ENLARGING = ("transposed_conv",)
"""Operations whose stride makes the map larger: they cannot settle what stride is owed."""


@lru_cache(maxsize=200_000)
def step(name: str, op: str, kwargs: Kwargs, inputs: tuple[Value, ...], setting: Setting) -> tuple[Node | None, Value]:
    """The node of an operation on these inputs, and its output; None and the input for an identity.

    Raises SpaceError or ShapeError when it cannot be. Results are remembered, and their nodes shared between graphs:
    a search lowers the same operations on the same shapes again and again.
    """
    spec = find(op)
    if not inputs or len(inputs) != (spec.inputs or len(inputs)):
        raise ShapeError(f"{op} takes {spec.inputs or 'at least one'} input{'s' * (spec.inputs != 1)}", got=len(inputs),
                         hint="Join them first: {op: concat, from: [...]}." if inputs else None)  # fmt: skip
    words, shape = dict(kwargs), inputs[0].shape
    check_words(spec, words)
    for word in spec.scaled:
        if words.get(word) is not None:
            words[word] = scale_channels(words[word], setting.width, setting.divisor)
    if "out_channels" in spec.required:
        words.setdefault("out_channels", setting.channels or channels_of(shape))
    if "num_classes" in spec.required:
        words.setdefault("num_classes", setting.num_classes)
    due = max(value.due for value in inputs)
    if due != 1 and "stride" in spec.defaults and "stride" not in words and op not in _ENLARGING:
        words["stride"], due = due, 1
    if op == "identity" and words.get("stride", 1) == 1 and words["out_channels"] == channels_of(shape):
        return None, inputs[0]
    call = make_call(spec, words, tuple(value.shape for value in inputs))
    zero = op == "zero" or (call.num_params == 0 and all(value.zero for value in inputs))
    return Node(name, call, tuple(value.name for value in inputs)), make_value(name, call.shape, due, zero)


def make_call(spec: OpSpec, words: dict[str, Any], shapes: tuple[Shape, ...]) -> Call:
    """The call of an operation whose words are complete. A word that says the default is left out."""
    sketch = Sketch(*shapes)
    words = {w: v for w, v in words.items() if w in spec.required or v != spec.defaults[w]}
    wiring = {word: from_wiring(word, sketch) for word in spec.takes}
    try:
        arguments = spec.sketch(sketch, **words)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        said = ", ".join(f"{word}: {value}" for word, value in words.items())
        raise SpaceError(f"{spec.name} cannot work with these words: {error}", got=said) from None
    return Call(spec.name, {**wiring, **words} if arguments is None else arguments, sketch.shape, sketch.num_params,
                sketch.macs)  # fmt: skip
