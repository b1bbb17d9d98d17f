"""The vocabulary: every operation's words, sketch and module. Importing it imports no torch."""

from nas.ops import conv, heads, mobile, pool, wiring
from nas.ops.catalogue import OPS, OpSpec, find, op, register, resolve
from nas.ops.sketch import Shape, Sketch

__all__ = ["OPS", "OpSpec", "Shape", "Sketch", "conv", "find", "heads", "mobile", "op", "pool", "register", "resolve", "wiring"]
