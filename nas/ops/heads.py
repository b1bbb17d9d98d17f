"""Sketches of heads."""

from __future__ import annotations

import math
from typing import Any

from nas.ops.catalogue import op
from nas.ops.sketch import ACTIVATIONS, Sketch, one_of, share

MODULES = "nas.ops.modules.heads:"


@op("classifier", "torch.nn:Linear", takes=(), scaled=())
def classifier(s: Sketch, *, num_classes: int, bias: bool = True) -> dict[str, Any]:
    """The last linear layer, one output a class."""
    in_features = s.channels
    s.linear(num_classes, bias)
    return {"in_features": in_features, "out_features": num_classes, "bias": bias}


@op("rbf_classifier", MODULES + "RBFClassifier", scaled=())
def rbf_classifier(s: Sketch, *, num_classes: int) -> None:
    """Minus the squared distance to a fixed code of -1 and 1 for every class: nothing is learned (LeNet-5, 1998)."""
    products = s.branch().linear(num_classes, bias=False)
    s.macs, s.shape = s.macs + products.macs, products.shape


@op("linear", "torch.nn:Linear", takes=(), scaled=("out_features",))
def linear(s: Sketch, *, out_features: int, bias: bool = True) -> dict[str, Any]:
    """A linear layer over the features of a vector or of every token."""
    in_features = s.channels
    s.linear(out_features, bias)
    return {"in_features": in_features, "out_features": out_features, "bias": bias}


@op("dropout", "torch.nn:Dropout", takes=())
def dropout(s: Sketch, *, p: float = 0.5) -> dict[str, Any]:
    """Zeroes elements with probability p in training."""
    share("p", p)
    return {"p": p}


@op("mlp_head", MODULES + "MLPHead", takes=("in_channels", "input_size"), scaled=("hidden_channels",))
def mlp_head(s: Sketch, *, num_classes: int, hidden_channels: int = 4096, depth: int = 2, dropout: float = 0.5,
             activation: str = "relu") -> None:  # fmt: skip
    """Flattens a map; ``depth`` hidden layers with activation and dropout; a linear layer (AlexNet, VGG)."""
    one_of("activation", activation, ACTIVATIONS)
    share("dropout", dropout)
    s.shape = (math.prod(s.map()),)
    for _ in range(depth):
        s.linear(hidden_channels)
    s.linear(num_classes)


@op("aux_classifier", MODULES + "AuxiliaryClassifier", takes=("in_channels", "input_size"), scaled=())
def aux_classifier(s: Sketch, *, num_classes: int, hidden_channels: int = 128, features: int = 768,
                   pool_stride: int = 3, last_norm: bool = True) -> None:  # fmt: skip
    """A second classifier on an inner map, for training: ReLU, 5x5 average pooling, 1x1, one convolution of the map.

    NASNet and DARTS; DARTS on ImageNet says ``pool_stride: 2, last_norm: false``; AmoebaNet has 51 and 307 channels.
    """
    s.pool(5, pool_stride, padding=0).conv(hidden_channels).norm()
    _, height, width = s.map()
    s.conv(features, (height, width), padding=0)
    if last_norm:
        s.norm()
    s.shape = (features,)
    s.linear(num_classes)
