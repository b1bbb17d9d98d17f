"""The vocabulary: every operation's words, sketch and module. Importing it imports no torch."""

from nas.ops import (
    channel_attention,
    conv,
    heads,
    mobile,
    norm,
    pool,
    residual,
    separable,
    tokens,
    transformer,
    wiring,
)  # fmt: skip
from nas.ops.catalogue import OPS, OpSpec, find, op, register, resolve
from nas.ops.sketch import Shape, Sketch

__all__ = [
    "OPS", "OpSpec", "Shape", "Sketch", "channel_attention", "conv", "find", "heads", "mobile", "norm", "op", "pool",
    "register", "residual", "resolve", "separable", "tokens", "transformer", "wiring",
]  # fmt: skip
