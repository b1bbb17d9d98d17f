"""Wiring."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas.ops.modules.conv import FactorizedReduction, ReLUConvBN


class Projection(nn.Module):
    """A skip connection: the input itself where size and channels allow, a projection where they do not."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1, project: str = "conv") -> None:
        super().__init__()
        self.project: nn.Module
        if stride == 1 and in_channels == out_channels:
            self.project = nn.Identity()
        elif project == "factorized" and stride != 1:
            self.project = FactorizedReduction(in_channels, out_channels, stride)
        else:
            self.project = ReLUConvBN(in_channels, out_channels, 1, stride)

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


class Concat(nn.Module):
    """Its inputs side by side along the channels (the last axis of tokens)."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=2 if inputs[0].dim() == 3 else 1)
