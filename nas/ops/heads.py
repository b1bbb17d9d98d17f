"""Sketches of heads."""

from __future__ import annotations

from typing import Any

from nas.ops.catalogue import op
from nas.ops.sketch import Sketch


@op("classifier", "torch.nn:Linear", takes=(), scaled=())
def classifier(s: Sketch, *, num_classes: int, bias: bool = True) -> dict[str, Any]:
    """The last linear layer, one output a class."""
    in_features = s.channels
    s.linear(num_classes, bias)
    return {"in_features": in_features, "out_features": num_classes, "bias": bias}


@op("dropout", "torch.nn:Dropout", takes=())
def dropout(s: Sketch, *, p: float = 0.5) -> None:
    """Zeroes elements with probability p in training."""
