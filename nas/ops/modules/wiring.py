"""What carries tensors around: skip connections, combines, stochastic depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nas.ops.modules.conv import FactorizedReduction, ReLUConvBN


class Projection(nn.Module):
    """A skip connection: the input itself where size and channels allow, a projection where they do not."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, project: str = "conv") -> None:
        super().__init__()
        self.project: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.project = nn.Identity()
        elif project == "conv":
            self.project = ReLUConvBN(in_channels, out_channels, 1, stride)
        else:
            self.project = FactorizedReduction(in_channels, out_channels, stride, relu=project == "relu_factorized")

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


class Zero(nn.Module):
    """Zeros of the input's size over the stride."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Add(nn.Module):
    """Sum of its inputs."""

    def forward(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


class Multiply(nn.Module):
    """Product of its inputs, element by element; an axis of length 1 is stretched."""

    def forward(self, *inputs: Tensor) -> Tensor:
        product = inputs[0]
        for x in inputs[1:]:
            product = product * x
        return product


class Concat(nn.Module):
    """Its inputs side by side along the channels (the last axis of tokens)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=2 if inputs[0].dim() == 3 else 1)


class Chunk(nn.Module):
    """One of ``parts`` equal shares of the channels (the last axis of tokens)."""

    def __init__(self, parts: int = 2, index: int = 0) -> None:
        super().__init__()
        self.parts, self.index = parts, index

    def forward(self, x: Tensor) -> Tensor:
        return x.chunk(self.parts, 2 if x.dim() == 3 else 1)[self.index]


class Narrow(nn.Module):
    """``length`` channels from ``start`` on (of the last axis of tokens); all that are left unless told."""

    def __init__(self, start: int = 0, length: int | None = None) -> None:
        super().__init__()
        self.start, self.length = start, length

    def forward(self, x: Tensor) -> Tensor:
        axis = 2 if x.dim() == 3 else 1
        return x.narrow(axis, self.start, x.shape[axis] - self.start if self.length is None else self.length)


class Scale(nn.Module):
    """A constant times the input (Inception-ResNet's residual scaling)."""

    def __init__(self, factor: float = 0.1) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


class DropPath(nn.Module):
    """Stochastic depth: in training zeroes whole samples with probability ``drop_prob`` and scales up the survivors."""

    def __init__(self, drop_prob: float = 0.0) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.drop_prob == 0.0:
            return x
        keep = 1.0 - self.drop_prob
        mask = x.new_empty((x.shape[0],) + (1,) * (x.dim() - 1)).bernoulli_(keep)
        return x * mask / keep

    def extra_repr(self) -> str:
        return f"drop_prob={self.drop_prob:g}"


class ChannelShuffle(nn.Module):
    """Interleaves the channels of the groups (ShuffleNet)."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        return x.view(n, self.groups, channels // self.groups, height, width).transpose(1, 2).flatten(1, 2)


class UNetUp(nn.Module):
    """Doubles the first input's size and puts it beside the second, an earlier, larger map (Ronneberger et al. 2015).

    ``transposed`` halves the channels by a transposed convolution; ``bilinear`` keeps them. Where a size was odd the
    enlarged map is padded to the earlier one's.
    """

    def __init__(self, in_channels: int, mode: str = "transposed") -> None:
        super().__init__()
        self.up: nn.Module
        if mode == "transposed":
            self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, 2, 2)
        else:
            self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)

    def forward(self, x: Tensor, earlier: Tensor) -> Tensor:
        x = self.up(x)
        dy, dx = earlier.shape[2] - x.shape[2], earlier.shape[3] - x.shape[3]
        x = F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
        return torch.cat([earlier, x], dim=1)
