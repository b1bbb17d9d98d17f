"""Sketches of normalisation and of activations."""

from __future__ import annotations

from typing import Any

from nas.errors import ShapeError
from nas.ops.catalogue import op
from nas.ops.sketch import Sketch, divides, positive


@op("batch_norm", "torch.nn:BatchNorm2d", takes=())
def batch_norm(s: Sketch, *, affine: bool = True) -> dict[str, Any]:
    """Batch normalisation of a map; without scale and shift when not affine."""
    channels, _, _ = s.map()
    if affine:
        s.norm()
    return {"num_features": channels, **({} if affine else {"affine": False})}


@op("layer_norm", "torch.nn:LayerNorm", takes=())
def layer_norm(s: Sketch, *, eps: float = 1e-6) -> dict[str, Any]:
    """Layer normalisation of the features of a vector or of every token."""
    if len(s.shape) == 3:
        raise ShapeError("layer_norm works on tokens or a vector", expected="(L, C) or (C,)", got=s.shape,
                         hint="Write `layer_norm_2d` for maps.")  # fmt: skip
    s.norm()
    return {"normalized_shape": s.channels, "eps": eps}


@op("layer_norm_2d", "nas.ops.modules.norm:LayerNorm2d")
def layer_norm_2d(s: Sketch, *, eps: float = 1e-6) -> None:
    """Layer normalisation of the channels of every pixel of a map (ConvNeXt)."""
    s.map()
    s.norm()


@op("global_response_norm", "nas.ops.modules.norm:GlobalResponseNorm")
def global_response_norm(s: Sketch) -> None:
    """Weighs the channels of a map by their norm over all pixels, as a share of their mean (ConvNeXt V2)."""
    s.map()
    s.norm()


@op("layer_scale", "nas.ops.modules.norm:LayerScale")
def layer_scale(s: Sketch, *, init: float = 1e-5, bias: bool = False) -> None:
    """A learned factor for every channel, first ``init`` (CaiT); with ``init: 1.0, bias: true`` ResMLP's affine layer."""
    s.params(s.channels * (2 if bias else 1))


@op("group_norm", "torch.nn:GroupNorm", takes=(), ordered=True)
def group_norm(s: Sketch, *, num_groups: int = 8) -> dict[str, Any]:
    """Normalisation over groups of channels of a map (Wu and He 2018)."""
    channels, _, _ = s.map()
    divides(num_groups, channels, "num_groups")
    s.norm()
    return {"num_groups": num_groups, "num_channels": channels}


@op("instance_norm", "torch.nn:InstanceNorm2d", takes=())
def instance_norm(s: Sketch) -> dict[str, Any]:
    """Normalisation of every channel of every sample by itself, with scale and shift."""
    channels, height, width = s.map()
    if height * width == 1:
        raise ShapeError("instance_norm of one pixel is always zero", expected="a map larger than 1x1", got=s.shape)
    s.norm()
    return {"num_features": channels, "affine": True}


@op("local_response_norm", "torch.nn:LocalResponseNorm", takes=(), ordered=True)
def local_response_norm(s: Sketch, *, size: int = 5, alpha: float = 1e-4, beta: float = 0.75,
                        k: float = 2.0) -> dict[str, Any]:  # fmt: skip
    """Divides by (k + alpha * the sum of squares over ``size`` neighbouring channels)^beta (AlexNet).

    ``alpha`` is the paper's; torch's own, which weighs the mean of the squares, is alpha * size.
    """
    s.map()
    positive(size=size)
    return {"size": size, "alpha": alpha * size, "beta": beta, "k": k}


def _activation(name: str, module: str, meaning: str, arguments: dict[str, Any] | None = None) -> None:
    def sketch(s: Sketch) -> dict[str, Any]:
        return arguments or {}

    sketch.__doc__ = meaning
    op(name, f"torch.nn:{module}", takes=())(sketch)


_activation("relu", "ReLU", "max(x, 0).")
_activation("relu6", "ReLU6", "min(max(x, 0), 6).")
_activation("leaky_relu", "LeakyReLU", "x, or 0.01 x below zero.")
_activation("silu", "SiLU", "x sigmoid(x), also called swish.")
_activation("gelu", "GELU", "x times the normal distribution function of x.")
_activation("hard_swish", "Hardswish", "x relu6(x + 3) / 6.")
_activation("hard_sigmoid", "Hardsigmoid", "relu6(x + 3) / 6.")
_activation("sigmoid", "Sigmoid", "1 / (1 + exp(-x)).")
_activation("tanh", "Tanh", "Hyperbolic tangent.")


@op("softmax", "torch.nn:Softmax", takes=())
def softmax(s: Sketch) -> dict[str, Any]:
    """Softmax over channels (features of tokens)."""
    return {"dim": 2 if len(s.shape) == 2 else 1}
